"""200 labels of people beside 4,000 verdicts of a biased judge model: do intervals cover, and how much narrower are they?

As in production: the confidence of every answer is known, and people's labels are drawn by
``cascade.promise.review_sampling``, again after every 20 of them. The comparison is with 200 labels alone, chosen uniformly.

Simulated answers, 70 % of them right, with a calibrated confidence of AUROC 0.81 (that of Llama 3.1 8B's log-probabilities
on mmlu; that of its P(True) on triviaqa is 0.86). Judges whose AUROC is 0.7, 0.8 or 0.9, all too generous by a constant, of
three kinds: with normal scores of equal spread; lenient, so that it finds some of the wrong answers and rejects no right
one; strict, so that it rejects some of the right answers and all wrong ones. Each gives scores or five grades. Then recorded
answers (the folder $CASCADE_RECORDINGS, by default ../shared/recordings beside the checkout; left out where absent), with
confidences fitted by cross-validation and a simulated judge of AUROC 0.8. Beside each ratio of widths stand the smallest
that any method can reach: with labels given uniformly, and chosen in the best way, which would need to know both signals.

Prints one line of JSON; fails where intervals cover too seldom, or are wider than 0.75 times those of the labels alone with
a judge of AUROC 0.8 or more.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable
from math import exp, sqrt
from pathlib import Path
from statistics import NormalDist
from time import perf_counter

import numpy as np
import numpy.typing as npt

from cascade.promise.review_sampling import (
    BETTER,
    FLOOR,
    LEAST_LABELS,
    PRIOR_LABELS,
    RIDGES,
    WORSE,
    ReviewCandidate,
    draw_sizes,
    fit_logistic,
)
from evals.audit.people import chances_of_draws, estimate_by_people, variance_of
from evals.common.intervals import student_quantile
from evals.recording import read
from evals.replay.calibration.calibrate import fit
from evals.replay.statistics.regression import logistic

Array = npt.NDArray[np.float64]
Answers = tuple[Array, Array]
"""Whether each answer is right (n,), and its confidence (n,)."""
HOME = Path(os.environ.get("CASCADE_RECORDINGS") or Path(__file__).parents[4] / "shared" / "recordings")
RECORDED = {"mmlu": ("llama3.1-8b", "gpt-4o-mini"), "triviaqa": ("llama3.1-8b", "qwen2.5-32b-coder-instruct")}
VERDICTS, LABELS, EVERY, RIGHT, BIAS, CONFIDENCE = 4_000, 200, 20, 0.7, 0.15, 0.81
AUROCS = (0.7, 0.8, 0.9)
KINDS = ("normal", "lenient", "strict")
SCALES = ("scores", "five grades")
GAP = 6.0
"""Between answers that a lenient or strict judge tells apart, in standard deviations of its scores."""
COVERED, TARGET = 0.93, 0.75


def simulated(rng: np.random.Generator, n: int) -> Answers:
    """Answers with a calibrated confidence that is independent of the judge, given whether they are right."""
    right, gap = rng.random(n) < RIGHT, sqrt(2.0) * NormalDist().inv_cdf(CONFIDENCE)
    evidence = rng.normal(size=n) + gap * (right - 0.5)
    return np.where(right, 1.0, 0.0), logistic(gap * evidence + np.log(RIGHT / (1.0 - RIGHT)))


def judge(rng: np.random.Generator, right: Array, kind: str, scale: str, auroc: float) -> Array:
    """What the judge says of each answer (n,), in [0, 1]."""
    n, looks = len(right), right > 0.5
    if kind == "normal":
        gap = sqrt(2.0) * NormalDist().inv_cdf(auroc)
    else:
        gap, apart = GAP, NormalDist().cdf(GAP / sqrt(2.0))
        alike = rng.random(n) < max(0.0, (apart - auroc) / (apart - 0.5))
        looks = looks | alike if kind == "lenient" else looks & ~alike
    evidence = rng.normal(size=n) + gap * (looks - 0.5)
    if scale == "five grades":
        return np.array(np.digitize(evidence, [-1.5, -0.5, 0.5, 1.5]) / 4.0)
    return np.array(BIAS + (1.0 - BIAS) * logistic(evidence))


def recorded(name: str) -> list[Answers]:
    """For each model of a recording: its answers, with the confidences of a calibration to the others."""
    out = []
    examples = list(read(HOME / f"{name}.jsonl.gz"))
    for model in RECORDED[name]:
        answers = [example.answers[model] for example in examples]
        right = np.array([round(float(answer["quality"])) for answer in answers], dtype=float)
        scores = [exp(a["logprob"]) if "logprob" in a else a["verdicts"]["verifier"] for a in answers]
        out.append((right, fit({"score": np.array(scores)}, right).out_of_fold))
    return out


def limits(answers: Answers, verdicts: Array) -> tuple[float, float]:
    """The smallest ratios of widths: with labels given uniformly, and chosen in the best way.

    Both know P(right): the odds of the confidence, times how much more often right answers get such a verdict.
    """
    right, confidence = answers
    edges = np.unique(np.quantile(verdicts, np.linspace(0.0, 1.0, 61)[1:-1]))
    bins = np.searchsorted(edges, verdicts)
    counts = [np.bincount(bins[right == outcome], minlength=len(edges) + 1) + 0.5 for outcome in (0.0, 1.0)]
    ratios = np.log(counts[1] / counts[1].sum()) - np.log(counts[0] / counts[0].sum())
    p = np.clip(confidence, 1e-6, 1.0 - 1e-6)
    p = logistic(np.log(p / (1.0 - p)) + ratios[bins])
    variance = right.mean() * (1.0 - right.mean())
    unexplained = float(np.mean(p * (1.0 - p)) / variance)
    chosen = float(np.mean(np.sqrt(p * (1.0 - p))) ** 2 / variance)
    # What verdict and confidence explain is known of 4,000 answers and not of all.
    explained = (1.0 - unexplained) * LABELS / VERDICTS
    return sqrt(unexplained + explained), sqrt(chosen + explained)


def alone(labels: Array) -> tuple[float, float]:
    """The limits by the labels of people alone, with the same kind of interval."""
    n, mean = len(labels), float(labels.mean())
    error = sqrt(variance_of(float(((labels - mean) ** 2).sum()), n) / n)
    half = student_quantile(0.975, n - 2) * error
    return max(0.0, mean - half), min(1.0, mean + half)


def sizes_of(verdicts: Array, confidences: Array, labelled: list[int], losses: Array, left: list[int]) -> Array:
    """What ``draw_sizes`` gives for those that are left, in numpy: a simulation asks for it thousands of times."""
    z, p = (verdicts - verdicts.mean()) / verdicts.std(), np.clip(confidences, 1e-3, 1.0 - 1e-3)
    logits = np.log(p / (1.0 - p))
    believed = logistic(z - logits)
    spreads = np.sqrt(np.maximum(believed * (1.0 - believed), 1e-6))[left]
    if len(labelled) >= LEAST_LABELS:
        rows = np.stack([np.ones(len(z)), z, z * z - 1.0, logits - logits.mean()], axis=1)
        known: list[tuple[float, ...]] = [tuple(row) for row in rows[labelled].tolist()]
        targets = losses[labelled]
        better = logistic(rows[left] @ np.array(fit_logistic(known, np.maximum(targets, 0.0).tolist(), RIDGES, BETTER)))
        worse = logistic(rows[left] @ np.array(fit_logistic(known, np.maximum(-targets, 0.0).tolist(), RIDGES, WORSE)))
        fitted = np.sqrt(np.maximum(better + worse - (better - worse) ** 2, 1e-6))
        share = PRIOR_LABELS / (PRIOR_LABELS + len(labelled))
        spreads = (1.0 - share) * fitted + share * fitted.mean() / spreads.mean() * spreads
    sizes = np.maximum(spreads, FLOOR * spreads.mean())
    return np.array(sizes / sizes.mean())


def same_sizes(verdicts: Array, confidences: Array, losses: Array) -> bool:
    """Whether ``sizes_of`` is ``draw_sizes``."""
    candidates = [ReviewCandidate(v, c) for v, c in zip(verdicts.tolist(), confidences.tolist(), strict=True)]
    labelled, left = list(range(60)), list(range(60, len(candidates)))
    pairs = [(candidates[i], float(losses[i])) for i in labelled]
    return np.allclose(
        sizes_of(verdicts, confidences, labelled, losses, left), draw_sizes(candidates[60:], pairs), rtol=1e-4
    )


def reviewed(rng: np.random.Generator, answers: Answers, verdicts: Array) -> tuple[Array, Array]:
    """The labels (n,), NaN where nobody looked, and the chances (n,) of those that the queue drew."""
    right, confidence = answers
    losses, graded = 1.0 - right, 1.0 - verdicts
    left, chosen_rows, shares = list(range(len(right))), list[int](), list[float]()
    for count in range(LABELS):
        if count % EVERY == 0:
            sizes = sizes_of(graded, confidence, chosen_rows, losses, left)
        place = int(rng.choice(len(left), p=sizes / sizes.sum()))
        shares.append(float(sizes[place] / sizes.mean()))
        chosen_rows.append(left.pop(place))
        sizes = np.delete(sizes, place)
    labels, chances = np.full(len(right), np.nan), np.ones(len(right))
    labels[chosen_rows], chances[chosen_rows] = right[chosen_rows], chances_of_draws(np.array(shares), len(right))
    return labels, chances


def measure(
    rng: np.random.Generator, make: Callable[[int], Answers], grade: Callable[[Array], Array], truth: float, draws: int
) -> dict[str, float]:
    """Coverage, and the width against that of the labels alone."""
    hits = hits_alone = 0
    width = width_alone = width_uniform = 0.0
    errors = []
    for _ in range(draws):
        answers = make(VERDICTS)
        verdicts = grade(answers[0])
        labels, chances = reviewed(rng, answers, verdicts)
        e = estimate_by_people(labels, verdicts, confidences=answers[1], chances=chances, low=0.0)
        uniform = np.full(VERDICTS, np.nan)
        rows = rng.choice(VERDICTS, LABELS, replace=False)
        uniform[rows] = answers[0][rows]
        low, high = alone(answers[0][rows])
        u = estimate_by_people(uniform, verdicts, confidences=answers[1], low=0.0)
        hits, hits_alone = hits + (e.lower <= truth <= e.upper), hits_alone + (low <= truth <= high)
        width, width_alone = width + e.upper - e.lower, width_alone + high - low
        width_uniform += u.upper - u.lower
        errors.append(e.mean - truth)
    answers = make(400_000)
    few = make(VERDICTS)
    verdicts = grade(few[0])
    if not same_sizes(1.0 - verdicts, few[1], 1.0 - few[0]):
        raise AssertionError("the simulation draws with other sizes than the review page")
    at_random, at_best = limits(answers, grade(answers[0]))
    return {
        "coverage": hits / draws,
        "coverage_alone": hits_alone / draws,
        "ratio": width / width_alone,
        "limit": at_best,
        "ratio_uniform": width_uniform / width_alone,
        "limit_uniform": at_random,
        "bias_in_standard_errors": float(np.mean(errors) / np.std(errors) * sqrt(draws)),
    }


def worlds(rng: np.random.Generator, draws: int) -> dict[str, dict[str, float]]:
    """Each simulated judge, and one that knows nothing, beside a confidence that knows nothing."""
    results = {}
    for kind in KINDS:
        for scale in SCALES:
            for auroc in AUROCS:

                def grade(right: Array, kind: str = kind, scale: str = scale, auroc: float = auroc) -> Array:
                    return judge(rng, right, kind, scale, auroc)

                results[f"{kind}, {scale}, {auroc}"] = measure(rng, lambda n: simulated(rng, n), grade, RIGHT, draws)

    def unknowing(n: int) -> Answers:
        return simulated(rng, n)[0], rng.random(n)

    nothing = measure(rng, unknowing, lambda right: rng.random(len(right)), RIGHT, draws)
    return {**results, "nothing known, 0.5": {key: value for key, value in nothing.items() if "limit" not in key}}


def of_recordings(rng: np.random.Generator, draws: int) -> dict[str, dict[str, float]]:
    """Recorded answers, drawn with replacement, with a judge of normal scores."""
    results = {}
    for name in RECORDED if HOME.is_dir() else ():
        parts = recorded(name)
        right, confidence = (np.concatenate(columns) for columns in zip(*parts, strict=True))

        def make(n: int, right: Array = right, confidence: Array = confidence) -> Answers:
            places = rng.integers(len(right), size=n)
            return right[places], confidence[places]

        for scale in SCALES:

            def grade(right: Array, scale: str = scale) -> Array:
                return judge(rng, right, "normal", scale, 0.8)

            results[f"{name}, {scale}, 0.8"] = measure(rng, make, grade, float(right.mean()), draws)
    return results


def main() -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100, help="simulated samples of each judge (default 100)")
    args = parser.parse_args()
    rng, begin = np.random.default_rng(0), perf_counter()
    results = worlds(rng, args.draws) | of_recordings(rng, args.draws)
    good = [r["ratio"] for name, r in results.items() if name.endswith((" 0.8", " 0.9"))]
    coverages = [r["coverage"] for r in results.values()]
    biases = [abs(r["bias_in_standard_errors"]) for r in results.values()]
    ok = {
        "covers": float(np.mean(coverages)) >= COVERED,
        # Each of them within 3.5 standard errors of its own simulation.
        "each_covers": min(coverages) >= COVERED - 3.5 * sqrt(COVERED * (1.0 - COVERED) / args.draws),
        "narrower": max(good) <= TARGET,
        "never_wider": max(r["ratio_uniform"] for r in results.values()) <= 1.02,
        "unbiased": max(biases) <= 3.5 and sum(bias > 2.0 for bias in biases) <= len(biases) / 6,
    }
    rounded = {name: {key: round(value, 3) for key, value in r.items()} for name, r in results.items()}
    seconds = round(perf_counter() - begin, 1)
    print(json.dumps({"judge": {**rounded, "draws": args.draws, "seconds": seconds, "ok": ok}}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
