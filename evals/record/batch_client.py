"""A client that uses the provider's batch API: requests are collected, submitted together and answered hours later.

To the recorder it is a slow model. Open batches are stored in the work file: a later process that sends the same request
gets the answer from the batch that an earlier one submitted.
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

from .batch_apis import PRICE_FACTOR, BatchApi, batch_api
from .checkpoint import Checkpoint
from .client import Reply, RequestFailedError, StoppedError, StopSignal

MAX_REQUESTS = 10_000  # requests of one batch: less than either provider takes, so that a crash or a fault costs less
_MAX_BYTES = 90_000_000
_GATHER_S = 0.5
_ATTEMPTS = 3

Outcome = Mapping[str, Any] | ModelError


@dataclass(slots=True, eq=False)
class _PendingRequest:
    """One request: its future reply, and the tag of its batch."""

    key: str
    body: Mapping[str, Any]
    size: int
    reply: asyncio.Future[Outcome]
    tag: str = ""


@dataclass(slots=True, eq=False)
class _OpenBatch:
    """A batch that is not finished: its pending requests by number, and how many answers are not stored yet.

    ``outcomes`` is None until the batch is collected; ``status`` is the provider's.
    """

    tag: str
    keys: list[str]
    since: float
    id: str | None
    pending: dict[int, _PendingRequest] = field(default_factory=dict)
    unstored: int = 0
    outcomes: dict[int, Outcome] | None = None
    status: str = "submitted"


@dataclass(slots=True, kw_only=True)
class BatchClient:
    """Implements AnswerSource; ``run`` submits and collects batches until it is cancelled.

    Attributes:
        name: The model's name in the policy file.
        model: The model, whose provider must have a batch API.
        pricer: Computes the cost of its answers at the ordinary price.
        budget: The cost limit of the recording.
        checkpoint: The open work file, which stores the open batches.
        stop_signal: Stops the run.
        poll_s: Seconds between polls of the open batches.
        stopped: Why no more requests are sent to the model; None while they are.
    """

    name: str
    model: OpenAIModel | AnthropicModel
    pricer: Pricer
    budget: CostBudget
    checkpoint: Checkpoint
    stop_signal: StopSignal
    poll_s: float
    batches: BatchApi = field(init=False)
    stopped: str | None = field(default=None, init=False)
    _missing: ModelError = field(init=False)
    _queue: deque[_PendingRequest] = field(default_factory=deque, init=False)
    _enqueued: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _open_batches: dict[str, _OpenBatch] = field(default_factory=dict, init=False)
    # Requests in the batches of earlier processes that were not sent again yet.
    _unclaimed: dict[str, deque[tuple[_OpenBatch, int]]] = field(default_factory=lambda: defaultdict(deque), init=False)

    def __post_init__(self) -> None:
        self.batches = batch_api(self.model)
        self._missing = ModelError(f"{self.name}: no answer in the batch", model=self.name, retryable=True, usage=Usage())
        for tag, about in self.checkpoint.batches.items():
            if about["model"] == self.name and not about.get("done"):
                self._adopt(tag, about)

    def _adopt(self, tag: str, about: Mapping[str, Any]) -> None:
        batch = _OpenBatch(tag, about["keys"], about["since"], about.get("id"), unstored=len(about["keys"]))
        self._open_batches[tag] = batch
        for i, key in enumerate(batch.keys):
            self._unclaimed[key].append((batch, i))

    async def ask(self, prompt: Prompt, request: Request) -> Reply:
        """See AnswerSource; a request that expired or failed is sent again with the next batch."""
        if self.budget.limit is not None and request.max_tokens is None:
            bound = self.pricer.spec.max_tokens if self.pricer.spec is not None else None
            request = replace(request, max_tokens=bound or MAX_OUTPUT)
        bounds = Bounds.of(self.pricer.spec)
        max_usd = estimate(self.pricer, bounds, prompt, n=request.n, max_tokens=request.max_tokens, options=request.options)
        body = self.model.body(prompt, request)
        attempts = 0
        while True:
            reserved = await self._reserve(max_usd)
            pending = self._enqueue(body)
            try:
                outcome = await pending.reply
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
                    self.checkpoint.end_requests([], usd)
                self._on_stored(pending.tag)
                attempts += 1
                if not outcome.retryable or attempts >= _ATTEMPTS:
                    raise RequestFailedError(error_kind(outcome), str(outcome), attempts)
                continue
            cost = total(self._price(a.usage) for a in answers)
            self.budget.settle(reserved, reserved if cost is None else cost)
            return Reply(answers[: request.n], cost, None, partial(self._on_stored, pending.tag))

    async def _reserve(self, estimate: float | None) -> float:
        if self.stop_signal.reason is not None or self.stopped is not None:
            raise StoppedError
        if self.budget.limit is None:
            return 0.0
        assert estimate is not None  # checked before the run begins
        try:
            await self.budget.reserve(estimate * PRICE_FACTOR)
        except OutOfMoneyError:
            self.stop_signal.stop("budget")
            raise StoppedError from None
        return estimate * PRICE_FACTOR

    def _price(self, usage: Usage | None) -> float | None:
        usd = self.pricer.cost(usage)
        return None if usd is None else usd * PRICE_FACTOR

    def _enqueue(self, body: Mapping[str, Any]) -> _PendingRequest:
        """Finds the request in a batch of an earlier process, or queues it for the next batch."""
        text = json.dumps(body, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        pending = _PendingRequest(key, body, len(text), asyncio.get_running_loop().create_future())
        if self._unclaimed[key]:
            batch, i = self._unclaimed[key].popleft()
            pending.tag = batch.tag
            if batch.outcomes is not None:
                pending.reply.set_result(batch.outcomes.pop(i, self._missing))
            else:
                batch.pending[i] = pending
        else:
            self._queue.append(pending)
            self._enqueued.set()
        return pending

    def _on_stored(self, tag: str) -> None:
        batch = self._open_batches[tag]
        batch.unstored -= 1
        if not batch.unstored:
            del self._open_batches[tag]
            self.checkpoint.update_batch(tag, done=True)

    def release(self) -> None:
        """See AnswerSource; open batches stay open, and another run collects them."""
        for pending in (*self._queue, *(p for b in self._open_batches.values() for p in b.pending.values())):
            if not pending.reply.done():
                pending.reply.set_exception(StoppedError())
        self._queue.clear()

    @property
    def waiting_for(self) -> str | None:
        """See AnswerSource."""
        out = [batch for batch in self._open_batches.values() if batch.outcomes is None]
        return f"{self.name}: open batches: {len(out)}, the oldest {out[0].status}" if out and self.stopped is None else None

    async def run(self) -> None:
        """See AnswerSource. Raises OSError where the work file cannot be written."""
        while True:
            try:
                await self._wait_for_requests()
                while self._queue and self.stopped is None and self.stop_signal.reason is None:
                    await self._submit()
                for batch in list(self._open_batches.values()):
                    await self._collect(batch)
            except ModelError as error:
                if is_permanent(error) or not error.retryable:
                    self._stop(with_remedy(error))
                    return
                print(f"\n{error}; trying again", file=sys.stderr)
                await asyncio.sleep(max(self.poll_s, error.retry_after_s or 0.0))

    def _stop(self, reason: str) -> None:
        self.stopped = self.stopped or reason
        self.release()

    async def _wait_for_requests(self) -> None:
        """Waits until requests are queued and no more arrive for a while, or until it is time to poll the batches."""
        any_out = any(batch.outcomes is None for batch in self._open_batches.values())
        deadline = time.monotonic() + self.poll_s if any_out else float("inf")
        while sum(p.size for p in self._queue) < _MAX_BYTES and len(self._queue) < MAX_REQUESTS:
            self._enqueued.clear()
            unstored = deadline - time.monotonic()
            wait = min(_GATHER_S, self.poll_s) if self._queue else unstored
            try:
                await asyncio.wait_for(self._enqueued.wait(), None if wait == float("inf") else max(0.0, wait))
            except TimeoutError:
                return

    async def _submit(self) -> None:
        """Submits one batch. Its tag is stored first, so that a process that dies before it has the id finds it."""
        requests: list[_PendingRequest] = []
        size = 0
        while self._queue and len(requests) < MAX_REQUESTS and size < _MAX_BYTES:
            requests.append(self._queue.popleft())
            size += requests[-1].size
        tag, since = secrets.token_hex(8), time.time()
        batch = _OpenBatch(tag, [p.key for p in requests], since, None, dict(enumerate(requests)), len(requests))
        for pending in requests:
            pending.tag = tag
        self._open_batches[tag] = batch
        self.checkpoint.update_batch(tag, model=self.name, keys=batch.keys, since=since)
        try:
            batch.id = await self.batches.submit(tag, [p.body for p in requests])
        except ModelError as error:
            if error.usage is not None:  # rejected or never sent; otherwise ``_collect`` finds out whether it was accepted
                self._forget(batch)
                self._queue.extend(requests)
            raise
        self._announce(batch)

    def _announce(self, batch: _OpenBatch) -> None:
        self.checkpoint.update_batch(batch.tag, id=batch.id)
        print(f"\nbatch {batch.id} of {self.name}: {len(batch.keys):,} requests submitted", file=sys.stderr)

    def _forget(self, batch: _OpenBatch) -> None:
        """Drops a batch that the provider never accepted."""
        del self._open_batches[batch.tag]
        self.checkpoint.update_batch(batch.tag, done=True)

    async def _collect(self, batch: _OpenBatch) -> None:
        """Collects the batch if it is done."""
        if batch.outcomes is not None:
            return
        if batch.id is None:
            batch.id = await self.batches.find(batch.tag, len(batch.keys), batch.since)
            if batch.id is None:
                self._requeue(batch)
                return
            self._announce(batch)
        state = await self.batches.state(batch.id)
        batch.status = state.status
        if not state.done:
            return
        if state.error is not None and not state.error.retryable:
            self._forget(batch)
            raise state.error
        outcomes: dict[int, Outcome] = {}
        async for result in self.batches.results(batch.id):
            tag, _, number = result.id.rpartition("-")
            if tag == batch.tag:
                outcomes[int(number)] = result.body if result.body is not None else result.error or self._missing
        batch.outcomes = outcomes
        for i, pending in batch.pending.items():
            if not pending.reply.done():
                pending.reply.set_result(outcomes.pop(i, state.error or self._missing))
        batch.pending.clear()

    def _requeue(self, batch: _OpenBatch) -> None:
        """Queues the requests of a batch that never arrived for the next one."""
        self._forget(batch)
        for i, key in enumerate(batch.keys):
            if (pending := batch.pending.get(i)) is not None:
                pending.tag = ""
                self._queue.append(pending)
            elif (batch, i) in self._unclaimed[key]:
                self._unclaimed[key].remove((batch, i))
