"""Do the statistics of a promise in production hold, and how soon do they speak? Prints one line of JSON; fails where a
target is missed.

Simulations: streams of losses in 8 worlds that keep the promise (false alarms), streams that slip (labels until an alarm),
with two ways that others run beside it: a z-test looked at again and again, and a trailing window with Hoeffding's bound.
Recordings of real models (the folder $CASCADE_RECORDINGS, by default ../shared/recordings beside the checkout; left out
where absent): how narrow the interval of a cascade's loss becomes, and how soon another task is noticed without labels.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from math import log, sqrt
from pathlib import Path
from statistics import NormalDist
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.promise.drift import DriftTest, prompt_features
from evals.audit.e_values import first_alarm, log_e_values
from evals.audit.estimate import estimate_mean, strengths
from evals.recording import Example, read
from evals.replay.statistics.regression import logistic, ridge_logistic

Array = npt.NDArray[np.float64]
LIMIT, DELTA = 0.02, 0.1
HOME = Path(os.environ.get("CASCADE_RECORDINGS") or Path(__file__).parents[3] / "shared" / "recordings")


def losses(rng: np.random.Generator, streams: int, n: int, worse: float, better: float = 0.0) -> Array:
    """(streams, n): 1 where only premium is right, -1 where only the cascade is, else 0."""
    draw = rng.random((streams, n))
    return (draw < worse) * 1.0 - ((draw >= worse) & (draw < worse + better)) * 1.0


def kept_worlds(rng: np.random.Generator, streams: int, n: int) -> dict[str, tuple[Array, Array | None]]:
    """Worlds that keep a promise of 0.02: losses, and weights where runs are sampled with different probabilities."""
    near = rng.random((streams, n)) < 0.3  # runs near a threshold lose more, and are sampled four times as often
    probability = np.where(near, 0.08, 0.02)
    chosen = rng.random((streams, n)) < probability / 0.08
    uneven = (rng.random((streams, n)) < np.where(near, 0.06, 0.02 / 7)) * 1.0
    waves = 0.02 * (np.sin(np.arange(n) / 50.0) + 1) / 2
    return {
        "at the promise": (losses(rng, streams, n, 0.02), None),
        "at the promise, gains too": (losses(rng, streams, n, 0.05, 0.03), None),
        "many gains and losses": (losses(rng, streams, n, 0.31, 0.29), None),
        "fractional": (rng.beta(0.1, 4.9, (streams, n)), None),
        "healthy": (losses(rng, streams, n, 0.01), None),
        "no losses": (np.zeros((streams, n)), None),
        "waves up to the promise": ((rng.random((streams, n)) < waves) * 1.0, None),
        "score-dependent sampling": (uneven, np.where(chosen, 0.02 / probability, 0.0)),
    }


def false_alarms(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """The share of streams of 100,000 runs, of which 2 % are shadowed, that ever alarm, in each world."""
    return {
        name: float((first_alarm(log_e_values(values, LIMIT, weights=weights), DELTA) > 0).mean())
        for name, (values, weights) in kept_worlds(rng, draws, 2_000).items()
    }


def detection(rng: np.random.Generator, streams: int, healthy: int) -> dict[str, Any]:
    """Labels until a slip is found, of streams that were healthy before, by kind of slip."""
    slips = {
        "losses alone: 0.01 to 0.06": ((0.01, 0.0), (0.06, 0.0)),
        "gains too: 0.02 less 0.01 to 0.07 less 0.01": ((0.02, 0.01), (0.07, 0.01)),
    }
    out: dict[str, Any] = {}
    for name, (before, after) in slips.items():
        parts = [losses(rng, streams, 4_000, *after)]
        if healthy:
            parts.insert(0, losses(rng, streams, healthy, *before))
        alarms = first_alarm(log_e_values(np.hstack(parts), LIMIT), DELTA)
        delays = np.where(alarms == 0, 4_000, alarms - healthy)
        early = delays <= 0
        out[name] = {
            "median": float(np.median(delays[~early])),
            "p90": float(np.quantile(delays[~early], 0.9)),
            "alarms_before": float(early.mean()),
        }
    return out


def against_fixed_size(rng: np.random.Generator, streams: int) -> dict[str, float]:
    """A loss 3 points beyond the promise, from the start: the median labels against a test of one fixed size."""
    loss, alpha, power = LIMIT + 0.03, 0.05, 0.9
    z = NormalDist().inv_cdf
    fixed = ((z(1 - alpha) * sqrt(LIMIT * (1 - LIMIT)) + z(power) * sqrt(loss * (1 - loss))) / (loss - LIMIT)) ** 2
    alarms = first_alarm(log_e_values(losses(rng, streams, 4_000, loss), LIMIT), alpha)
    median = float(np.median(np.where(alarms == 0, 4_000, alarms)))
    return {"fixed_size": round(fixed), "median": median, "ratio": median / fixed, "alpha": alpha, "power": power}


def z_test(values: Array, every: int, window: int | None = None) -> npt.NDArray[np.int64]:
    """What others run: the first look at which a z-test at level DELTA alarms, 0 for none; every ``every`` labels."""
    bound, n = NormalDist().inv_cdf(1 - DELTA), values.shape[1]
    alarms = np.zeros(len(values), dtype=np.int64)
    for t in range(every, n + 1, every):
        part = values[:, max(0, t - window) if window else 0 : t]
        error = np.maximum(part.std(axis=1), 1e-9) / sqrt(part.shape[1])
        alarms = np.where((alarms == 0) & ((part.mean(axis=1) - LIMIT) / error > bound), t, alarms)
    return alarms


def hoeffding_window(values: Array, window: int) -> npt.NDArray[np.int64]:
    """What others run: the first label at which a trailing window's mean less Hoeffding's bound is above the promise."""
    sums = np.cumsum(np.hstack([np.zeros((len(values), 1)), values]), axis=1)
    means = (sums[:, window:] - sums[:, :-window]) / window
    beyond = means - sqrt(2.0 * log(1.0 / DELTA) / window) > LIMIT
    return np.where(beyond.any(axis=1), beyond.argmax(axis=1) + window, 0)


def comparisons(rng: np.random.Generator, streams: int) -> dict[str, Any]:
    """The other ways: their false alarms on 5,000 labels at the promise, and their labels to the slip to 0.06."""
    clean = losses(rng, streams, 5_000, LIMIT)
    healthy = 5_000
    slip = np.hstack([losses(rng, streams, healthy, 0.01), losses(rng, streams, 6_000, 0.06)])
    ways = {
        "e-process": lambda v: first_alarm(log_e_values(v, LIMIT), DELTA),
        "z-test of all labels, every 100": lambda v: z_test(v, 100),
        "rolling z-test of 500 labels, every 100": lambda v: z_test(v, 100, 500),
        "trailing Hoeffding window of 4,000": lambda v: hoeffding_window(v, 4_000),
    }
    out: dict[str, Any] = {}
    for name, way in ways.items():
        alarms = way(slip)
        after = np.where(alarms == 0, 6_000, alarms - healthy)[(alarms == 0) | (alarms > healthy)]
        out[name] = {
            "false_alarms": float((way(clean) > 0).mean()),
            "median_labels": float(np.median(after)) if len(after) else None,
        }
    return out


def weighted_audits(rng: np.random.Generator, streams: int) -> dict[str, float]:
    """Labels until a slip is found: uniform sampling against sampling more where the cascade is less sure.

    A quarter of the accepted runs lie near a threshold, and most losses and gains are there; the mean loss is 0.06.
    """
    n = 6_000
    near = rng.random((streams, n)) < 0.25
    draw = rng.random((streams, n))
    worse, better = np.where(near, 0.30, 0.007), np.where(near, 0.08, 0.0)
    loss = (draw < worse) * 1.0 - ((draw >= worse) & (draw < worse + better)) * 1.0
    out: dict[str, float] = {}
    for name, probability in (("uniform", np.full((streams, n), 0.3)), ("weighted", np.where(near, 0.9, 0.3))):
        labelled = rng.random((streams, n)) < probability
        alarms = first_alarm(log_e_values(loss, LIMIT, weights=np.where(labelled, 0.3 / probability, 0.0)), DELTA)
        counts = np.cumsum(labelled, axis=1)[np.arange(streams), np.where(alarms == 0, n, alarms) - 1]
        out[name] = float(np.median(counts))
    return {**out, "ratio": out["weighted"] / out["uniform"]}


def coverage(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """The share of streams whose confidence sequence covers the mean loss at all looks together, by design."""
    hits = {"uniform": 0, "score-dependent, predictions": 0}
    for _ in range(draws):
        p = rng.beta(0.5, 4.0, 2_000)
        y = (rng.random(2_000) < p) * 1.0
        for name in hits:
            weighted = name != "uniform"
            probability = np.clip(0.5 * np.sqrt(p), 0.1, 1.0) if weighted else np.full(2_000, 0.15)
            observed = np.where(rng.random(2_000) < probability, y, np.nan)
            e = estimate_mean(observed, probability, p if weighted else None, floor=0.1)
            hits[name] += e.lower <= 0.5 / 4.5 <= e.upper
    return {name: count / draws for name, count in hits.items()}


def unbiased(rng: np.random.Generator, draws: int) -> dict[str, float]:
    """The mean error of the estimate under score-dependent sampling, in its own standard errors."""
    errors = []
    for _ in range(draws):
        p = rng.beta(0.5, 4.0, 3_000)
        probability = np.clip(0.2 * np.sqrt(p), 0.02, 1.0)
        y = np.where(rng.random(3_000) < probability, (rng.random(3_000) < p) * 1.0, np.nan)
        errors.append(_ppi_mean(y, probability, p) - 0.5 / 4.5)
    error = float(np.mean(errors))
    return {"mean_error": error, "standard_errors": error / (float(np.std(errors)) / sqrt(draws))}


def _ppi_mean(y: Array, probability: Array, prediction: Array) -> float:
    """``estimate_mean(...).mean`` without the work of an interval."""
    inverse = np.where(np.isnan(y), 0.0, 1.0 / probability)
    values = np.nan_to_num(y)
    strength = strengths(values, prediction, inverse)
    return float((strength * prediction + inverse * (values - strength * prediction)).mean())


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """A recorded cascade's test rows: whether the cheap answer was accepted, its loss, and its confidence."""

    accepted: npt.NDArray[np.bool_]
    loss: Array
    confidence: Array


