"""A model asked by batch: requests gather until nobody adds one, go out together, and come back hours later.

Whoever records sees a model that is slow to answer. What is under way stands in the work file: another process that asks
the same again is given the answer of the batch that was asked first, whichever process handed that in.
"""

import asyncio
import hashlib
import json
import secrets
import sys
import time
from collections import defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from cascade.costs.estimate import MAX_OUTPUT, Bounds, estimate
from cascade.costs.prices import Pricer
from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from cascade.util.totals import total
from evals.common.cost_budget import CostBudget, OutOfMoneyError
from evals.common.provider_errors import error_kind, is_permanent, with_remedy
from judges import Prompt, Usage

from .batch_apis import HALF, Batches, of
from .checkpoint import Checkpoint
from .client import FailedError, Reply, StoppedError, StopSignal

MOST = 10_000  # requests of one batch: less than either provider takes, so that a crash or a fault costs less
_MOST_BYTES = 90_000_000
_QUIET_S = 0.5
_TRIES = 3

Outcome = Mapping[str, Any] | ModelError


@dataclass(slots=True, eq=False)
class _Place:
    """One request: its future, and in which batch it stands."""

    key: str
    body: Mapping[str, Any]
    size: int
    reply: asyncio.Future[Outcome]
    tag: str = ""


@dataclass(slots=True, eq=False)
class _Open:
    """A batch that is not done with: who waits for which of its requests, and how many answers are not kept yet.

    ``outcomes`` is None until it was collected, ``said`` the provider's word of where it stands.
    """

    tag: str
    keys: list[str]
    since: float
    id: str | None
    places: dict[int, _Place] = field(default_factory=dict)
    left: int = 0
    outcomes: dict[int, Outcome] | None = None
    said: str = "handed in"


