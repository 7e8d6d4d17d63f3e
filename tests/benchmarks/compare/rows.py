"""What a way of spending less is given of a recording, and what it is charged for what it does."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evals.recording import Example, read
from evals.replay.baselines import uncalibrated
from evals.replay.rows.input_rows import Rules, default_judges, judge_plans, usable_rows
from evals.replay.rows.splits import Splits
from evals.replay.score_table import Cache, TierScores, load_or_score, sha256_of
from tests.benchmarks.routing.bench_prompts import premium_last

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Columns = Mapping[str, Sequence[TierScores]]
Score = Callable[[str, Rules], Awaitable[TierScores]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """What some judges of ours say of one model's n answers, for a peer that has no evidence of its own.

    ``confidence`` (n,): of those judges together, not calibrated, 0 where one of them vetoed the answer. ``usd`` (n,): of
    the answer and these judges. ``quality`` (n,) in [0, 1].
    """

    model: int
    judges: tuple[str, ...]
    confidence: Array
    usd: Array
    quality: Array


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """n rows of k models, cheapest first, the premium one last.

    ``quality`` (n, k) in [0, 1] and ``usd`` (n, k) of the answers alone. ``evidence``: every list of judges that replay
    tries for a model, and every beginning of one. ``score`` runs a model's answers through further judges.
    """

    examples: Sequence[Example]
    models: Sequence[str]
    columns: Columns
    score: Score
    texts: Sequence[str]
    quality: Array
    usd: Array
    evidence: Sequence[Evidence]

    @property
    def premium(self) -> int:
        """The last model's index."""
        return len(self.models) - 1

    def answer(self, row: int, model: int) -> Mapping[str, Any]:
        """The recorded answer: text, token log-probabilities, finish reason."""
        return self.examples[row].answers[self.models[model]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What m test rows came to: quality in [0, 1] and USD, each (m,); ``choice`` says in words what was learned."""

    quality: Array
    usd: Array
    choice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Promise:
    """At most ``max_loss`` of quality below the premium model, except with probability ``delta``."""

    max_loss: float
    delta: float = 0.1


class Peer(Protocol):
    """A way of spending less than the premium model: learns on the calibration rows, answers the test rows."""

    name: str
    note: str

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """Learns on ``splits.calibration`` and answers ``splits.test``."""
        ...


async def load(path: Path, models: Sequence[str], folder: Path) -> Table:
    """The rows that every model answered, scored by the judges that replay would use.

    Args:
        path: The recording.
        models: Cheapest first; empty for all of the recording, in the order of their cost.
        folder: Where scores are kept while the comparison runs.
    """
    examples = list(read(path))
    names = list(models) or premium_last(examples)
    rows, _, _ = usable_rows(examples, names)
    cache = Cache(folder / path.name, sha256_of(path))

    async def score(model: str, rules: Rules) -> TierScores:
        return await load_or_score(rows, model, rules, cache)

    plans = {m: [default_judges(rows, m)] if len(names) <= 2 else judge_plans(rows, m) for m in names}
    columns = {m: [await score(m, rules) for rules in each] for m, each in plans.items()}
    first = [columns[m][0] for m in names]
    return Table(
        examples=rows,
        models=names,
        columns=columns,
        score=score,
        texts=[row.to_prompt().text for row in rows],
        quality=np.column_stack([c.quality[:, 0] for c in first]),
        usd=np.column_stack([c.cost_usd[:, 0] for c in first]),
        evidence=[item for i, m in enumerate(names) for column in columns[m] for item in _evidence(i, column)],
    )


def _evidence(model: int, column: TierScores) -> list[Evidence]:
    """Of every beginning of a list of judges that gives a score."""
    combined = uncalibrated(column)
    return [
        Evidence(
            model=model,
            judges=column.names[:stage],
            confidence=np.where(column.vetoed[:, stage], 0.0, combined[:, stage]),
            usd=column.cost_usd[:, stage],
            quality=column.quality[:, stage],
        )
        for stage in range(1, len(column.names) + 1)
        if not np.isnan(column.scores[:, stage - 1]).all()
    ]


def two_models(table: Table, first: Evidence, accepted: Flags, rows: Rows, choice: str) -> Outcome:
    """The outcome where one model is asked first, and the premium model too unless the first answer is accepted.

    Args:
        table: The recording.
        first: The first model with its judges, which are paid for on every row.
        accepted: (m,) whether the first answer is returned.
        rows: (m,) rows of the table.
        choice: What was learned, in words.
    """
    last = table.premium
    quality = np.where(accepted, first.quality[rows], table.quality[rows, last])
    usd = first.usd[rows] + np.where(accepted, 0.0, table.usd[rows, last])
    return Outcome(quality=quality, usd=usd, choice=choice)


def one_model_each(table: Table, models: Rows, rows: Rows, choice: str) -> Outcome:
    """The outcome where each of the (m,) rows is answered by one model alone."""
    return Outcome(quality=table.quality[rows, models], usd=table.usd[rows, models], choice=choice)


def premium_alone(table: Table, rows: Rows, choice: str = "all to the premium model") -> Outcome:
    """The outcome of the premium model alone."""
    return one_model_each(table, np.full(len(rows), table.premium), rows, choice)
