"""The side of a worker that sends requests to models: replies are on its disk before they are handed over.

A worker that is killed leaves the replies that it has received, and that nobody has fetched, in its folder. The worker
that takes its place finds them there, so that no request is sent again whose reply had arrived.
"""

import asyncio
import os
import pickle
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cascade.errors import CascadeError
from cascade.models.factory import build
from cascade.models.protocol import Model, ModelError, Request
from cascade.policy.schema import ModelSpec
from cascade.result import FaultKind
from judges import Answer, Prompt, Usage

_LINGER_S = 0.002  # after the first reply, so that replies that arrive together are handed over together
_UNAUTHORIZED = 401


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to be sent: its number among all of the caller's, the model's name and entry, the request."""

    number: int
    name: str
    spec: ModelSpec
    prompt: Prompt
    request: Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """The fields of a ModelError, which cannot be pickled itself."""

    message: str
    model: str
    retryable: bool
    status: int | None
    usage: Usage | None
    retry_after_s: float | None
    kind: FaultKind

    @classmethod
    def of(cls, error: ModelError) -> "Fault":
        """The fields of an error."""
        return cls(
            message=str(error), model=error.model, retryable=error.retryable, status=error.status, usage=error.usage,
            retry_after_s=error.retry_after_s, kind=error.kind,
        )  # fmt: skip

    def to_error(self) -> ModelError:
        """The error."""
        return ModelError(
            self.message, model=self.model, retryable=self.retryable, status=self.status, usage=self.usage,
            retry_after_s=self.retry_after_s, kind=self.kind,
        )  # fmt: skip


Outcome = tuple[Answer, ...] | Fault


class ModelWorker:
    """Sends requests, many at once, and hands their replies over in the order in which they arrive.

    Args:
        run: The name of the caller's run, the same for all of its workers.
        place: This worker's number among them. A worker that takes another's place gets its number.
    """

    def __init__(self, run: str, place: int) -> None:
        self.folder = Path(tempfile.gettempdir()) / f"cascade-{os.getuid()}-{run}" / str(place)
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._models: dict[str, Model] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._finished: dict[int, Outcome] = {}
        self._any_finished = asyncio.Event()

    async def process_id(self) -> int:
        """The worker's process."""
        return os.getpid()

    async def recover(self, numbers: Sequence[int]) -> Mapping[int, Outcome]:
        """The replies to these calls that the worker before this one had received."""
        outcomes: dict[int, Outcome] = {}
        for number in numbers:
            # What was cut off by the kill is not there under this name.
            with suppress(FileNotFoundError):
                outcomes[number] = pickle.loads((self.folder / str(number)).read_bytes())
        self.forget(numbers)
        return outcomes

    async def send(self, calls: Sequence[Call], received: Sequence[int]) -> None:
        """Begins to send requests.

        Args:
            calls: The requests.
            received: The numbers of earlier calls whose replies the caller has.
        """
        self.forget(received)
        for call in calls:
            task = asyncio.create_task(self._answer(call))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def collect(self, wait_s: float) -> Mapping[int, Outcome]:
        """The replies since the last call; waits for one so many seconds."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._any_finished.wait(), wait_s)
            await asyncio.sleep(_LINGER_S)
        outcomes, self._finished = self._finished, {}
        self._any_finished.clear()
        return outcomes

    async def _answer(self, call: Call) -> None:
        outcome: Outcome
        try:
            if call.name not in self._models:
                self._models[call.name] = build(call.name, call.spec)
            outcome = tuple(await self._models[call.name].answer(call.prompt, call.request))
        except ModelError as error:
            outcome = Fault.of(error)
        except CascadeError as error:  # its key is not in the worker's environment
            outcome = _fault(call, f"a worker cannot use it: {error}", _UNAUTHORIZED, Usage())
        except Exception as error:
            outcome = _fault(call, f"{call.name}: the worker failed with {type(error).__name__}", None, None)
        self._store(call.number, outcome)
        self._finished[call.number] = outcome
        self._any_finished.set()

    def _store(self, number: int, outcome: Outcome) -> None:
        """Puts a reply into the folder; a full disk only means that a kill would lose it."""
        with suppress(OSError):
            half = self.folder / f"{number}.half"
            with open(half, "xb", buffering=0, opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
                file.write(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))
            os.replace(half, self.folder / str(number))

    def forget(self, numbers: Sequence[int]) -> None:
        """Removes replies from the folder."""
        for number in numbers:
            with suppress(OSError):
                os.unlink(self.folder / str(number))

    async def close(self) -> None:
        """Drops the requests under way, closes the connections, removes the folder."""
        self._any_finished.set()  # ends a collect
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for model in self._models.values():
            await model.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            self.folder.parent.rmdir()


def _fault(call: Call, message: str, status: int | None, usage: Usage | None) -> Fault:
    return Fault(
        message=message, model=call.name, retryable=False, status=status, usage=usage, retry_after_s=None, kind="other"
    )
