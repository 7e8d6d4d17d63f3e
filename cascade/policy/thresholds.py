"""A tier's thresholds: what a confidence is compared with."""

from dataclasses import dataclass, replace

NO_TASK = "(no task)"
"""The task of runs that have none, in thresholds by task and in a replay."""


@dataclass(frozen=True, slots=True)
class Thresholds:
    """A tier's thresholds: one pair for each stage, a stage being the judges up to and including one of them.

    At a stage the answer is accepted at once where confidence >= ``accept_at[stage]``, given up at once where confidence <
    ``reject_below[stage]``, and judged on in between; None means "not at this stage". After the last stage ``final``
    decides: confidence >= final accepts. A threshold of 0 accepts everything that no judge vetoed. Before the tier is asked,
    it is skipped where the probability that it will be right, by the prompt alone, is below ``skip_below``; None: never.
    """

    final: float
    accept_at: tuple[float | None, ...] = ()
    reject_below: tuple[float | None, ...] = ()
    skip_below: float | None = None


def raised(thresholds: Thresholds, min_confidence: float | None) -> Thresholds:
    """The thresholds of a call that accepts nothing below ``min_confidence``; None: they stay as they are.

    What is given up at once, and what is skipped by the prompt, stays the same.
    """
    if min_confidence is None:
        return thresholds
    return replace(
        thresholds,
        final=max(thresholds.final, min_confidence),
        accept_at=tuple(None if at is None else max(at, min_confidence) for at in thresholds.accept_at),
    )
