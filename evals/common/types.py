"""The recorded parts of an answer, which the recorder writes and the recording is built from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

ANSWER, SAMPLES = "answer", "samples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part of what a model was asked about a row: its answer, its samples or a judge's verdict.

    Attributes:
        name: ``ANSWER``, ``SAMPLES`` or the judge's name.
        count: How many answers the part holds; 0 where the request failed.
        usd: What it cost in USD; None where that is unknown.
        content: The recorded answer, samples or verdict; of a failure its kind, message and number of tries.
    """

    name: str
    count: int
    usd: float | None
    content: Mapping[str, Any]
