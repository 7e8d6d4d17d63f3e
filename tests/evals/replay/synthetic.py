"""Score columns with a known truth, for the tests of what is learned from them."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade import Attempt, Result
from evals.recording import Example
from evals.replay.score_table import TierScores
from evals.replay.simulate import Outcome
from judges import Answer

Array = npt.NDArray[np.float64]


def column(
    model: str,
    quality: Array,
    cost: float,
    scores: dict[str, Array] | None = None,
    judge_cost: dict[str, float] | None = None,
) -> TierScores:
    """A column of n rows whose judges, in order, said ``scores`` and cost ``judge_cost`` each."""
    scores, n = scores or {}, len(quality)
    stages = len(scores)
    usd = np.full((n, stages + 1), cost)
    for i, name in enumerate(scores):
        usd[:, i + 1 :] += (judge_cost or {}).get(name, 0.0)
    wide = np.repeat(quality[:, None], stages + 1, axis=1)
    return TierScores(
        model=model,
        rules=tuple({"use": name} for name in scores),
        names=tuple(scores),
        scores=np.stack(list(scores.values()), axis=1) if scores else np.zeros((n, 0)),
        vetoed=np.zeros((n, stages + 1), dtype=bool),
        quality=wide,
        cost_usd=usd,
        latency_s=np.full((n, stages + 1), np.nan),
        meaning=np.arange(n * (stages + 1)).reshape(n, stages + 1),
    )


def pair(n: int, seed: int, right: float = 0.7, premium: float = 0.9, sharp: float = 3.0) -> dict[str, list[TierScores]]:
    """A cheap tier whose log-probability tells right from wrong (the sharper, the better), and a premium tier of ten times
    its cost."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(size=n)
    cheap = (hard < np.quantile(hard, right)).astype(float)
    dear = (rng.random(n) < premium).astype(float)
    score = 1 / (1 + np.exp(-(sharp * (2 * cheap - 1) * rng.random(n) + rng.normal(size=n))))
    return {"cheap": [column("cheap", cheap, 1.0, {"logprob": score})], "dear": [column("dear", dear, 10.0)]}


def examples(n: int, seed: int = 0, **change: Any) -> list[Example]:
    """Rows of a recording: a cheap model with log-probabilities that tell, a middle one with samples, a dear one."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        hard = float(rng.random())
        right = [hard < bound for bound in (0.6, 0.8, 0.95)]
        noise = float(rng.random()) * 0.3
        gold = str(i)
        answers: dict[str, Any] = {
            "cheap": {
                "text": gold if right[0] else "no", "quality": float(right[0]), "cost_usd": 0.001,
                "logprob": -(0.05 if right[0] else 0.6) - noise, "latency_s": 0.1,
            },
            "middle": {
                "text": gold if right[1] else "none", "quality": float(right[1]), "cost_usd": 0.003, "latency_s": 0.2,
                "logprob": -(0.05 if right[1] else 0.5) - noise,
            },
            "dear": {"text": gold if right[2] else "nil", "quality": float(right[2]), "cost_usd": 0.02, "latency_s": 0.9},
        }  # fmt: skip
        for name, more in change.items():
            answers[name] = {**answers[name], **more}
        raw = {"id": f"row-{i}", "task": f"t{i % 3}", "prompt": f"question {i}", "reference": gold, "answers": answers}
        rows.append(Example(raw["id"], raw["prompt"], answers, raw["task"], reference=gold, raw=raw))
    return rows


def table(n: int, seed: int, models: int = 3, judges: int = 2, missing: float = 0.2) -> dict[str, list[TierScores]]:
    """Models ``m0``, ``m1``, ... at random: quality in steps of 0.25, costs and latencies that differ by row, scores on a
    coarse grid (so that there are ties), some of them missing."""
    rng = np.random.default_rng(seed)
    columns = {}
    for i in range(models):
        quality = rng.integers(0, 5, n) / 4
        scores = {f"j{j}": np.where(rng.random(n) < missing, np.nan, rng.integers(0, 21, n) / 20) for j in range(judges)}
        bare = column(f"m{i}", quality, 0.0, scores)
        shape = bare.cost_usd.shape
        usd, seconds = rng.random((n, 1)) + i / 2, rng.random((n, 1))
        columns[f"m{i}"] = [
            replace(bare, cost_usd=np.broadcast_to(usd, shape).copy(), latency_s=np.broadcast_to(seconds, shape).copy())
        ]
    return columns


def outcome(
    tier: Sequence[int],
    last_called: Sequence[int],
    quality: Sequence[float] | None = None,
    cost: Sequence[float] | None = None,
    confidence: Sequence[float] | None = None,
    accepted: Sequence[bool] | None = None,
) -> Outcome:
    """What some ladder did on m rows; by default all was right, free, sure and accepted."""
    m = len(tier)
    return Outcome(
        quality=np.array([1.0] * m if quality is None else quality, dtype=float),
        cost_usd=np.array([0.0] * m if cost is None else cost, dtype=float),
        latency_s=np.full(m, np.nan),
        tier=np.array(tier, dtype=np.int64),
        last_called=np.array(last_called, dtype=np.int64),
        confidence=np.array([1.0] * m if confidence is None else confidence, dtype=float),
        accepted=np.array([True] * m if accepted is None else accepted, dtype=bool),
    )


def random_outcome(rows: list[Example], seed: int) -> tuple[Outcome, list[str]]:
    """A random outcome of three models on the rows, graded as the answer that was returned is; and each row's model."""
    rng = np.random.default_rng(seed)
    tier = rng.integers(0, 3, len(rows))
    by = [("cheap", "middle", "dear")[i] for i in tier]
    return (
        outcome(
            tier=tier,
            last_called=tier,
            quality=[e.answers[m]["quality"] for e, m in zip(rows, by, strict=True)],
            cost=rng.random(len(rows)),
            confidence=rng.random(len(rows)),
            accepted=rng.random(len(rows)) < 0.7,
        ),
        by,
    )


def result(model: str, text: str, quality: float | None = 1.0) -> Result:
    """What the engine returns, accepted at the first tier."""
    answer = Answer(text, model=model, extra={"quality": quality})
    attempt = Attempt(
        tier=model,
        model=model,
        answer=answer,
        verdicts=(),
        confidence=1.0,
        vetoed=False,
        cost_usd=0.0,
        judge_cost_usd=0.0,
        latency_s=0.0,
        calls=1,
        reason="accepted",
    )
    return Result(
        text=text,
        parsed=None,
        confidence=1.0,
        accepted=True,
        tier=model,
        model=model,
        cost_usd=0.0,
        latency_s=0.0,
        attempts=(attempt,),
        reason="accepted",
        run_id="run",
        answer=answer,
    )
