"""Models whose requests are sent beside the workers of Ray: the caller keeps limits, budget and files.

Each worker has a process of its own that sends them and outlives it (``sender``). Requests go to the worker that the hash
of their messages names. They travel many at a time: a call of a Ray actor takes
0.7 ms, which is as long as recording an answer.
"""

import asyncio
import itertools
import os
import pickle
import sys
import uuid
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

from cascade.models.protocol import ModelError, Request
from cascade.models.recorded import prompt_key
from cascade.policy.schema import ModelSpec
from judges import Answer, Prompt

from .calls import Call, Fault, Outcome
from .model_worker import ModelWorker
from .protocol import EngineError

# Ray reports its usage to its makers unless it is told otherwise before it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# Of several shards that fail, one error is shown, by the command itself.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
# Ray runs its workers at nice 15, so that beside anything else on the machine they get a thirtieth of a core. They are the
# command at work, and run as it does.
os.environ.setdefault("RAY_worker_niceness", "0")
# Nobody reads what Ray would collect for its dashboard, which is not started.
os.environ.setdefault("RAY_task_events_report_interval_ms", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")
# By their names, because Ray is optional and only partly typed.
ray: Any = import_module("ray")
exceptions: Any = import_module("ray.exceptions")

_COLLECT_S = 5.0
_CLOSE_S = 5.0
_MAX_DEATHS = 5  # of a worker in one place, without a reply between them


class WorkerModel:
    """Implements Model: its requests are sent beside workers. ``model`` is its name at the provider."""

    def __init__(self, name: str, spec: ModelSpec, workers: "ModelWorkers") -> None:
        self.name, self.model = name, spec.model or name
        self._spec, self._workers = spec, workers

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """See Model. A sender that dies with the request under way is a ModelError: the request may have been paid."""
        outcome = await self._workers.call(self.name, self._spec, prompt, request)
        if isinstance(outcome, Fault):
            raise outcome.to_error()
        return outcome

    async def close(self) -> None:
        """Ends the exchange with the workers, which all models share."""
        await self._workers.close()


class ModelWorkers:
    """The workers that send requests, and the exchange with them; one for all models of a command.

    Args:
        number: How many workers.
    """

    def __init__(self, number: int) -> None:
        run = uuid.uuid4().hex
        self._numbers = itertools.count()
        self._places = [_Place(run, place) for place in range(number)]

    async def call(self, name: str, spec: ModelSpec, prompt: Prompt, request: Request) -> Outcome:
        """Sends a request and waits for its outcome."""
        place = self._places[int(prompt_key(prompt.messages)[:8], 16) % len(self._places)]
        return await place.call(Call(number=next(self._numbers), name=name, spec=spec, prompt=prompt, request=request))

    async def close(self) -> None:
        """Ends the exchange."""
        await asyncio.gather(*(place.close() for place in self._places))

    def end(self) -> None:
        """Ends the workers."""
        for place in self._places:
            place.end()

    async def process_ids(self) -> list[int]:
        """The workers' processes, in their order."""
        return [await place.process_id() for place in self._places]


class _Place:
    """One worker, and whoever takes its place when it dies."""

    def __init__(self, run: str, place: int) -> None:
        self._run, self._place = run, place
        self._actor: Any = None
        self._queue: list[Call] = []
        self._waiting: dict[int, asyncio.Future[Outcome]] = {}
        self._sent: dict[int, Call] = {}
        self._received: list[int] = []
        self._node: str | None = None
        self._sender: str | None = None
        self._deaths = 0
        self._wake = asyncio.Event()
        self._exchange: asyncio.Task[None] | None = None
        self._collecting: asyncio.Future[Any] | None = None

    async def call(self, call: Call) -> Outcome:
        """Queues a request and waits for its outcome."""
        if self._exchange is None or self._exchange.done():
            self._wake = asyncio.Event()  # of the event loop that runs now
            self._exchange = asyncio.create_task(self._run_exchange())
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting[call.number] = future
        self._queue.append(call)
        self._wake.set()
        try:
            return await future
        finally:
            self._waiting.pop(call.number, None)

    async def _run_exchange(self) -> None:
        """Sends and collects; whenever the worker dies, another one continues."""
        try:
            while True:
                try:
                    await self._start()
                    async with asyncio.TaskGroup() as group:
                        group.create_task(self._send())
                        group.create_task(self._collect())
                except* (exceptions.RayActorError, ConnectionError, FileNotFoundError):  # the worker's end, or its sender's
                    self._deaths += 1
                    print(f"\nworker {self._place + 1} died; another takes its place", file=sys.stderr, flush=True)
                    if self._deaths > _MAX_DEATHS:
                        raise EngineError(
                            f"the worker in place {self._place + 1} has died {self._deaths} times without a reply; look at "
                            "the memory of the machines"
                        ) from None
        except BaseException as error:
            # Nobody may wait for a reply that cannot come.
            why = error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(_final_error(why))
            if not isinstance(error, Exception):
                raise

    async def _start(self) -> None:
        """Starts a worker, on the machine of the one before it, whose sender is there.

        What that sender has received is used, what it has sent is waited for, and what did not reach it is sent. Where the
        sender died, too, replies that it had stored are used, and the rest are errors.
        """
        self.end()
        options: dict[str, Any] = {"max_concurrency": 1000, "num_cpus": 0}
        if self._node is not None:
            strategies = import_module("ray.util.scheduling_strategies")
            options["scheduling_strategy"] = strategies.NodeAffinitySchedulingStrategy(self._node, soft=True)
        self._actor = ray.remote(ModelWorker).options(**options).remote(self._run, self._place)
        custody = await self._actor.attach.remote(sorted(self._sent))
        missing = sorted(set(self._sent) - set(custody.outcomes) - set(custody.under_way))
        for number, data in custody.outcomes.items():
            self._resolve(number, pickle.loads(data))
        if custody.sender == self._sender:
            self._queue[:0] = [self._sent.pop(number) for number in missing]
            self._wake.set()
        else:
            for number in missing:
                self._resolve(number, None)
        self._sender, self._node = custody.sender, await self._actor.node.remote()

    async def _send(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            calls, self._queue = self._queue, []
            received, self._received = self._received, []
            self._sent.update((call.number, call) for call in calls)
            await self._actor.send.remote(calls, received)

    async def _collect(self) -> None:
        while True:
            # Shielded, since Ray prints a traceback about a reply to a call that was cancelled here.
            self._collecting = asyncio.ensure_future(_reply_to(self._actor.collect.remote(_COLLECT_S)))
            for number, data in (await asyncio.shield(self._collecting)).items():
                self._resolve(number, pickle.loads(data))
                self._deaths = 0

    def _resolve(self, number: int, outcome: Outcome | None) -> None:
        """Hands an outcome over; None is a request that was under way when its sender died."""
        self._sent.pop(number, None)
        self._received.append(number)
        future = self._waiting.get(number)
        if future is None or future.done():
            return
        if outcome is None:
            future.set_exception(
                ModelError(
                    "the process that sent the request died before the response", model="", retryable=True, kind="connection"
                )
            )
        else:
            future.set_result(outcome)

    async def process_id(self) -> int:
        """The worker's process."""
        return int(await self._actor.process_id.remote())

    async def close(self) -> None:
        """Ends the exchange, and closes the worker's connections."""
        if self._exchange is None:
            return
        self._exchange.cancel()
        with suppress(asyncio.CancelledError):
            await self._exchange
        self._exchange = None
        self._queue, self._sent, self._received = [], {}, []
        if self._actor is not None:
            with suppress(exceptions.RayError, TimeoutError):
                await asyncio.wait_for(self._actor.close.remote(), _CLOSE_S)
                if self._collecting is not None:
                    await asyncio.wait_for(self._collecting, _CLOSE_S)
        self.end()

    def end(self) -> None:
        """Ends the worker."""
        if self._actor is not None:
            ray.kill(self._actor)
            self._actor = None


async def _reply_to(call: Any) -> Any:
    return await call


def _final_error(error: BaseException) -> Exception:
    """What callers get whose request no worker can send any more."""
    if isinstance(error, exceptions.RayTaskError):
        error = error.cause
    return ModelError(f"--engine: {error}", model="", status=401)
