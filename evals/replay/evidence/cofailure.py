"""How often at least one of several models is right: what no choice among their answers can exceed (arXiv 2606.27288)."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.replay.score_table import TierScores
from evals.replay.statistics.significance import clopper_pearson

RIGHT = 0.5
LEVEL = 0.05


def cofailure(
    columns: Mapping[str, Sequence[TierScores]], models: Sequence[str], rows: npt.NDArray[np.int64]
) -> dict[str, Any]:
    """The ceiling 1 - P(all models are wrong); an answer is wrong where its quality is below 0.5.

    Args:
        columns: Each model's scores.
        models: The models to look at.
        rows: The rows to measure on.

    Returns:
        ``models``, ``n``, ``all_wrong`` (rows), ``ceiling``, and ``interval``, its exact 95 % interval (Clopper & Pearson).
    """
    right = np.stack([columns[model][0].quality[rows, 0] >= RIGHT for model in models], axis=1)
    n, all_wrong = len(rows), int((~right.any(axis=1)).sum())
    low, high = clopper_pearson(all_wrong, n, LEVEL)
    return {
        "models": list(models),
        "n": n,
        "all_wrong": all_wrong,
        "ceiling": 1 - all_wrong / n,
        "interval": [1 - high, 1 - low],
    }


def in_words(entries: Sequence[Mapping[str, Any]]) -> str:
    """The ceilings as text, one line each."""
    lines = []
    for entry in entries:
        low, high = (100 * end for end in entry["interval"])
        n = len(entry["models"])
        who = f"all {n}" if entry is entries[-1] else f"the first {n}"
        lines.append(
            f"ceiling: one of {who} models is right on {100 * entry['ceiling']:.1f} % of the rows "
            f"(exact 95 % interval {low:.1f} to {high:.1f})"
        )
    return "\n".join(lines)
