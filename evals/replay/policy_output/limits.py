"""How a policy's own settings affect its replay: limits that change answers, judges for which the recording has no data."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

import judges
from cascade import Policy, PolicyError, Result
from evals.recording import Example
from evals.replay.engine_check import run_engine
from evals.replay.rows.input_rows import ReplayError
from evals.replay.score_table import TierScores
from judges import Answer

LIMITS = ("max_calls", "max_samples", "budget_usd")
"""The limits of a policy whose effect a recording shows; that of a deadline differs from day to day."""


async def limit_notes(
    own: Policy,
    tuned: Policy,
    examples: Sequence[Example],
    rows: npt.NDArray[np.int64],
    unlimited: Sequence[Result],
    *,
    embeddings: Mapping[str, Answer] | None = None,
) -> str | None:
    """Says whether the policy's own limits change what the tuned policy returns.

    Args:
        own: The policy with its limits.
        tuned: The tuned policy, models named as in the recording, without limits.
        examples: The recording's rows.
        rows: The test rows.
        unlimited: What the tuned policy returned for each test row without limits.
        embeddings: Those of the prompts, by their texts.

    Returns:
        A sentence that names the limits, or None where no answer changes.
    """
    limits = {name: getattr(own, name) for name in LIMITS}
    if limits["max_samples"] is None and limits["budget_usd"] is None and own.max_calls >= 64:
        return None
    named = ", ".join(f"{name}: {value:g}" for name, value in limits.items() if value is not None)
    try:
        limited = await run_engine(tuned.model_copy(update=limits), examples, rows, embeddings=embeddings)
    except PolicyError as error:
        return f"The policy's limits ({named}) cannot be replayed: {error}."
    except ReplayError as error:
        return f"Under the policy's limits ({named}) not every prompt is answered: {error}."
    changed = sum(a.tier != b.tier or a.text != b.text for a, b in zip(limited, unlimited, strict=True))
    if not changed:
        return None
    return (
        f"The policy's limits ({named}) change {changed:,} of {len(rows):,} answers on the test rows, so that the "
        "thresholds do not do what they were tested for; raise the limits."
    )


def silent_judges(scores: Mapping[str, Sequence[TierScores]]) -> list[str]:
    """Warnings about scoring judges that could not score any answer of the recording."""
    warnings = []
    for model, columns in scores.items():
        for j, (rule, name) in enumerate(zip(columns[0].rules, columns[0].names, strict=True)):
            judge = judges.make(rule["use"], **{k: v for k, v in rule.items() if k != "use"})
            if not judge.only_vetoes and np.isnan(columns[0].scores[:, j]).all():
                warnings.append(
                    f"{model}: the judge {name} scores no answer of this recording, so the calibration does not rely on it; "
                    "record with --policy-file, so that what it reads is recorded too"
                )
    return warnings
