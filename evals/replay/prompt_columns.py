"""Adds the prompts of a recording to its score columns, for tuning that reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evals.recording import Example

from .prompt_predictor import EmbeddingColumns, most_weights_each, prompt_table
from .score_table import TierScores


def with_prompts(
    columns: Mapping[str, Sequence[TierScores]],
    examples: Sequence[Example],
    *,
    has_tasks: bool = False,
    embeddings: EmbeddingColumns | None = None,
) -> dict[str, list[TierScores]]:
    """The columns with the features of the rows' prompts, but for the premium tier, which is asked whatever its prompt.

    Args:
        columns: The columns by model, the premium tier last.
        examples: The rows.
        has_tasks: Whether the rows' tasks are known of every prompt in production, too, and so are a feature.
        embeddings: The embeddings of the rows' prompts; None: there are none.
    """
    tasks = [example.task or None for example in examples] if has_tasks else None
    table = prompt_table(examples, tasks, embeddings, most_weights=most_weights_each(len(columns) - 1))
    premium = list(columns)[-1]
    return {
        model: [column if model == premium else replace(column, prompts=table) for column in each]
        for model, each in columns.items()
    }


def prompt_notes(columns: Mapping[str, Sequence[TierScores]], fit_rows: npt.NDArray[np.int64], seed: int) -> list[str]:
    """For each model whether its prompts help on the fit rows, and why not; empty where prompts are not read."""
    models: dict[str, list[str]] = {}
    for model, each in columns.items():
        if each[0].prompts is not None:
            models.setdefault(each[0].prompts.fit(each[0].quality[:, 0], fit_rows, seed).note, []).append(model)
    return [f"{', '.join(of_note)}: {note}" for note, of_note in models.items()]