def recorded_stream(name: str, cheap: str, premium: str) -> Stream:
    """The cascade of two recorded models, its confidence and threshold learned on the rows marked train."""
    rows = list(read(HOME / f"{name}.jsonl.gz"))

    def columns(model: str, split: str) -> tuple[Array, Array]:
        answers = [row.answers[model] for row in rows if row.split == split]
        quality = np.array([a["quality"] for a in answers], dtype=np.float64)
        return quality, np.array([_logit(_score(a)) for a in answers])

    (right, score), (best, _) = columns(cheap, "train"), columns(premium, "train")
    slope, intercept = _fitted(score, right)
    fit = logistic(slope * score + intercept)
    order = np.argsort(-fit)
    mean_losses = np.cumsum((best - right)[order]) / len(order)
    threshold = fit[order[np.flatnonzero(mean_losses <= 0.03).max()]]
    (right, score), (best, _) = columns(cheap, "test"), columns(premium, "test")
    confidence = logistic(slope * score + intercept)
    accepted = confidence >= threshold
    return Stream(accepted=accepted, loss=np.where(accepted, best - right, 0.0), confidence=confidence)


def _fitted(score: Array, right: Array) -> tuple[float, float]:
    design = np.column_stack([np.ones(len(score)), score])
    weights = ridge_logistic(design, right, np.ones((1, len(score))), np.array([[0.0, 1e-3]]))
    assert weights is not None
    return float(weights[0, 1]), float(weights[0, 0])