class BatchClient:
    """Implements Asked. ``run`` hands in and collects for as long as the recording goes on."""

    def __init__(
        self,
        name: str,
        model: OpenAIModel | AnthropicModel,
        pricer: Pricer,
        budget: CostBudget,
        work: Checkpoint,
        halt: StopSignal,
        poll_s: float,
    ) -> None:
        self.name, self.model, self.pricer, self.budget, self.work, self.halt = name, model, pricer, budget, work, halt
        self.batches: Batches = of(model)
        self.poll_s = poll_s
        self.stopped: str | None = None
        self._missing = ModelError(f"{name}: no answer in the batch", model=name, retryable=True, usage=Usage())
        self._pool: deque[_Place] = deque()
        self._added = asyncio.Event()
        self._open: dict[str, _Open] = {}
        # Requests of earlier processes' batches that nobody has asked for again yet.
        self._unasked: dict[str, deque[tuple[_Open, int]]] = defaultdict(deque)
        for tag, about in work.batches.items():
            if about["model"] == name and not about.get("done"):
                self._adopt(tag, about)

    def _adopt(self, tag: str, about: Mapping[str, Any]) -> None:
        batch = _Open(tag, about["keys"], about["since"], about.get("id"), left=len(about["keys"]))
        self._open[tag] = batch
        for i, key in enumerate(batch.keys):
            self._unasked[key].append((batch, i))

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """See Asked; a request that expired or failed goes out again with the next batch."""
        if self.budget.limit is not None and request.max_tokens is None:
            bound = self.pricer.spec.max_tokens if self.pricer.spec is not None else None
            request = replace(request, max_tokens=bound or MAX_OUTPUT)
        bounds = Bounds.of(self.pricer.spec)
        most = estimate(self.pricer, bounds, prompt, n=request.n, max_tokens=request.max_tokens)
        body = self.model.body(prompt, request)
        tries = 0
        while True:
            reserved = await self._reserve(most)
            place = self._place(body)
            try:
                outcome = await place.reply
                answers = self.model.answers(outcome) if not isinstance(outcome, ModelError) else []
            except ModelError as error:  # a reply that cannot be read
                outcome = error
            except BaseException:
                self.budget.settle(reserved, reserved)
                raise
            if isinstance(outcome, ModelError):
                usd = reserved if outcome.usage is None else self._price(outcome.usage) or 0.0
                self.budget.settle(reserved, usd)
                if usd:
                    self.work.asked([], usd)
                self._kept(place.tag)
                tries += 1
                if not outcome.retryable or tries >= _TRIES:
                    raise FailedError(error_kind(outcome), str(outcome), tries)
                continue
            known = total(self._price(a.usage) for a in answers)
            self.budget.settle(reserved, reserved if known is None else known)
            return Reply(answers[: request.n], known, None, partial(self._kept, place.tag))

    async def _reserve(self, estimate: float | None) -> float:
        if self.halt.reason is not None or self.stopped is not None:
            raise StoppedError
        if self.budget.limit is None:
            return 0.0
        assert estimate is not None  # checked before the run begins
        try:
            await self.budget.reserve(estimate * HALF)
        except OutOfMoneyError:
            self.halt.stop("budget")
            raise StoppedError from None
        return estimate * HALF

    def _price(self, usage: Usage | None) -> float | None:
        usd = self.pricer.cost(usage)
        return None if usd is None else usd * HALF

    def _place(self, body: Mapping[str, Any]) -> _Place:
        """A place in a batch that was handed in by an earlier process, or in the pool of the next one."""
        text = json.dumps(body, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        place = _Place(key, body, len(text), asyncio.get_running_loop().create_future())
        if self._unasked[key]:
            batch, i = self._unasked[key].popleft()
            place.tag = batch.tag
            if batch.outcomes is not None:
                place.reply.set_result(batch.outcomes.pop(i, self._missing))
            else:
                batch.places[i] = place
        else:
            self._pool.append(place)
            self._added.set()
        return place

    def _kept(self, tag: str) -> None:
        batch = self._open[tag]
        batch.left -= 1
        if not batch.left:
            del self._open[tag]
            self.work.batch(tag, done=True)

    def release(self) -> None:
        """Lets go of those who wait; their batches stay under way, and another run collects them."""
        for place in (*self._pool, *(p for b in self._open.values() for p in b.places.values())):
            if not place.reply.done():
                place.reply.set_exception(StoppedError())
        self._pool.clear()

    @property
    def waits(self) -> str | None:
        """See Asked."""
        out = [batch for batch in self._open.values() if batch.outcomes is None]
        return f"{self.name}: batches out: {len(out)}, the oldest {out[0].said}" if out and self.stopped is None else None

    async def run(self) -> None:
        """Hands in and collects until it is cancelled. Raises OSError where the work file cannot be written."""
        while True:
            try:
                await self._gather()
                while self._pool and self.stopped is None and self.halt.reason is None:
                    await self._submit()
                for batch in list(self._open.values()):
                    await self._look(batch)
            except ModelError as error:
                if is_permanent(error) or not error.retryable:
                    self._stop(with_remedy(error))
                    return
                print(f"\n{error}; asking again", file=sys.stderr)
                await asyncio.sleep(max(self.poll_s, error.retry_after_s or 0.0))

    def _stop(self, why: str) -> None:
        self.stopped = self.stopped or why
        self.release()

    async def _gather(self) -> None:
        """Returns when requests wait and no further one came for a while, or when it is time to look at the batches."""
        waiting = any(batch.outcomes is None for batch in self._open.values())
        ends = time.monotonic() + self.poll_s if waiting else float("inf")
        while sum(p.size for p in self._pool) < _MOST_BYTES and len(self._pool) < MOST:
            self._added.clear()
            left = ends - time.monotonic()
            wait = min(_QUIET_S, self.poll_s) if self._pool else left
            try:
                await asyncio.wait_for(self._added.wait(), None if wait == float("inf") else max(0.0, wait))
            except TimeoutError:
                return

    async def _submit(self) -> None:
        """Hands in one batch. It is noted before, so that it is found again if this process does not live to hear its id."""
        taken: list[_Place] = []
        size = 0
        while self._pool and len(taken) < MOST and size < _MOST_BYTES:
            taken.append(self._pool.popleft())
            size += taken[-1].size
        tag, since = secrets.token_hex(8), time.time()
        batch = _Open(tag, [p.key for p in taken], since, None, dict(enumerate(taken)), len(taken))
        for place in taken:
            place.tag = tag
        self._open[tag] = batch
        self.work.batch(tag, model=self.name, keys=batch.keys, since=since)
        try:
            batch.id = await self.batches.submit(tag, [p.body for p in taken])
        except ModelError as error:
            if error.usage is not None:  # refused or never reached; else ``_look`` finds out whether it was taken
                self._drop(batch)
                self._pool.extend(taken)
            raise
        self._handed_in(batch)

    def _handed_in(self, batch: _Open) -> None:
        self.work.batch(batch.tag, id=batch.id)
        print(f"\nbatch {batch.id} of {self.name}: {len(batch.keys):,} requests handed in", file=sys.stderr)

    def _drop(self, batch: _Open) -> None:
        """The provider never took the batch."""
        del self._open[batch.tag]
        self.work.batch(batch.tag, done=True)

    async def _look(self, batch: _Open) -> None:
        """Collects the batch if it is over."""
        if batch.outcomes is not None:
            return
        if batch.id is None:
            batch.id = await self.batches.find(batch.tag, len(batch.keys), batch.since)
            if batch.id is None:
                self._again(batch)
                return
            self._handed_in(batch)
        state = await self.batches.state(batch.id)
        batch.said = state.said
        if not state.over:
            return
        if state.fault is not None and not state.fault.retryable:
            self._drop(batch)
            raise state.fault
        outcomes: dict[int, Outcome] = {}
        async for result in self.batches.results(batch.id):
            tag, _, number = result.id.rpartition("-")
            if tag == batch.tag:
                outcomes[int(number)] = result.body if result.body is not None else result.fault or self._missing
        batch.outcomes = outcomes
        for i, place in batch.places.items():
            if not place.reply.done():
                place.reply.set_result(outcomes.pop(i, state.fault or self._missing))
        batch.places.clear()

    def _again(self, batch: _Open) -> None:
        """A batch that the provider never got: its requests go out with the next one."""
        self._drop(batch)
        for i, key in enumerate(batch.keys):
            if (place := batch.places.get(i)) is not None:
                place.tag = ""
                self._pool.append(place)
            elif (batch, i) in self._unasked[key]:
                self._unasked[key].remove((batch, i))
