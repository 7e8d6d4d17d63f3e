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
from cascade.journal.opening import open_store
from cascade.journal.store import Filter
from tests.faults import matrix
from tests.faults.accounts import Ended, audit, journalled
from tests.faults.matrix import CELLS
from tests.faults.process import FaultServer


async def play(server: FaultServer, journal: Path, n: int) -> list[Ended]:
    """``n`` runs of each cell."""
    async with Cascade(matrix.policies(server, CELLS, journal)) as cascade:
        return await matrix.run(cascade, CELLS, n)


def main() -> int:
    """Runs it and says how far it is from the targets."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=30)
    n = parser.parse_args().n
    with FaultServer() as server, tempfile.TemporaryDirectory() as folder:
        server.plan(matrix.plans(CELLS))
        path = Path(folder) / "journal.db"
        began = perf_counter()
        ended = asyncio.run(play(server, path, n))
        seconds = perf_counter() - began
        store = open_store(f"sqlite:///{path}")
        kept = journalled(store.read(Filter()))
        store.close()
        found = audit(ended, server.ledger().entries, kept)
    result = {
        "cells": len(CELLS),
        "runs": found.runs,
        "answered_share": found.answered / found.runs,
        "worst_overrun_ms": round(max(0.0, 1000 * found.worst_late_s), 1),
        "cents_apart": float(found.cents_apart),
        "requests": found.requests,
        "failed_requests": found.faults,
        "unknown_costs": found.unknown,
        "unknown_costs_billed_cents": round(100 * float(found.lost_usd), 6),
        "known_cents": round(100 * float(found.known_usd), 6),
        "wrong": len(found.wrong),
        "seconds": round(seconds, 1),
        "targets": {"answered_share": 1.0, "worst_overrun_ms": 100.0, "cents_apart": 0.0, "wrong": 0},
    }
    print(json.dumps({"faults": result}))
    for problem in found.wrong[:20]:
        print(problem, file=sys.stderr)
    kept_promises = found.answered == found.runs and found.worst_late_s < 0.1 and found.cents_apart == 0
    return 0 if kept_promises and not found.wrong else 1


if __name__ == "__main__":
    sys.exit(main())
