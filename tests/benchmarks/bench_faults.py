"""The whole fault matrix with many runs a cell: answers, deadlines and accounts; prints JSON. ``--n`` sets the runs a cell.

The accounts are taken from the journal: what it says of every request is held against the server's ledger.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from cascade import Cascade
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from tests.faults import matrix
from tests.faults.accounts import Ended, audit, journalled
from tests.faults.matrix import CELLS
from tests.faults.process import FaultServer

TIGHT_S = 0.2


async def play(server: FaultServer, journal: Path, n: int) -> tuple[list[Ended], list[Ended]]:
    """``n`` runs of each cell, then one more with a deadline that the slow faults cannot meet."""
    runs = n * len(CELLS)
    async with Cascade(matrix.policies(server, CELLS, journal)) as cascade:
        easy = await matrix.run(cascade, CELLS, range(runs))
        return easy, await matrix.run(cascade, CELLS, range(runs, runs + len(CELLS)), deadline_s=TIGHT_S)


def main() -> int:
    """Runs it and says how far it is from the targets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=30)
    n = parser.parse_args().n
    with FaultServer() as server, tempfile.TemporaryDirectory() as folder:
        server.plan(matrix.plans(CELLS))
        path = Path(folder) / "journal.db"
        began = perf_counter()
        easy, tight = asyncio.run(play(server, path, n))
        seconds = perf_counter() - began
        store = open_store(f"sqlite:///{path}")
        logs = journalled(store.read(Filter()))
        store.close()
        served = server.ledger().entries
    first = tight[0].number
    findings = audit(easy, [s for s in served if s.run < first], logs)
    hurried = audit(tight, [s for s in served if s.run >= first], logs)
    unanswered = {f"{e.case}: {problem}" for e in tight if (problem := e.problem())}  # the deadline may well allow none
    wrong = [*findings.wrong, *(w for w in hurried.wrong if w not in unanswered)]
    late_s = max(findings.worst_late_s, hurried.worst_late_s)
    cents = findings.cents_apart + hurried.cents_apart
    result = {
        "cells": len(CELLS),
        "runs": findings.runs,
        "answered_share": findings.answered / findings.runs,
        "worst_overrun_ms": round(max(0.0, 1000 * late_s), 1),
        "cents_apart": float(cents),
        "tight_runs": hurried.runs,
        "tight_runs_ended_by_deadline": sum(e.late_s > -0.01 for e in tight),
        "requests": findings.requests,
        "failed_requests": findings.faults,
        "unknown_costs": findings.unknown,
        "unknown_costs_billed_cents": round(100 * float(findings.lost_usd), 6),
        "known_cents": round(100 * float(findings.known_usd), 6),
        "wrong": len(wrong),
        "seconds": round(seconds, 1),
        "targets": {"answered_share": 1.0, "worst_overrun_ms": 100.0, "cents_apart": 0.0, "wrong": 0},
    }
    print(json.dumps({"faults": result}))
    for problem in wrong[:20]:
        print(problem, file=sys.stderr)
    return 0 if findings.answered == findings.runs and late_s < 0.1 and cents == 0 and not wrong else 1


if __name__ == "__main__":
    sys.exit(main())
