"""Are worse canaries stopped, and others let through? Is a changed judge told from a changed system?

Simulations; prints one line of JSON, fails where a target is missed.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from math import sqrt
from statistics import median
from time import perf_counter
from typing import Any

from cascade.journal.anchors import ALPHA, IN_ALARM
from cascade.promise.anchors import ROUNDS, AnchorTracker
from cascade.promise.canary import CanaryComparison, CanaryVerdict
from cascade.promise.states import Promise, PromiseState, PromiseTracker

ANCHORS = 200
NIGHTLY = 20
"""Anchors graded after every hundred labels."""


def loss(rng: random.Random, worse: float, better: float) -> float:
    """1 where only premium is right, -1 where only the cascade is, else 0."""
    draw = rng.random()
    return 1.0 if draw < worse else -1.0 if draw < worse + better else 0.0


def canary(
    seed: int, candidate: tuple[float, float], present: tuple[float, float], share: float, labels: int
) -> dict[CanaryVerdict, int]:
    """The label at which each verdict first came, for one simulated rollout."""
    rng, comparison = random.Random(seed), CanaryComparison(share=share, max_worse=0.02)
    first: dict[CanaryVerdict, int] = {}
    for i in range(1, labels + 1):
        chosen = rng.random() < share
        verdict = comparison.add(loss(rng, *(candidate if chosen else present)), candidate=chosen)
        first.setdefault(verdict, i)
        if verdict is CanaryVerdict.WORSE:
            break
    return first


def canaries(draws: int, labels: int) -> dict[str, Any]:
    """Shares of rollouts with each verdict, and the median of the labels that it took."""
    worlds = {
        "equal": ((0.06, 0.04), (0.06, 0.04)),
        "equal, few losses": ((0.02, 0.0), (0.02, 0.0)),
        "worse by the limit": ((0.08, 0.04), (0.06, 0.04)),
        "8 points worse": ((0.14, 0.04), (0.06, 0.04)),
        "24 points worse": ((0.30, 0.04), (0.06, 0.04)),
    }
    out: dict[str, Any] = {}
    for name, (candidate, present) in worlds.items():
        for share in (0.1, 0.5):
            runs = [canary(seed, candidate, present, share, labels) for seed in range(draws)]
            worse = [run[CanaryVerdict.WORSE] for run in runs if CanaryVerdict.WORSE in run]
            out[f"{name}, share {share}"] = {
                "worse": len(worse) / draws,
                "no_worse": sum(CanaryVerdict.NO_WORSE in run for run in runs) / draws,
                "median_labels": median(worse) if worse else None,
            }
    return out


def judged(rng: random.Random, i: int, shift: float) -> float:
    """The judge's loss of an anchor: wrong for good on some, at random on 2 %, and with more loss after a change."""
    value = float(i % 3 == 0)
    if i % 13 == 0:
        value = 1.0 - value
    if rng.random() < 0.02:
        value = 1.0 - value
    return 1.0 if value == 0.0 and rng.random() < 1.5 * shift else value


def told_apart(seed: int) -> bool | None:
    """Whether what is said at the alarm is right: the judge changed, or the system; None: the alarm came before the change.

    The measured loss rises from 0.01 by 4 to 8 points at a random time, in half of the simulations by the judge alone.
    """
    rng, by_judge = random.Random(seed), seed % 2 == 1
    promise, anchors = PromiseTracker(Promise(max_loss=0.02)), AnchorTracker()
    rise, change = rng.uniform(0.04, 0.08), rng.randrange(2_000)

    def grade(i: int, shift: float) -> None:
        anchors.add(str(i), judged(rng, i, shift), float(i % 3 == 0))

    for i in range(ANCHORS * ROUNDS):
        grade(i % ANCHORS, 0.0)
    for label in range(20_000):
        shift = rise if label >= change else 0.0
        promise.add(loss(rng, 0.01 + shift, 0.0))
        if label % 100 == 99:
            for i in rng.sample(range(ANCHORS), NIGHTLY):
                grade(i, shift if by_judge else 0.0)
        if promise.state is PromiseState.BROKEN:
            if label < change:
                return None
            for i in range(ANCHORS * IN_ALARM):
                grade(i % ANCHORS, shift if by_judge else 0.0)
            return anchors.judge_changed(ALPHA) == by_judge
    return None


def main(argv: Sequence[str] | None = None) -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100, help="rollouts of each world (default 100)")
    parser.add_argument("--labels", type=int, default=2_000, help="of each (default 2000)")
    args = parser.parse_args(argv)
    begin = perf_counter()
    rollouts = canaries(args.draws, args.labels)
    verdicts = [told_apart(seed) for seed in range(130)]
    counted = [verdict for verdict in verdicts if verdict is not None][:120]
    slack = 3 * sqrt(0.05 * 0.95 / args.draws)  # three standard errors of a share of 0.05
    ok = {
        "false_aborts": max(v["worse"] for k, v in rollouts.items() if k.startswith("equal")) <= 0.05 + slack,
        "false_readiness": max(v["no_worse"] for k, v in rollouts.items() if k.startswith("worse by")) <= 0.05 + slack,
        "stops_bad_ones": min(v["worse"] for k, v in rollouts.items() if k.startswith("24")) >= 0.95,
        "told_apart": sum(counted) >= 110 and len(counted) == 120,
    }
    result = {"canaries": rollouts, "told_apart": sum(counted), "of": len(counted)}
    seconds = round(perf_counter() - begin, 1)
    print(json.dumps({"rollout": {**result, "draws": args.draws, "seconds": seconds, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
