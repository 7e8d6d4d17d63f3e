"""100,000 made-up provider bodies, answers, schemas and policies: only documented exceptions. Prints what was found as JSON.

CASCADE_FUZZ sets how many.
"""

import json
import os
import sys
from time import perf_counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings

from tests.fuzz.targets import TARGETS, Bench, timed

TOTAL = int(os.environ.get("CASCADE_FUZZ", "100000"))


def fuzz(bench: Bench, target: str, examples: int) -> dict[str, Any]:
    """Tries so many examples of one target; a failure is made small and told."""
    strategy, check = TARGETS[target]
    tried, slowest = 0, 0.0

    # Not reused or explained: each example shall be a new one.
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def one(example: Any) -> None:
        nonlocal tried, slowest
        tried += 1
        slowest = max(slowest, timed(check, bench, example))

    start = perf_counter()
    failure = ""
    try:
        one()
    except BaseException as error:  # a group, where there are several
        if isinstance(error, KeyboardInterrupt):
            raise
        notes = "\n".join(getattr(error, "__notes__", []))
        failure = f"{type(error).__name__}: {error}\n{notes}"[:4000]
    return {"tried": tried, "seconds": round(perf_counter() - start, 1), "slowest_s": round(slowest, 3), "found": failure}


def main() -> int:
    """All targets in turn."""
    bench = Bench()
    results = {target: fuzz(bench, target, TOTAL // len(TARGETS)) for target in TARGETS}
    bench.close()
    tried = sum(r["tried"] for r in results.values())
    ok = tried >= TOTAL and not any(r["found"] for r in results.values())
    print(json.dumps({"fuzz": {"tried": tried, "targets": results, "ok": ok}}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
