"""Do certificates hold, and what do they save? Prints one line of JSON; fails where promises are broken too often.

Simulation: populations of which the true loss is known, with scores that are good, overconfident or useless. Many small
recordings are drawn from each; every one is tuned and certified as a replay would, and the certified ladder's loss on the
whole population is compared with the limit. A cell fails where the share of broken promises is above delta by a one-sided
binomial test at 1e-3 divided by the number of cells. The method "menu" tests several promises together, and is broken where
any line of the menu is.

Resampling: recordings of real models (the folder $CASCADE_RECORDINGS, by default ../shared/recordings beside the checkout;
left out where absent) are split at random many times; the loss on the half that was not used is compared with the limit,
for the certificate and for three other ways to choose from the same candidates. There the truth is itself an estimate: a
loss above the limit by less than 1.64 standard errors may be chance, so both shares are given.
"""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from math import sqrt
from pathlib import Path
from statistics import NormalDist
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from evals.recording import Example, read
from evals.replay.calibration.apply_mapping import apply
from evals.replay.candidate_tiers import agreement_scores
from evals.replay.certificate import fixed_grid
from evals.replay.certificate.certified_choice import choose_certified, choose_from_menu
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.rows.input_rows import Rules, default_judges
from evals.replay.rows.splits import Splits, halves
from evals.replay.score_table import Cache, TierScores, load_or_score, sha256_of
from evals.replay.simulate import CandidateTier, SimulatedCascade, simulate_tier
from evals.replay.statistics.certify import fixed_sequence
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Goal, Tuner

Array = npt.NDArray[np.float64]

DELTA, LIMIT = 0.1, 0.05
POPULATION = 60_000  # with each row's expected quality, so that its mean loss is within 0.001 of the truth
SHAPES = ("easy", "hard", "u_shaped", "overconfident", "useless")
SIZES = (100, 300, 1000)
KINDS = ("right_or_wrong", "fractional")
METHODS = ("preset", "split", "menu")
MENU = (0.03, 0.05, 0.08)
SLOW = ("right_or_wrong", 1000)
HOME = Path(os.environ.get("CASCADE_RECORDINGS") or Path(__file__).parents[3] / "shared" / "recordings")
RULED = [{"use": "rules"}]
# (recording, cheap model, premium model, limit, the cheap model's judges or None for the default)
REAL: tuple[tuple[str, str, str, float, Rules | None], ...] = (
    ("mmlu", "gpt-4o-mini", "gpt-4o", 0.03, None),
    ("triviaqa", "llama3.1-70b", "llama3.1-405b", 0.03, None),
    ("date", "gpt-3.5:pot2_t=0.8", "gpt-4:cot1", 0.05, [{"use": "self_consistency", "samples": 19, "stop_at": 0.99}]),
)


def tier_scores(model: str, usd: float, quality: Array, score: Array | None) -> TierScores:
    """A model's column: one free judge that gives ``score``, or none."""
    n, names = len(quality), () if score is None else ("told",)
    stages = len(names) + 1
    return TierScores(
        model=model,
        rules=tuple({"use": name} for name in names),
        names=names,
        scores=np.empty((n, 0)) if score is None else score[:, None],
        vetoed=np.zeros((n, stages), dtype=bool),
        quality=np.tile(quality[:, None], stages),
        cost_usd=np.full((n, stages), usd),
        latency_s=np.full((n, stages), 1.0),
        meaning=np.zeros((n, stages), dtype=np.int64),
    )


def draw_columns(
    shape: str, kind: str, n: int, rng: np.random.Generator, *, expected: bool = False
) -> dict[str, list[TierScores]]:
    """``n`` rows of a cheap and a premium model; ``expected`` gives each row's expected quality in place of a drawn one."""
    a, b = {"easy": (1.0, 4.0), "hard": (4.0, 1.5), "u_shaped": (0.4, 0.4)}.get(shape, (1.0, 1.5))
    difficulty = rng.beta(a, b, n)
    score = np.clip(1.0 - difficulty + 0.15 * rng.normal(size=n), 0.0, 1.0)
    if shape == "overconfident":
        score = 1.0 - (1.0 - score) ** 2 / 20.0
    if shape == "useless":
        score = rng.random(n)
    qualities = []
    for p in (0.98 - 0.75 * difficulty**1.5, 0.98 - 0.35 * difficulty):
        if expected:
            qualities.append(p)
        elif kind == "fractional":
            qualities.append(rng.beta(3 * p, 3 * (1 - p)))
        else:
            qualities.append((rng.random(n) < p).astype(np.float64))
    return {
        "cheap": [tier_scores("cheap", 0.05, qualities[0], score)],
        "premium": [tier_scores("premium", 1.0, qualities[1], None)],
    }


