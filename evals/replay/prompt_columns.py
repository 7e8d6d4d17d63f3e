"""The prompts of a recording beside its score columns, for tuning that looks at them."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from evals.recording import Example

from .prompt_predictor import prompt_table
from .score_table import TierScores


def with_prompts(columns: Mapping[str, Sequence[TierScores]], examples: Sequence[Example]) -> dict[str, list[TierScores]]:
    """The columns with the features of the rows' prompts."""
    table = prompt_table(examples)
    return {model: [replace(column, prompts=table) for column in each] for model, each in columns.items()}


def prompt_notes(columns: Mapping[str, Sequence[TierScores]], fit_rows: npt.NDArray[np.int64], seed: int) -> list[str]:
    """For each model, what its prompts told on the fit rows; empty where prompts are not looked at."""
    return [
        f"{model}: {each[0].prompts.fit(each[0].quality[:, 0], fit_rows, seed).note}"
        for model, each in columns.items()
        if each[0].prompts is not None
    ]
