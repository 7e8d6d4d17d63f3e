"""The providers' batch APIs, called with their SDKs: many requests at half the price, answered within a day."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cascade.models.anthropic import AnthropicModel
from cascade.models.http import fault
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError
from cascade.util.bounded_read import MAX_LINE_BYTES, too_large
from judges import Usage

T = TypeVar("T")
PRICE_FACTOR = 0.5  # of the ordinary price, at both providers
_ENDPOINT = "/v1/chat/completions"
_EARLIER_S = 3600.0  # how far the provider's clock may be behind ours


@dataclass(frozen=True, slots=True)
class BatchState:
    """The state of a batch; ``error`` is set where the provider refused to run it."""

    done: bool
    status: str
    error: ModelError | None = None


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The result of one request of a batch: the body of its reply, or an error."""

    id: str
    body: Mapping[str, Any] | None
    error: ModelError | None = None


class BatchApi(Protocol):
    """A provider's batch API. Every method raises ModelError. ``tag`` is our name of a batch, of requests ``tag-0`` ..."""

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        """Submits the requests and returns the provider's id of the batch."""
        ...

    async def find(self, tag: str, size: int, since: float) -> str | None:
        """The id of a batch submitted at ``since`` (Unix time) by a process that was killed before it stored the id."""
        ...

    async def state(self, id: str) -> BatchState:
        """The state of the batch."""
        ...

    def results(self, id: str) -> AsyncIterator[BatchResult]:
        """The results of its requests, in any order."""
        ...


def batch_api(model: OpenAIModel | AnthropicModel) -> BatchApi:
    """The batch API of the model's provider."""
    return OpenAIBatchApi(model) if isinstance(model, OpenAIModel) else AnthropicBatchApi(model)


class OpenAIBatchApi:
    """Implements BatchApi for OpenAI: requests are uploaded as a file, answers and errors are downloaded as files."""

    def __init__(self, model: OpenAIModel) -> None:
        self.model = model

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        lines = (
            json.dumps({"custom_id": f"{tag}-{i}", "method": "POST", "url": _ENDPOINT, "body": body})
            for i, body in enumerate(bodies)
        )
        content = "\n".join(lines).encode()
        client = self.model.connect()
        file = await _call_sdk(self.model, lambda: client.files.create(file=(f"{tag}.jsonl", content), purpose="batch"))
        batch = await _call_sdk(
            self.model,
            lambda: client.batches.create(
                input_file_id=file.id, endpoint=_ENDPOINT, completion_window="24h", metadata={"tag": tag}
            ),
        )
        return str(batch.id)

    async def find(self, tag: str, size: int, since: float) -> str | None:
        async def search() -> str | None:
            async for batch in self.model.connect().batches.list(limit=100):
                if (batch.metadata or {}).get("tag") == tag:
                    return str(batch.id)
                if batch.created_at < since - _EARLIER_S:
                    break
            return None

        return await _call_sdk(self.model, search)

    async def state(self, id: str) -> BatchState:
        batch = await _call_sdk(self.model, lambda: self.model.connect().batches.retrieve(id))
        counts = batch.request_counts
        status = f"{batch.status}" + (f", {counts.completed} of {counts.total} done" if counts is not None else "")
        if batch.status != "failed":
            return BatchState(batch.status in ("completed", "expired", "cancelled"), status)
        errors = (batch.errors.data if batch.errors is not None else None) or []
        reason = "; ".join(dict.fromkeys(e.message or e.code or "" for e in errors))[:200]
        may_fit_later = any(e.code == "token_limit_exceeded" for e in errors)  # until earlier batches are through
        return BatchState(
            True, status, _model_error(self.model.name, f"the batch was refused: {reason}", retryable=may_fit_later)
        )

    async def results(self, id: str) -> AsyncIterator[BatchResult]:
        batch = await _call_sdk(self.model, lambda: self.model.connect().batches.retrieve(id))
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            async for line in _iterate_sdk(self.model, self._lines(file)):
                item = json.loads(line)
                reply = item.get("response") or {}
                error = item.get("error") or (reply.get("body") or {}).get("error")
                if reply.get("status_code") == 200 and not error:
                    yield BatchResult(item["custom_id"], reply["body"])
                    continue
                status = reply.get("status_code")
                reason = str((error or {}).get("message") or (error or {}).get("code") or "no answer")
                retryable = status is None or status in (408, 409, 429) or status >= 500
                kind = str((error or {}).get("code") or "no answer").removeprefix("batch_")
                message = f"HTTP {status}: {reason}" if status is not None else f"{kind}: {reason}"
                yield BatchResult(item["custom_id"], None, _model_error(self.model.name, message, retryable, status))

    async def _lines(self, file: str) -> AsyncGenerator[bytes]:
        """The lines of a file, streamed: the file of a batch may be larger than memory."""
        async with self.model.connect().files.with_streaming_response.content(file) as response:
            rest = b""
            async for block in response.iter_bytes():
                *lines, rest = (rest + block).split(b"\n")
                for line in lines:
                    if line.strip():
                        yield line
                if len(rest) > MAX_LINE_BYTES:
                    message = f"the result file {file} cannot be read: {too_large('a line', MAX_LINE_BYTES)}"
                    raise _model_error(self.model.name, message, retryable=False)
            if rest.strip():
                yield rest


