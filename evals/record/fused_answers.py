"""The candidates of a fused answer: recorded answers of the same row where they are there already, else new ones."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from cascade.models.protocol import Request
from cascade.util.totals import total
from evals.common.answer_rows import join_parts, to_answer
from evals.common.types import ANSWER
from judges import Answer, Prompt

from .checkpoint import Checkpoint
from .client import AnswerSource, Reply, RequestFailedError
from .plan import FusedModels

TEMPERATURE = 0.7


class Recording(Protocol):
    """The parts of a recorder that are needed here."""

    @property
    def clients(self) -> Mapping[str, AnswerSource]: ...
    @property
    def checkpoint(self) -> Checkpoint: ...
    @property
    def model_numbers(self) -> dict[str, int]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """The candidates of one row.

    Attributes:
        answers: Of each model, in order.
        usd: What they cost, also those that were there already; None where unknown.
        latency_s: The seconds of the slowest model; None where unknown.
        replies: The requests that were sent for them.
    """

    answers: tuple[Answer, ...]
    usd: float | None
    latency_s: float | None
    replies: tuple[Reply, ...]


async def gather_candidates(recording: Recording, fuse: FusedModels, row: int, prompt: Prompt) -> Candidates:
    """The candidates of a row; a model that fails has none. Raises StoppedError, OSError."""
    each = await asyncio.gather(
        *(
            _of_model(recording, name, key, fuse.samples, row, prompt)
            for name, key in zip(fuse.names, fuse.keys, strict=True)
        )
    )
    seconds = [one.latency_s for one in each if one.answers]
    stated = [latency_s for latency_s in seconds if latency_s is not None]
    return Candidates(
        answers=tuple(answer for one in each for answer in one.answers),
        usd=total(one.usd for one in each),
        latency_s=max(stated, default=0.0) if len(stated) == len(seconds) else None,
        replies=tuple(reply for one in each for reply in one.replies),
    )


async def _of_model(recording: Recording, name: str, key: str, count: int, row: int, prompt: Prompt) -> Candidates:
    client, number = recording.clients[name], recording.model_numbers.get(key)
    answers: list[Answer] = []
    costs: list[float | None] = []
    seconds: list[float | None] = []
    replies: list[Reply] = []
    if number is not None and recording.checkpoint.has_part(row, number, ANSWER):
        fields = join_parts(recording.checkpoint.parts(row, number))
        if fields is not None:
            answers.append(to_answer(fields, client.model.name))
            costs.append(fields.get("cost_usd"))
            seconds.append(fields.get("latency_s"))
    requests = [] if answers else [Request()]
    # A request for each sample: not every provider gives several at once.
    requests += [Request(temperature=TEMPERATURE, sample=True, sample_offset=i) for i in range(count - 1)]
    for outcome in await asyncio.gather(*(client.ask(prompt, request) for request in requests), return_exceptions=True):
        if isinstance(outcome, RequestFailedError):
            continue
        if isinstance(outcome, BaseException):
            raise outcome
        replies.append(outcome)
        answers += outcome.answers[:1]
        costs.append(outcome.usd)
        seconds.append(outcome.latency_s)
    stated = [latency_s for latency_s in seconds if latency_s is not None]
    return Candidates(
        answers=tuple(answers),
        usd=total(costs),
        latency_s=max(stated, default=0.0) if len(stated) == len(seconds) else None,
        replies=tuple(replies),
    )
