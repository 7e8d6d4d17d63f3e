"""The keywords of ``run``, ``gate`` and their relatives, as types.

``arun`` and ``agate`` name each keyword. ``run``, ``gate`` and the streams take them as
``**options: Unpack[RunOptions]``, and show them by name in ``help()``. Use the types for a wrapper of your own:

    def ask(prompt: str, **options: Unpack[RunOptions]) -> str:
        return cascade.run(prompt, **options).text

This module is public.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypedDict, TypeVar

from cascade.models.protocol import Request
from judges import Message, Prompt

if TYPE_CHECKING:
    from pydantic import BaseModel

    from cascade.engine.streaming import Event

PromptLike: TypeAlias = str | Sequence[Message] | Prompt
"""A prompt: text, chat messages in OpenAI's shape, or a Prompt."""

PathLike: TypeAlias = str | os.PathLike[str]
"""The path of a file."""

Schema: TypeAlias = type["BaseModel"] | Mapping[str, Any]
"""The shape of the answer: a pydantic model class, or a JSON Schema."""

SchemaT = TypeVar("SchemaT", bound="BaseModel")
"""The pydantic model class that ``schema=`` gives."""

Tags: TypeAlias = Mapping[str, str | int | float | bool]
"""The caller's own labels of a run, kept in the journal."""

StreamMode: TypeAlias = Literal["held", "optimistic"]
"""``held``: text is streamed once its answer is accepted. ``optimistic``: at once, and retracted if it is rejected."""

SharedBudgets: TypeAlias = tuple[tuple[str, float], ...]
"""Budgets that runs share: (scope, USD per UTC day)."""

OnEvent: TypeAlias = Callable[["Event"], object]
"""Receives each event of a run as it happens."""


class StreamOptions(TypedDict, total=False):
    """What ``stream`` and ``astream`` accept in addition to ``prompt`` and ``schema``; ``Cascade.arun`` documents each."""

    policy: str
    system: str | None
    tools: Sequence[Mapping[str, Any]]
    budget_usd: float | None
    deadline_s: float | None
    min_confidence: float | None
    max_latency_s: float | None
    session: str | None
    tags: Tags | None
    stream: StreamMode | None
    request: Request
    daily: SharedBudgets


class RunOptions(StreamOptions, total=False):
    """What ``run`` and ``arun`` accept in addition to ``prompt`` and ``schema``."""

    on_event: OnEvent | None


class GateOptions(TypedDict, total=False):
    """What ``gate`` and ``agate`` accept in addition to ``prompt``, ``answer`` and ``schema``."""

    policy: str
    tier: str | None
    system: str | None
    min_confidence: float | None
    tags: Tags | None
    daily: SharedBudgets
