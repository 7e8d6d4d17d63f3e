"""Rows of a journal's export as a sample of its traffic.

A row that every tier answered because its run escalated is not representative of prompts that did not escalate. Where
prompts were drawn at random to be answered by every tier, each drawn row states the probability, and only drawn rows are
used. Where the probabilities differ, rows are thinned to the smallest one: a row is used with probability (smallest / its
own). What remains is a sample with equal probabilities, for which every test and interval of a replay holds as it stands.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from evals.recording import Example

from .input_rows import ReplayError, preview

FIELD = "sampling_probability"
LEFT_OUT = "incomplete_left_out"
"""The field of an escalated row that says how many incomplete rows an export left out beside it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How rows were chosen by their sampling probabilities.

    ``n_used`` rows are used; ``n_undrawn`` were left out because they were not drawn at random, ``n_thinned`` so that all
    rows have the probability ``smallest``.
    """

    n_used: int
    n_undrawn: int
    n_thinned: int
    smallest: float

    @property
    def n_left_out(self) -> int:
        """How many rows are left out."""
        return self.n_undrawn + self.n_thinned

    def __str__(self) -> str:
        parts = [f"{self.n_used:,} rows used as a sample of the traffic, drawn with probability {self.smallest:g}"]
        if self.n_undrawn:
            parts.append(f"{self.n_undrawn:,} left out that were not drawn at random")
        if self.n_thinned:
            parts.append(f"{self.n_thinned:,} left out at random, so that the probability is the same for all")
        return "; ".join(parts)


def sampled_rows(examples: Sequence[Example], *, n_incomplete: int, seed: int = 0) -> tuple[list[Example], Sampling | None]:
    """Takes the rows that are a sample of the traffic.

    Args:
        examples: The rows that every tier answered.
        n_incomplete: How many other rows of the recording some tier did not answer, apart from those that the export left
            out and counts in its rows.
        seed: The seed of the thinning.

    Returns:
        The rows, and how they were chosen: None where no row states a probability, so that all are used.

    Raises:
        ReplayError: A probability is not valid, or rows are complete only because they escalated, while others are not.
    """
    probabilities = [example.raw.get(FIELD) for example in examples]
    for example, value in zip(examples, probabilities, strict=True):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1):
            raise ReplayError(f"example {example.id!r}: {FIELD} must lie in (0, 1], got {value!r}")
    sample = [i for i, value in enumerate(probabilities) if value is not None]
    if not sample:
        escalated = [example.id for example in examples if example.raw.get("escalated") is True]
        n_left_out = max((_count(example.raw.get(LEFT_OUT)) for example in examples), default=0)
        n_incomplete += n_left_out
        if n_incomplete and escalated:
            raise ReplayError(
                f"{len(escalated):,} of the {len(examples):,} rows that every tier answered are complete only because they "
                f"escalated ({preview(escalated, 3)}), and {n_incomplete:,} rows are not complete: the former are no sample "
                "of the traffic, and thresholds tuned on them would be biased. "
                f"{'Export again without --complete, then ask' if n_left_out else 'Ask'} for the missing answers: cascade "
                "record RECORDING --missing --policy-file FILE --out complete.jsonl; or let all tiers answer a random share "
                "of the traffic (`shadow` in the policy), and export again"
            )
        return list(examples), None
    sample_probabilities = np.array([float(probabilities[i] or 1.0) for i in sample])
    smallest = float(sample_probabilities.min())
    stays = np.random.default_rng([seed, 17]).random(len(sample)) < smallest / sample_probabilities
    rows = [examples[i] for i, stay in zip(sample, stays, strict=True) if stay]
    return rows, Sampling(
        n_used=len(rows),
        n_undrawn=len(examples) - len(sample),
        n_thinned=len(sample) - len(rows),
        smallest=smallest,
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