def _score(answer: Mapping[str, Any]) -> float:
    if answer.get("logprob") is not None:
        return float(np.exp(answer["logprob"]))
    return float(next(iter(answer["verdicts"].values())))


def _logit(p: float) -> float:
    p = min(max(p, 1e-4), 1 - 1e-4)
    return log(p / (1 - p))


def widths(rng: np.random.Generator, stream: Stream, draws: int) -> dict[str, Any]:
    """The interval of the cascade's loss from 1,000 graded runs of 20,000, against that of labels alone.

    Labels alone: a uniform sample, every run of it graded; then the same labels with predictions. Ours: a run whose answer
    was premium's loses nothing and needs no grade; of the others more are sampled the less sure the cascade was; predictions
    come from the confidence.
    """
    n, graded = 20_000, 1_000
    intervals: dict[str, list[tuple[float, float, float]]] = {"labels alone": [], "uniform, predictions": [], "ours": []}
    for _ in range(draws):
        rows = rng.integers(len(stream.loss), size=n)
        accepted, loss = stream.accepted[rows], stream.loss[rows]
        doubt = np.where(accepted, 1.0 - stream.confidence[rows], 0.0)
        lots = rng.random(n)
        for name in intervals:
            probability = _weighted_design(doubt, accepted, graded) if name == "ours" else np.full(n, graded / n)
            chosen = lots < probability
            prediction = None if name == "labels alone" else doubt
            e = estimate_mean(np.where(chosen, loss, np.nan), probability, prediction)
            intervals[name].append(
                (e.upper - e.lower, e.standard_error, float((chosen & (accepted | (name != "ours"))).sum()))
            )
    means = {name: np.mean(v, axis=0) for name, v in intervals.items()}
    base = means["labels alone"]
    return {
        name: {"width": m[0], "graded": m[2], "width_ratio": m[0] / base[0], "standard_error_ratio": m[1] / base[1]}
        for name, m in means.items()
    }


def _weighted_design(doubt: Array, accepted: npt.NDArray[np.bool_], graded: int) -> Array:
    """Probabilities in proportion to the root of the doubt, with a floor of half of a uniform design's."""
    uniform = graded / accepted.sum()
    low, high = 0.0, 10.0
    for _ in range(40):
        scale = (low + high) / 2
        design = np.clip(np.maximum(0.5 * uniform, scale * np.sqrt(doubt)), 0.0, 1.0)
        low, high = (low, scale) if design[accepted].sum() > graded else (scale, high)
    return design


