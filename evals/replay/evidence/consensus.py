"""Which models to ask for a consensus: pairs and triples of cheap models of different families, judged on the fit rows.

A group is a tier's model and the models that its consensus judge asks. All groups are first compared by plain arithmetic on
the columns of the single models; the most promising are then judged by the engine, as any other list of judges.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.replay.score_table import TierScores

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Columns = Mapping[str, Sequence[TierScores]]
Group = tuple[str, ...]

MOST_VOTERS = 3
MOST_GROUPS = 4
# As in tuning: a group is promising where it is predicted to keep the promise by this many standard errors.
MARGIN = 1.2
# Pseudo-rows with a loss, so that no variance is estimated as 0.
PRIOR_ROWS = 2.0
_FAMILIES = {"chatgpt": "gpt", "o": "gpt", "davinci": "gpt", "mixtral": "mistral", "ministral": "mistral"}


def family(model: str) -> str:
    """The family of a model by its name: ``Meta-Llama-3.1-8B`` and ``llama-2`` are one, ``gpt-4o`` and ``o3`` as well.

    Args:
        model: The model's name as the recording has it.
    """
    name = model.rpartition("/")[2].lower().removeprefix("meta-")
    match = re.match(r"[^\W\d_]+", name)
    word = match[0] if match else name
    return _FAMILIES.get(word, word)


def groups_of(models: Sequence[str], most_voters: int = MOST_VOTERS) -> list[Group]:
    """Every pair, triple, ... of models of different families, each in the order of ``models``."""
    return [
        group
        for size in range(2, most_voters + 1)
        for group in combinations(models, size)
        if len({family(model) for model in group}) == size
    ]


def promising_groups(columns: Columns, rows: Rows, limit: float, n: int, most: int = MOST_GROUPS) -> list[Group]:
    """The groups that are predicted to keep a promise at the least cost.

    Args:
        columns: Each model's scores, the premium tier last.
        rows: The fit rows.
        limit: The largest mean loss against the premium tier.
        n: How many rows will certify.
        most: The most groups.

    Returns:
        The groups, the cheapest first; of those that seem to break the promise the least bad ones, where others lack.
    """
    *cheap, premium = columns
    cheap = sorted(cheap, key=lambda model: float(columns[model][0].cost_usd[rows, 0].mean()))
    premium_usd = float(columns[premium][0].cost_usd[rows, 0].mean())
    ranked = []
    for group in groups_of(cheap):
        loss, usd = predicted([columns[model][0] for model in group], columns[premium][0], rows)
        variance = (float((loss**2).sum()) + PRIOR_ROWS) / (len(rows) + 2 * PRIOR_ROWS)
        margin = (limit - float(loss.mean())) / (variance / max(n, 1)) ** 0.5
        if usd.mean() < premium_usd:
            ranked.append(((margin < MARGIN, float(usd.mean()) if margin >= MARGIN else -margin), group))
    return [group for _, group in sorted(ranked)[:most]]


def predicted(voters: Sequence[TierScores], premium: TierScores, rows: Rows) -> tuple[Array, Array]:
    """What a ladder of a consensus and the premium tier does: accepts where a majority agrees, and escalates otherwise.

    Args:
        voters: The columns of the models, in the order in which they are asked.
        premium: The column of the premium tier.
        rows: The rows.

    Returns:
        (m,) the loss against the premium tier and (m,) the cost in USD.
    """
    m, majority = len(rows), len(voters) // 2 + 1
    meaning = np.stack([v.meaning[rows, 0] for v in voters], axis=1)
    quality = np.stack([v.quality[rows, 0] for v in voters], axis=1)
    usd = voters[0].cost_usd[rows, 0].copy()
    undecided = ~voters[0].vetoed[rows, voters[0].n_free]
    accepted = np.full(m, -1)
    for i in range(1, len(voters)):
        usd[undecided] += voters[i].cost_usd[rows, 0][undecided]
        equal = meaning[:, : i + 1] == meaning[:, [i]]
        settled = undecided & (equal.sum(axis=1) >= majority)
        accepted[settled] = np.argmax(equal[settled], axis=1)
        undecided &= ~settled
    escalated = accepted < 0
    usd[escalated] += premium.cost_usd[rows, 0][escalated]
    answer = np.take_along_axis(quality, np.maximum(accepted, 0)[:, None], axis=1)[:, 0]
    reference = premium.quality[rows, 0]
    return np.where(escalated, 0.0, reference - answer), usd


def consensus_rule(group: Group, columns: Columns, rows: Rows) -> dict[str, Any]:
    """The judge of a group's first model, with the accuracies of its models on the fit rows."""
    right = [float(columns[model][0].quality[rows, 0].sum()) for model in group]
    accuracies = [round((share + 1.0) / (len(rows) + 2.0), 2) for share in right]
    return {"use": "consensus", "models": list(group[1:]), "accuracies": accuracies}


async def with_consensus(
    columns: Columns,
    rows: Rows,
    limits: Sequence[float],
    n: int,
    score: Callable[[str, list[dict[str, Any]]], Awaitable[TierScores]],
) -> dict[str, list[TierScores]]:
    """The columns, and one more for each promising group: its first model's judges, and the consensus at their end.

    Args:
        columns: Each model's scores, the premium tier last.
        rows: The fit rows.
        limits: The losses that may be promised.
        n: How many rows will certify.
        score: Scores every row of a model by a list of judges.
    """
    each = max(2, MOST_GROUPS // max(len(limits), 1))
    groups = [
        group
        for limit in limits
        for group in promising_groups(columns, rows, limit, n, MOST_GROUPS if len(limits) == 1 else each)
    ]
    extended = {model: list(of_model) for model, of_model in columns.items()}
    rules = [(group[0], consensus_rule(group, columns, rows)) for group in dict.fromkeys(groups)]
    # Where all of a triple are asked, what all agree on can be told from what two do: dearer, but safer to begin tests with.
    triples = [(model, rule) for model, rule in rules if len(rule["models"]) > 1]
    rules += [(model, {**rule, "settle_at": len(rule["models"]) + 1}) for model, rule in triples[:1]]
    for model, rule in rules:
        own = [dict(rule) for rule in columns[model][0].rules]
        extended[model].append(await score(model, [*own, rule]))
    return extended


def has_consensus(column: TierScores) -> bool:
    """Whether other models' answers are among the evidence of this column."""
    return any(rule["use"] == "consensus" for rule in column.rules)


def without_consensus(columns: Columns) -> dict[str, list[TierScores]]:
    """The columns whose judges look at the model's own answers only."""
    return {model: [c for c in of_model if not has_consensus(c)] or list(of_model) for model, of_model in columns.items()}


def models_asked(column: TierScores) -> set[str]:
    """The models that the column's consensus judges ask."""
    return {model for rule in column.rules if rule["use"] == "consensus" for model in rule["models"]}
