"""A run as a stream of events: text is sent once it cannot be retracted, and events that are ready are sent together."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from cascade.engine.streaming import Event, Reasoning, Retracted, TierStarted, Token
from cascade.policy.schema import ModelSpec
from cascade.result import Result

from .errors import ApiError, api_error_of
from .request import GatewayRequest
from .run_request import check_schema, run_options

if TYPE_CHECKING:
    from .auth.keys import Caller
    from .endpoint import Reply
    from .state import Gateway

_KEEP_ALIVE_S = 10.0  # the longest silence: a proxy closes a connection that stays silent for long


class Writer(Protocol):
    """Writes a run as the events of one interface."""

    def text(self, text: str, model: str) -> bytes:
        """A piece of the answer, written by ``model``."""
        ...

    def reasoning(self, reasoning: Reasoning, model: str) -> bytes:
        """A piece of what ``model`` thought before it answered."""
        ...

    def refusal(self, text: str, model: str) -> bytes:
        """A piece of what ``model``'s provider marks as a refusal."""
        ...

    def keep_alive(self) -> bytes:
        """An event without content, so that the connection stays open."""
        ...

    def end(self, result: Result) -> bytes:
        """The events after the text: tool calls, the finish reason, the run."""
        ...

    def close(self, results: Sequence[Result]) -> bytes:
        """The events after the last choice."""
        ...

    def error(self, error: ApiError) -> bytes:
        """An error after the stream has started."""
        ...


async def stream(
    gateway: "Gateway", caller: "Caller", request: GatewayRequest, reply: "Reply", writers: Sequence[Writer]
) -> None:
    """Runs a request and sends its events.

    Before the first event, an error is a response with its status; afterwards it is an event.

    Args:
        gateway: What all requests share.
        caller: Who sent it.
        request: What to run.
        reply: Receives the events.
        writers: One for each choice, with a run of its own; the runs are concurrent.

    Raises:
        ApiError: The request cannot be run with this key, policy or models.
        CascadeError: As ``Cascade.arun``, before the first event.
    """
    config = gateway.active
    options = run_options(config, caller, request)
    await check_schema(gateway, request)
    awake = asyncio.Event()
    pipes = [_Pipe(writer, config.models, awake) for writer in writers]
    with config as cascade:
        prompt = request.prompt
        runs = [
            asyncio.ensure_future(
                # Text that was sent over HTTP cannot be retracted, whatever the policy says.
                cascade.arun(prompt, request=request.model_request(i), on_event=pipe.on_event, stream="held", **options)
            )
            for i, pipe in enumerate(pipes)
        ]
        unfinished = len(runs)

        def run_ended(_: "asyncio.Future[Result]") -> None:
            nonlocal unfinished
            unfinished -= 1
            awake.set()

        for run in runs:
            run.add_done_callback(run_ended)
        silence = _Silence(awake)
        silence.watch()
        try:
            while unfinished or awake.is_set():
                await awake.wait()
                awake.clear()
                if content := silence.end(pipes):
                    if not reply.started:
                        await reply.start_events()
                    await reply.send_chunk(content)
            results = [await run for run in runs]
        except asyncio.CancelledError:
            if reply.started and gateway.closing.is_set():
                error = ApiError(503, "the gateway stopped before the run ended; try again", code="shutting_down")
                await reply.send_chunk(writers[0].error(error), last=True)
            raise
        except Exception as error:
            api_error = api_error_of(error)
            if not reply.started:
                raise api_error from None
            await reply.send_chunk(writers[0].error(api_error), last=True)
            return
        finally:
            silence.stop()
            await _end_runs(runs)
    if not reply.started:
        await reply.start_events()
    ends = [writer.end(result) for writer, result in zip(writers, results, strict=True)]
    await reply.send_chunk(b"".join((*ends, writers[0].close(results))), last=True)


async def _end_runs(runs: Sequence["asyncio.Future[Result]"]) -> None:
    """Cancels the runs that are not done, and waits for them."""
    unfinished = [run for run in runs if not run.done()]
    for run in unfinished:
        run.cancel()
    if unfinished:
        await asyncio.wait(unfinished)
    for run in runs:
        if not run.cancelled():
            run.exception()  # it was reported already


@dataclass(slots=True)
class _Silence:
    """Wakes a stream that has sent nothing for long, by one timer for all its events: a timeout for each would cost more."""

    _awake: asyncio.Event
    _sent: bool = True  # since the timer was set
    _is_long: bool = False
    _timer: asyncio.TimerHandle | None = None

    def watch(self) -> None:
        """Checks again after half of the longest silence."""
        self._timer = asyncio.get_running_loop().call_later(_KEEP_ALIVE_S / 2, self._look)

    def _look(self) -> None:
        if not self._sent:
            self._is_long = True
            self._awake.set()
        self._sent = False
        self.watch()

    def end(self, pipes: "Sequence[_Pipe]") -> bytes:
        """The bytes to send now: the events that are ready, or a keep-alive event after a long silence.

        Raises ApiError where some that were sent have become void.
        """
        content = pipes[0].take() if len(pipes) == 1 else b"".join([pipe.take() for pipe in pipes])
        if content:
            self._sent = True
        elif self._is_long:
            content = pipes[0].writer.keep_alive()
        self._is_long = False
        return content

    def stop(self) -> None:
        """Stops checking."""
        if self._timer is not None:
            self._timer.cancel()


@dataclass(slots=True)
class _Pipe:
    """Events of one run, as bytes, until they are sent."""

    writer: Writer
    _specs: Mapping[str, ModelSpec]
    _awake: asyncio.Event
    _models: dict[str, str] = field(default_factory=dict)  # the providers' names of the models, by tier
    _sent: bool = False
    ready: list[bytes] = field(default_factory=list)
    retracted: bool = False

    def on_event(self, event: Event) -> None:
        if isinstance(event, Token):
            write = self.writer.refusal if event.refusal else self.writer.text
            self._add(write(event.text, self._models[event.tier]))
        elif isinstance(event, Reasoning):
            self._add(self.writer.reasoning(event, self._models[event.tier]))
        elif isinstance(event, TierStarted):
            spec = self._specs.get(event.model)
            self._models[event.tier] = (spec.model if spec is not None else None) or event.model
        elif isinstance(event, Retracted):
            self.ready.clear()
            self.retracted = self._sent
            self._awake.set()

    def _add(self, content: bytes) -> None:
        self.ready.append(content)
        self._awake.set()

    def take(self) -> bytes:
        """The events that are ready. Raises ApiError where some that were sent have become void."""
        if self.retracted:
            raise ApiError(502, "the answer was cut off after parts of it were sent; try again", code="retracted")
        ready, self.ready = self.ready, []
        self._sent = self._sent or bool(ready)
        return b"".join(ready)
