"""Grading at once: sampled runs are graded in order, in the background, as soon as their shadow requests have ended.

Graders are in a package of the floor above, found by the entry points ``cascade.commands``; they are loaded only for a
policy that grades.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from cascade.engine.model_handle import ModelHandle
from cascade.errors import CascadeError, PolicyError
from cascade.journal.store import SqlStore
from cascade.policy.watch_spec import ShadowSpec
from cascade.util.commands import installed_commands, target_of

log = logging.getLogger("cascade.shadow")

MOST_WAITING = 10_000
"""Runs of a policy that wait to be graded; the oldest are left to ``cascade grade-shadows``."""
LONGEST_WAIT_S = 900.0
"""How long a run's shadow requests may take until it is left to ``cascade grade-shadows``."""
PAUSE_S = 60.0
"""Between attempts, where a judge model fails or the day's budget is spent."""
_LOOK_EVERY_S = 0.5
_COMMAND = "grade-shadows"


class Progress(Enum):
    """The outcome of grading a run."""

    DONE = "done"  # also where it cannot be graded
    LATER = "later"  # its shadow requests are under way, or the minute is full
    PAUSED = "paused"  # the budget is spent, or the judge model fails


class RunGrader(Protocol):
    """Grades the sampled runs of one policy, each at most once over all processes."""

    @property
    def on_feedback(self) -> bool:
        """Whether a run can be graded once it has feedback, and not before."""
        ...

    async def grade(self, run_id: str) -> Progress:
        """Grades one run, and records its label and its cost. Raises JournalError where the database is unavailable."""
        ...

    def restart(self) -> None:
        """In a forked child: begins with connections of its own."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class GradingSetup:
    """The parts of the service that a grader needs.

    Attributes:
        policy: The policy's name.
        spec: Its key ``shadow``.
        connect: Opens the journal's database.
        model: Returns a model of the policy file by its name. Raises PolicyError.
    """

    policy: str
    spec: ShadowSpec
    connect: Callable[[], SqlStore]
    model: Callable[[str], ModelHandle]


def open_grader(setup: GradingSetup) -> RunGrader:
    """The grader that a policy names. Raises PolicyError that names the key, where it cannot be used."""
    command = installed_commands().get(_COMMAND)
    key = f"policies.{setup.policy}.shadow.grade"
    if command is None or command.service is None:
        raise PolicyError(f"{key}: the package evals, which grades, is not installed: pip install 'cascade-gate[evals]'")
    try:
        grader: RunGrader = target_of(command.service)(setup)
    except (CascadeError, ImportError, OSError, ValueError) as error:
        raise PolicyError(f"{key}: {error}") from None
    return grader


class GradingQueues:
    """The runs that wait to be graded, by policy. ``add`` may be called from any thread.

    Args:
        graders: The grader of each policy.
    """

    def __init__(self, graders: Mapping[str, RunGrader]) -> None:
        self._graders = graders
        self.begin()

    def begin(self) -> None:
        """Drops the runs that wait."""
        self._waiting: dict[str, deque[tuple[str, float]]] = {name: deque(maxlen=MOST_WAITING) for name in self._graders}
        self.busy = 0

    def restart(self) -> None:
        """In a forked child: drops the runs that the parent queued, which the parent grades."""
        for grader in self._graders.values():
            grader.restart()
        self.begin()

    def add(self, policy: str, run_id: str) -> None:
        """Queues a sampled run that ended."""
        grader = self._graders.get(policy)
        if grader is not None and not grader.on_feedback:
            self._waiting[policy].append((run_id, time.monotonic()))

    def add_feedback(self, run_id: str) -> bool:
        """Queues a run that has feedback, whatever its policy. Returns whether any policy grades by feedback."""
        names = [name for name, grader in self._graders.items() if grader.on_feedback]
        for name in names:
            self._waiting[name].append((run_id, time.monotonic()))
        return bool(names)

    def start(self, is_closing: Callable[[], bool]) -> Sequence[asyncio.Task[None]]:
        """Works every queue in the running loop, until ``is_closing``."""
        return [asyncio.create_task(self._work(name, is_closing)) for name in self._graders]

    def close(self) -> None:
        """Closes the connections."""
        for grader in self._graders.values():
            grader.close()

    async def _work(self, policy: str, is_closing: Callable[[], bool]) -> None:
        grader, waiting = self._graders[policy], self._waiting[policy]
        while not is_closing():
            if not waiting:
                await asyncio.sleep(_LOOK_EVERY_S)
                continue
            run_id, since = waiting[0]
            progress = await self._grade(grader, policy, run_id)
            if progress is Progress.DONE or (progress is Progress.LATER and time.monotonic() - since > LONGEST_WAIT_S):
                with suppress(IndexError):
                    if waiting[0][0] == run_id:  # otherwise the queue was full, and it was dropped
                        waiting.popleft()
            elif progress is Progress.LATER:
                await asyncio.sleep(_LOOK_EVERY_S)
            else:
                await self._pause(is_closing)

    async def _grade(self, grader: RunGrader, policy: str, run_id: str) -> Progress:
        self.busy += 1
        try:
            return await grader.grade(run_id)
        except CascadeError as error:
            log.warning("policy %s: run %s cannot be graded now (%s)", policy, run_id, type(error).__name__)
            return Progress.PAUSED
        except Exception as error:  # whatever a user's grader raises
            log.error("policy %s: run %s was not graded (%s)", policy, run_id, type(error).__name__)
            return Progress.DONE
        finally:
            self.busy -= 1

    async def _pause(self, is_closing: Callable[[], bool]) -> None:
        end = time.monotonic() + PAUSE_S
        while time.monotonic() < end and not is_closing():
            await asyncio.sleep(_LOOK_EVERY_S)