class AnthropicBatchApi:
    """Implements BatchApi for Anthropic's Message Batches."""

    def __init__(self, model: AnthropicModel) -> None:
        self.model = model

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        requests: Any = [{"custom_id": f"{tag}-{i}", "params": body} for i, body in enumerate(bodies)]
        batch = await _call_sdk(self.model, lambda: self.model.connect().messages.batches.create(requests=requests))
        return str(batch.id)

    async def find(self, tag: str, size: int, since: float) -> str | None:
        """Anthropic stores no tag: the newest batch of this size and time is taken; the ids of its results confirm it."""

        async def search() -> str | None:
            async for batch in self.model.connect().messages.batches.list(limit=100):
                if batch.created_at.timestamp() < since - _EARLIER_S:
                    break
                counts = batch.request_counts
                if counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired == size:
                    return str(batch.id)
            return None

        return await _call_sdk(self.model, search)

    async def state(self, id: str) -> BatchState:
        batch = await _call_sdk(self.model, lambda: self.model.connect().messages.batches.retrieve(id))
        counts = batch.request_counts
        return BatchState(batch.processing_status == "ended", f"{batch.processing_status}, {counts.succeeded} done")

    async def results(self, id: str) -> AsyncIterator[BatchResult]:
        async for result in _iterate_sdk(self.model, self._results(id)):
            yield result

    async def _results(self, id: str) -> AsyncGenerator[BatchResult]:
        async for item in await self.model.connect().messages.batches.results(id):
            yield self._result(item.to_dict(mode="json"))

    def _result(self, item: Mapping[str, Any]) -> BatchResult:
        result = item["result"]
        kind = result["type"]
        if kind == "succeeded":
            return BatchResult(item["custom_id"], result["message"])
        error = (result.get("error") or {}).get("error") or {}
        message = f"{error.get('type') or kind}: {error.get('message') or kind}"
        retryable = error.get("type") not in ("invalid_request_error", "authentication_error", "permission_error")
        return BatchResult(item["custom_id"], None, _model_error(self.model.name, message, retryable))


def _model_error(name: str, message: str, retryable: bool, status: int | None = None) -> ModelError:
    # Neither provider bills a request of a batch that was not answered.
    return ModelError(f"{name}: {message[:200]}", model=name, retryable=retryable, status=status, usage=Usage())


async def _iterate_sdk(model: OpenAIModel | AnthropicModel, items: AsyncGenerator[T]) -> AsyncIterator[T]:
    """What an SDK streams; what it raises becomes a ModelError without the SDK's own, which may hold a key."""
    try:
        async with aclosing(items):
            async for item in items:
                yield item
    except ModelError:
        raise
    except Exception as error:
        model_error = fault(_sdk(model), error, model.name, *model.secrets)
    else:
        return
    raise model_error


async def _call_sdk(model: OpenAIModel | AnthropicModel, call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except Exception as error:
        model_error = fault(_sdk(model), error, model.name, *model.secrets)
    raise model_error


def _sdk(model: OpenAIModel | AnthropicModel) -> Any:
    if isinstance(model, OpenAIModel):
        import openai

        return openai
    import anthropic

    return anthropic
