"""A hundred real kills of a service with `full`: every run that it returned is in the journal once, the file is whole."""

import json
import sys
import tempfile
from time import perf_counter

from tests.cascade.journal.test_crash import crash_often

KILLS = 100


def main() -> int:
    """Kills, checks, and tells how many runs were returned; what is wrong is an AssertionError."""
    start = perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        returned = crash_often(f"sqlite:///{folder}/journal.db", KILLS, seed=1)
    took = round(perf_counter() - start, 1)
    print(
        json.dumps({"journal_crash": {"kills": KILLS, "runs_returned": returned, "lost": 0, "doubled": 0, "seconds": took}})
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