def elsewhere(cascade: SimulatedCascade, columns: Mapping[str, Sequence[TierScores]]) -> SimulatedCascade:
    """The ladder on other rows: the same mappings and thresholds, applied to their scores."""
    tiers: list[CandidateTier] = []
    for tier in cascade.tiers:
        on = columns[tier.model][0].first_judges(len(tier.column.rules))
        earlier = [simulate_tier(s) for s in tiers]
        scores = {name: on.scores[:, j] for j, name in enumerate(on.names)}
        confidence = [
            apply(mapping, scores | agreement_scores(on, stage, earlier), n=len(on.vetoed))
            for stage, mapping in enumerate(tier.calibrators)
        ]
        tiers.append(
            CandidateTier(
                column=on,
                calibrators=tier.calibrators,
                confidence=np.stack(confidence, axis=1),
                accept_at=tier.accept_at,
                reject_below=tier.reject_below,
            )
        )
    return SimulatedCascade.from_tiers(tiers, cascade.final)


def simulate(shape: str, kind: str, n: int, method: str, draws: int) -> dict[str, Any]:
    """One cell: how often ladders were certified, how often a certified one truly loses more than the limit."""
    cell = (SHAPES.index(shape), KINDS.index(kind), n, len(method))
    population = draw_columns(shape, kind, POPULATION, np.random.default_rng((1, *cell)), expected=True)
    every = np.arange(POPULATION)
    reference = population["premium"][0].quality[:, 0]
    broken = certified = 0
    usd, margin = [], []
    start = perf_counter()
    for draw in range(draws):
        rng = np.random.default_rng((2, *cell, draw))
        # All n rows calibrate; the test rows are not read.
        fit = round(0.3 * n)
        splits = Splits(np.arange(fit), np.arange(fit, n), np.arange(n))
        rows = draw_columns(shape, kind, n, rng)
        if method == "menu":
            menu = choose_from_menu(rows, splits, MENU, DELTA, seed=draw).menu
            proved = [(line.candidate, line.max_loss) for line in menu if line.candidate is not None]
        else:
            how = "auto" if method == "preset" else "split"
            choice = choose_certified(rows, splits, Guarantee("max_loss", LIMIT, DELTA), seed=draw, method=how)
            proved = [(choice.chosen, LIMIT)] if choice.certificate["certified"] else []
        if not proved:
            usd.append(1.0)
            continue
        certified += 1
        losses = []
        for candidate, limit in proved:  # a menu is broken where any of its lines is
            outcome = elsewhere(candidate.cascade, population).outcome(candidate.thresholds, every, candidate.last_accept_at)
            losses.append((float((reference - outcome.quality).mean()), limit))
        broken += any(loss > limit for loss, limit in losses)
        loss = losses[-1][0]
        margin.append(loss)
        usd.append(float(outcome.cost_usd.mean()))
    return {
        "shape": shape, "kind": kind, "n": n, "method": method, "draws": draws, "certified": certified, "broken": broken,
        "p": round(float(binomtest(broken, draws, DELTA, alternative="greater").pvalue), 6),
        "loss": round(float(np.mean(margin)), 4) if margin else None, "cost": round(float(np.mean(usd)), 3),
        "seconds": round(perf_counter() - start, 1),
    }  # fmt: skip


def loaded(name: str, cheap: str, premium: str, judges: Rules | None) -> tuple[list[Example], dict[str, list[TierScores]]]:
    """The rows that both models answered and were graded on, and the models' columns."""
    path = HOME / f"{name}.jsonl.gz"
    examples = [
        e for e in read(path) if all(m in e.answers and e.answers[m]["quality"] is not None for m in (cheap, premium))
    ]
    cache = Cache(path, sha256_of(path))
    rules = {cheap: judges or default_judges(examples, cheap), premium: default_judges(examples, premium)}
    if judges is not None:
        rules[premium] = RULED
    return examples, {m: [asyncio.run(load_or_score(examples, m, r, cache))] for m, r in rules.items()}


Way = Callable[[Sequence[Array], float], int]


