"""200 labels of people beside 4,000 verdicts of a biased judge model: do intervals cover, and how much narrower are they?

Simulated answers, 70 % of them right. Judges whose AUROC is 0.7 to 0.95, all too generous by a constant, of three kinds:
with normal scores of equal spread; lenient, so that it finds some of the wrong answers and rejects no right one; strict, so
that it rejects some of the right answers and all wrong ones. Each gives scores or five grades. Beside each ratio of widths
stand the smallest ones that any method can reach with this judge: with labels given at random, and with labels chosen in the
best way, which would need to know the judge. Prints one line of JSON; fails where intervals cover too seldom, are much wider
than the limit, or than 0.75 for a lenient judge from 0.8 on.
"""

import argparse
import json
import sys
from math import sqrt
from statistics import NormalDist
from time import perf_counter

import numpy as np
import numpy.typing as npt

from evals.audit.people import estimate_by_people
from evals.common.intervals import student_quantile

Array = npt.NDArray[np.float64]
VERDICTS, LABELS, RIGHT, BIAS = 4_000, 200, 0.7, 0.15
AUROCS = (0.7, 0.8, 0.85, 0.9, 0.95)
KINDS = ("normal", "lenient", "strict")
SCALES = ("scores", "five grades")
GAP = 6.0
"""Between answers that a lenient or strict judge tells apart, in standard deviations of its scores."""
COVERED, TARGET, ABOVE_LIMIT = 0.93, 0.75, 0.05


def judge(rng: np.random.Generator, kind: str, scale: str, auroc: float, n: int) -> tuple[Array, Array]:
    """Whether each answer is right (n,), and what the judge says (n,), in [0, 1]."""
    right = rng.random(n) < RIGHT
    looks = right.copy()
    if kind == "normal":
        gap = sqrt(2.0) * NormalDist().inv_cdf(auroc)
    else:
        gap, apart = GAP, NormalDist().cdf(GAP / sqrt(2.0))
        alike = rng.random(n) < max(0.0, (apart - auroc) / (apart - 0.5))
        looks = right | alike if kind == "lenient" else right & ~alike
    evidence = rng.normal(size=n) + gap * (looks - 0.5)
    score = BIAS + (1.0 - BIAS) / (1.0 + np.exp(-evidence))
    if scale == "five grades":
        score = np.digitize(evidence, [-1.5, -0.5, 0.5, 1.5]) / 4.0
    return np.where(right, 1.0, 0.0), np.array(score, dtype=float)


def limits(rng: np.random.Generator, kind: str, scale: str, auroc: float) -> tuple[float, float]:
    """The smallest ratios of widths: with labels at random, and chosen in the best way. By 400,000 answers in 200 cells."""
    right, score = judge(rng, kind, scale, auroc, 400_000)
    cells = np.searchsorted(np.unique(np.quantile(score, np.linspace(0.0, 1.0, 201)[1:-1])), score)
    counts = np.bincount(cells)
    share = np.bincount(cells, right) / np.maximum(counts, 1)
    weight, variance = counts / counts.sum(), right.mean() * (1.0 - right.mean())
    unexplained = float(np.sum(weight * share * (1.0 - share)) / variance)
    chosen = float(np.sum(weight * np.sqrt(share * (1.0 - share))) ** 2 / variance)
    # What the judge explains is known of 4,000 answers and not of all.
    explained = (1.0 - unexplained) * LABELS / VERDICTS
    return sqrt(unexplained + explained), sqrt(chosen + explained)


def alone(labels: Array) -> tuple[float, float]:
    """The limits by the labels of people alone, with the same kind of interval."""
    n, mean = len(labels), float(labels.mean())
    error = sqrt((float(((labels - mean) ** 2).sum()) + 1.0) / (n + 2.0) / n)
    half = student_quantile(0.975, n - 2) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def measure(rng: np.random.Generator, kind: str, scale: str, auroc: float, draws: int) -> dict[str, float]:
    """Coverage, and the width against that of the labels alone."""
    hits = hits_alone = 0
    width = width_alone = 0.0
    errors = []
    for _ in range(draws):
        right, score = judge(rng, kind, scale, auroc, VERDICTS)
        labels = np.full(VERDICTS, np.nan)
        chosen = rng.choice(VERDICTS, LABELS, replace=False)
        labels[chosen] = right[chosen]
        low, high = alone(right[chosen])
        e = estimate_by_people(labels, score, low=0.0)
        hits, hits_alone = hits + (e.lower <= RIGHT <= e.upper), hits_alone + (low <= RIGHT <= high)
        width, width_alone = width + e.upper - e.lower, width_alone + high - low
        errors.append(e.mean - RIGHT)
    at_random, at_best = limits(rng, kind, scale, auroc)
    return {
        "coverage": hits / draws,
        "coverage_alone": hits_alone / draws,
        "ratio": width / width_alone,
        "limit": at_random,
        "limit_chosen": at_best,
        "bias_in_standard_errors": float(np.mean(errors) / np.std(errors) * sqrt(draws)),
    }


def main() -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100, help="simulated samples of each judge (default 100)")
    args = parser.parse_args()
    rng, begin = np.random.default_rng(0), perf_counter()
    results = {
        f"{kind}, {scale}, {auroc}": measure(rng, kind, scale, auroc, args.draws)
        for kind in KINDS
        for scale in SCALES
        for auroc in AUROCS
    }
    lenient = [r["ratio"] for name, r in results.items() if name.startswith("lenient") and not name.endswith(" 0.7")]
    coverages = [r["coverage"] for r in results.values()]
    ok = {
        "covers": float(np.mean(coverages)) >= COVERED,
        # Each of them within 3.5 standard errors of its own simulation.
        "each_covers": min(coverages) >= COVERED - 3.5 * sqrt(COVERED * (1.0 - COVERED) / args.draws),
        "near_the_limit": max(r["ratio"] - r["limit"] for r in results.values()) <= ABOVE_LIMIT,
        "lenient_judge": max(lenient) <= TARGET,
    }
    rounded = {name: {key: round(value, 3) for key, value in r.items()} for name, r in results.items()}
    seconds = round(perf_counter() - begin, 1)
    print(json.dumps({"judge": {**rounded, "draws": args.draws, "seconds": seconds, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
