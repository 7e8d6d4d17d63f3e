"""A model that gives scripted answers, delays and faults: for tests, the project's own and its users'."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from judges import Answer, Prompt
from judges.reading import read_answer

from .protocol import Chunk, Request, chunk_by_word


@dataclass(frozen=True, slots=True)
class Cut:
    """A scripted answer that breaks off: of a stream, ``text`` arrives before ``error`` does; else only the error."""

    text: str
    error: BaseException


Reply = str | Answer | BaseException | Cut
Script = Iterable[Reply] | Callable[[Prompt, Request], Reply]


@dataclass(frozen=True, slots=True)
class Call:
    """One request that a scripted model received."""

    prompt: Prompt
    request: Request


@dataclass
class ScriptedModel:
    """Answers from a list, over and over in turn, or from a function of (prompt, request); an exception is raised.

    ``delay_s`` is waited before each reply, ``word_delay_s`` before each word of a streamed one. ``calls`` keeps the
    requests, for assertions; ``keep_calls=False`` leaves it empty, for long runs.
    """

    name: str
    script: Script
    delay_s: float = 0.0
    keep_calls: bool = True
    calls: list[Call] = field(default_factory=list)
    closed: bool = False
    word_delay_s: float = 0.0
    _next: int = 0
    _replies: tuple[Answer | Cut | BaseException, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        if not callable(self.script):
            self.script = tuple(self.script)
            if not self.script:
                raise ValueError(f"scripted model {self.name!r} needs at least one answer")
            self._replies = tuple(map(self._read, self.script))

    @cached_property
    def max_cost_usd(self) -> float | None:
        """USD of the most expensive scripted answer; None where one does not say, or a function makes them."""
        if not isinstance(self.script, tuple):
            return None
        costs = [getattr(reply, "cost_usd", None) for reply in self.script if not isinstance(reply, BaseException)]
        known_costs = [usd for usd in costs if usd is not None]
        return max(known_costs, default=0.0) if len(known_costs) == len(costs) else None

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Returns the next ``request.n`` scripted answers.

        Raises:
            Exception: The next scripted answer is one.
        """
        if self.keep_calls:
            self.calls.append(Call(prompt, request))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return [_whole(self._reply(prompt, request)) for _ in range(request.n)]

    async def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
        """See StreamingModel: the next scripted answer, a word at a time."""
        if self.keep_calls:
            self.calls.append(Call(prompt, request))
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        reply = self._reply(prompt, request)
        for chunk in chunk_by_word(Answer(reply.text) if isinstance(reply, Cut) else reply):
            if self.word_delay_s and chunk.text:
                await asyncio.sleep(self.word_delay_s)
            if chunk.answer is None or not isinstance(reply, Cut):
                yield chunk
        _whole(reply)

    def _reply(self, prompt: Prompt, request: Request) -> Answer | Cut:
        if self._replies:
            reply = self._replies[self._next % len(self._replies)]
            self._next += 1
        else:
            assert callable(self.script)
            reply = self._read(self.script(prompt, request))
        if isinstance(reply, BaseException):
            raise reply
        return reply

    def _read(self, reply: Reply) -> Answer | Cut | BaseException:
        """A reply of the script as models of this package give it."""
        if isinstance(reply, Cut | BaseException):
            return reply
        if isinstance(reply, str):
            return read_answer(Answer(reply, finish_reason="stop", model=self.name))
        return read_answer(reply if reply.model else replace(reply, model=self.name))

    async def close(self) -> None:
        """Marks the model closed."""
        self.closed = True


def _whole(reply: Answer | Cut) -> Answer:
    if isinstance(reply, Cut):
        raise reply.error
    return reply