def naive(losses: Sequence[Array], limit: float) -> int:
    """The last candidate whose mean loss is within the limit, as if the rows were the world."""
    safe = [i for i, loss in enumerate(losses) if loss.mean() <= limit]
    return safe[-1] if safe else -1


def tested(method: str) -> Way:
    """The last candidate that passes in sequence."""
    return lambda losses, limit: fixed_sequence(losses, limit, DELTA, method).position


WAYS: dict[str, Way] = {
    "certified": tested("auto"),
    "naive": naive,
    "hoeffding_bentkus": tested("hoeffding_bentkus"),
    "betting": tested("betting"),
}


def resample(name: str, cheap: str, premium: str, limit: float, judges: Rules | None, splits: int) -> dict[str, Any]:
    """One recording, split at random ``splits`` times: broken promises, cost against the premium model, share certified."""
    start = perf_counter()
    examples, columns = loaded(name, cheap, premium, judges)
    quality = columns[premium][0].quality[:, 0]
    price = columns[premium][0].cost_usd[:, 0]
    results: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in WAYS}
    methods = set()
    for seed in range(splits):
        parts = halves([e.task for e in examples], seed)
        rows = parts.calibration
        sequence: Sequence[Candidate] | None = fixed_grid.candidate_sequence([c[0] for c in columns.values()], rows)
        methods.add("split" if sequence is None else "preset")
        if sequence is None:
            rows = parts.certify
            sequence, _ = Tuner(columns, parts.fit, Goal(quality, limit, premium), seed).test_sequence(len(rows))
        losses = [quality[rows] - c.outcome(rows).quality for c in sequence]
        usd = [float(c.outcome(parts.calibration).cost_usd.mean()) for c in sequence]
        for way, choose in WAYS.items():
            last = choose(losses, limit)
            if last < 0:
                results[way].append((0.0, 0.0, 1.0, 0.0))
                continue
            # All before the last one passed too, and the cheapest is taken; a naive choice has nothing to walk through.
            at = last if way == "naive" else int(np.argmin(usd[: last + 1]))
            outcome = sequence[at].outcome(parts.test)
            d = quality[parts.test] - outcome.quality
            error = float(d.std()) / sqrt(len(d))
            ratio = float(outcome.cost_usd.mean() / price[parts.test].mean())
            z = NormalDist().inv_cdf(0.95)
            results[way].append((float(d.mean() > limit), float(d.mean() > limit + z * error), ratio, 1.0))
    ways = {
        way: dict(zip(("above", "surely_above", "cost", "certified"), np.mean(r, axis=0).round(3).tolist(), strict=True))
        for way, r in results.items()
    }
    return {
        "recording": name, "cheap": cheap, "premium": premium, "limit": limit, "rows": len(examples), "splits": splits,
        "method": "/".join(sorted(methods)), "ways": ways, "seconds": round(perf_counter() - start, 1),
    }  # fmt: skip


def main() -> int:
    """Runs both studies, prints the line, and returns 1 where a cell of the simulation fails."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--full", action="store_true", help="every cell with 1,000 draws, and 200 splits: takes an hour or two"
    )
    parser.add_argument("--draws", type=int, help="draws a cell of the simulation")
    parser.add_argument("--splits", type=int, help="splits of each recording")
    arguments = parser.parse_args()
    splits = arguments.splits or (200 if arguments.full else 20)
    draws = arguments.draws or (1000 if arguments.full else 40)
    cells = []
    for shape, kind, n, method in product(SHAPES, KINDS, SIZES, METHODS):
        # Every shape, kind and size but the slowest takes part in the short run, with one of the methods each.
        turn = SHAPES.index(shape) + KINDS.index(kind) + SIZES.index(n)
        if arguments.full or (METHODS[turn % len(METHODS)] == method and (kind, n) != SLOW):
            cells.append(simulate(shape, kind, n, method, draws))
            print(cells[-1], file=sys.stderr, flush=True)
    real = [resample(*study, splits=splits) for study in REAL if (HOME / f"{study[0]}.jsonl.gz").exists()]
    bad = [c for c in cells if c["p"] < 1e-3 / len(cells)]
    every, broken = sum(c["draws"] for c in cells), sum(c["broken"] for c in cells)
    worst = max(c["broken"] / c["draws"] for c in cells)
    total = {"delta": DELTA, "limit": LIMIT, "draws": every, "broken": broken, "worst": worst, "failed": len(bad)}
    print(json.dumps({**total, "cells": cells, "recordings": real}))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
