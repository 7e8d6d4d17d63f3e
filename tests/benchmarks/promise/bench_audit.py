"""Does an audit find what is planted in generated journals, and leave clean ones alone? Prints one line of JSON.

Ten faults, each in a journal of its own: a worse cheap model, a task that never pays, a budget that starves all, a key
that starves, escalations that change nothing, a provider that fails, a price that doubled, a tier that became slow, unknown
costs, a broken judge. Beside them clean journals. Fails where fewer than nine of ten faults are found in any round, or more
than one finding is made in twenty clean journals.
"""

import argparse
import contextlib
import io
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.evals.audit import test_audit as journals

FAULTS: dict[str, tuple[Callable[[Path, int], dict[str, Any]], str]] = {
    "worse model": (lambda folder, seed: journals.audit_of(folder, seed, loss=0.3)[1], "accept less at cheap"),
    "task never pays": (
        lambda folder, seed: journals.audit_of(folder, seed, never_pays="code")[1],
        "start task code at premium",
    ),
    "budget starves": (
        lambda folder, seed: journals.audit_of(folder, seed, stopped=0.2)[1],
        "default: give it a larger budget",
    ),
    "useless escalations": (lambda folder, seed: journals.audit_of(folder, seed, useless=0.9)[1], "retune its thresholds"),
    **{
        name: (lambda folder, seed, plant=plant: journals.with_period_before(folder, seed, plant), words)
        for name, plant, words in (
            ("key starves", journals.starving, "key team-b: give it a larger budget"),
            ("provider fails", journals.failing, "give its models fallbacks, providers fail"),
            ("price doubled", journals.dearer, "check its model's price"),
            ("became slow", journals.slower, "it became slow"),
            ("costs unknown", journals.unpriced, "costs are unknown"),
            ("broken judge", journals.broken_judge, "escalations rose"),
        )
    },
}
LEAST_HITS, MOST_FALSE = 9, 1


def audited(one: Callable[[Path, int], dict[str, Any]], seed: int) -> str:
    """The titles of an audit's changes."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        return journals.titles(one(Path(folder), seed))


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="journals with each fault (default 3)")
    parser.add_argument("--clean", type=int, default=20, help="journals without one (default 20)")
    args = parser.parse_args(argv)
    begin = perf_counter()
    hits = {name: [words in audited(one, seed) for seed in range(args.rounds)] for name, (one, words) in FAULTS.items()}
    clean = [
        audited(lambda folder, seed: journals.with_period_before(folder, seed), 100 + seed) for seed in range(args.clean)
    ]
    by_round = [sum(row[i] for row in hits.values()) for i in range(args.rounds)]
    ok = {"planted": min(by_round) >= LEAST_HITS, "clean": sum(map(bool, clean)) <= MOST_FALSE * args.clean / 20}
    results = {
        "of_each": {name: sum(row) for name, row in hits.items()},
        "by_round": by_round,
        "faults": len(FAULTS),
        "clean": args.clean,
        "false_findings": [titles for titles in clean if titles],
    }
    print(json.dumps({"audit": {**results, "seconds": round(perf_counter() - begin, 1), "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
