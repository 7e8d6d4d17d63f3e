"""run, stream, gate, feedback and their async forms, on one Cascade for each policy file that the process uses."""

import os
import threading
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from judges import Answer

from .client import Cascade, PromptLike
from .policy import load as files
from .result import Result

if TYPE_CHECKING:
    from cascade.engine.streaming import Event

_lock = threading.Lock()
_shared: dict[Path, Cascade] = {}


def _default(file: str | os.PathLike[str] | None) -> Cascade:
    path = files.find(file).resolve()
    with _lock:
        made = _shared.get(path)
    if made is None:
        made = Cascade(path)
        with _lock:
            made = _shared.setdefault(path, made)
    return made


async def arun(prompt: PromptLike, *, policy_file: str | os.PathLike[str] | None = None, **options: Any) -> Result:
    """``Cascade.arun`` on a shared instance; a policy file is read once in a process."""
    return await _default(policy_file).arun(prompt, **options)


def run(prompt: PromptLike, *, policy_file: str | os.PathLike[str] | None = None, **options: Any) -> Result:
    """``Cascade.run`` on a shared instance: ``policy``, ``schema``, ``budget_usd``, ``deadline_s`` and the rest."""
    return _default(policy_file).run(prompt, **options)


def astream(
    prompt: PromptLike, *, policy_file: str | os.PathLike[str] | None = None, **options: Any
) -> "AsyncGenerator[Event]":
    """``Cascade.astream`` on a shared instance."""
    return _default(policy_file).astream(prompt, **options)


def stream(prompt: PromptLike, *, policy_file: str | os.PathLike[str] | None = None, **options: Any) -> "Generator[Event]":
    """``Cascade.stream`` on a shared instance."""
    return _default(policy_file).stream(prompt, **options)


async def agate(
    prompt: PromptLike, answer: str | Answer, *, policy_file: str | os.PathLike[str] | None = None, **options: Any
) -> Result:
    """``Cascade.agate`` on a shared instance."""
    return await _default(policy_file).agate(prompt, answer, **options)


def gate(
    prompt: PromptLike, answer: str | Answer, *, policy_file: str | os.PathLike[str] | None = None, **options: Any
) -> Result:
    """``Cascade.gate`` on a shared instance."""
    return _default(policy_file).gate(prompt, answer, **options)


async def afeedback(
    run_id: str, *, quality: float, note: str | None = None, policy_file: str | os.PathLike[str] | None = None
) -> None:
    """``Cascade.afeedback`` on a shared instance."""
    await _default(policy_file).afeedback(run_id, quality=quality, note=note)


def feedback(
    run_id: str, *, quality: float, note: str | None = None, policy_file: str | os.PathLike[str] | None = None
) -> None:
    """``Cascade.feedback`` on a shared instance."""
    _default(policy_file).feedback(run_id, quality=quality, note=note)