def drift(rng: np.random.Generator, other: str, streams: int) -> dict[str, Any]:
    """A stream that turns from half of mmlu to another task: runs until that is noticed, and false alarms before."""

    def features(rows: list[Example], model: str) -> list[list[float]]:
        return [prompt_features(_text(row), _score(row.answers[model])) for row in rows]

    mmlu = list(read(HOME / "mmlu.jsonl.gz"))
    others = features(list(read(HOME / f"{other}.jsonl.gz")), "llama3.1-8b")
    delays, early = [], 0
    for seed in range(streams):
        order = rng.permutation(len(mmlu))
        halves = [features([mmlu[i] for i in part], "llama3.1-8b") for part in np.array_split(order, 2)]
        test = DriftTest(halves[0], seed=seed)
        for row in halves[1]:
            test.update(row)
        if test.drifted(0.05):
            early += 1
            continue
        count = 0
        for i in rng.permutation(len(others))[:500]:
            test.update(others[i])
            count += 1
            if test.drifted(0.05):
                break
        delays.append(count if test.drifted(0.05) else 1_000)
    return {"max_runs": max(delays, default=None), "median_runs": float(np.median(delays)), "alarms_before": early / streams}


def _text(row: Example) -> str:
    return row.prompt if isinstance(row.prompt, str) else "\n".join(str(m.get("content", "")) for m in row.prompt)


def main() -> int:
    """Measures and compares with the targets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=500, help="streams of each world (default 500)")
    parser.add_argument("--streams", type=int, default=2_000, help="streams at the promise (default 2000)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, begin = np.random.default_rng(args.seed), perf_counter()
    few = max(4, args.draws // 5)  # where each draw takes long
    at_promise = [
        first_alarm(log_e_values(losses(rng, args.streams, 5_000, *w), LIMIT), DELTA) for w in ((0.02,), (0.05, 0.03))
    ]
    results: dict[str, Any] = {
        "false_alarms": false_alarms(rng, args.draws),
        "alarms_at_the_promise": [float((a > 0).mean()) for a in at_promise],
        "slip_at_the_start": detection(rng, args.draws, 0),
        "slip_after_5000_healthy": detection(rng, args.draws, 5_000),
        "against_fixed_size": against_fixed_size(rng, args.draws),
        "comparisons": comparisons(rng, few),
        "weighted_sampling": weighted_audits(rng, args.draws),
        "coverage": coverage(rng, few),
        "unbiased": unbiased(rng, args.draws),
    }
    slips = results["slip_after_5000_healthy"].values()
    ways = results["comparisons"]
    ok = {
        "false_alarms": max(results["false_alarms"].values()) <= DELTA,
        "alarms_at_the_promise": max(results["alarms_at_the_promise"]) <= DELTA,
        "slip_caught": max(s["median"] for s in slips) <= 400,
        "fixed_size": results["against_fixed_size"]["ratio"] <= 1.5,
        "half_of_hoeffding": 2 * ways["e-process"]["median_labels"]
        <= ways["trailing Hoeffding window of 4,000"]["median_labels"],
        "weighted_sampling": results["weighted_sampling"]["ratio"] <= 0.75,
        "coverage": min(results["coverage"].values()) >= 0.95,
        "unbiased": abs(results["unbiased"]["standard_errors"]) <= 2.0,
    }
    if (HOME / "mmlu.jsonl.gz").is_file():
        for name, premium in (("mmlu", "gpt-4o"), ("triviaqa", "llama3.1-405b")):
            results[f"width_{name}"] = widths(rng, recorded_stream(name, "llama3.1-8b", premium), 6)
            ratios = {design: row["width_ratio"] for design, row in results[f"width_{name}"].items()}
            ok[f"width_{name}"] = ratios["ours"] <= 0.8 and ratios["uniform, predictions"] <= 1.02
        for other in ("triviaqa", "gsm8k"):
            results[f"drift_{other}"] = drift(rng, other, 20)
            ok[f"drift_{other}"] = results[f"drift_{other}"]["max_runs"] <= 500
    else:
        results["recordings"] = f"left out: {HOME} has none"
    seconds = round(perf_counter() - begin, 1)
    ok = {name: bool(holds) for name, holds in ok.items()}
    print(json.dumps({"promise": {**_rounded(results), "draws": args.draws, "seconds": seconds, "ok": ok}}))
    return 0 if all(ok.values()) else 1


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.4g}") if isinstance(value, float | np.floating) else value


if __name__ == "__main__":
    sys.exit(main())
