"""The providers' batch APIs by their SDKs: many requests at half the price, answered within a day."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from cascade.models.anthropic import AnthropicModel
from cascade.models.http import fault
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError
from judges import Usage

T = TypeVar("T")
HALF = 0.5  # of the ordinary price, at both providers
_ENDPOINT = "/v1/chat/completions"
_EARLIER_S = 3600.0  # how far the provider's clock may be behind ours


@dataclass(frozen=True, slots=True)
class State:
    """Where a batch stands. ``fault`` is why it was not run at all, where it was not."""

    over: bool
    said: str
    fault: ModelError | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one request of a batch: the body of its reply, or a fault."""

    id: str
    body: Mapping[str, Any] | None
    fault: ModelError | None = None


class Batches(Protocol):
    """A provider's batches. Every method raises ModelError. ``tag`` names a batch of ours, its requests are ``tag-0`` ..."""

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        """Hands the requests in; the batch's id at the provider."""
        ...

    async def find(self, tag: str, size: int, since: float) -> str | None:
        """The id of a batch that was handed in at ``since`` (Unix time) by a process that did not live to note it."""
        ...

    async def state(self, id: str) -> State:
        """Where the batch stands."""
        ...

    def results(self, id: str) -> AsyncIterator[Result]:
        """What became of its requests, in any order."""
        ...


def of(model: OpenAIModel | AnthropicModel) -> Batches:
    """The batches of the model's provider."""
    return OpenAIBatches(model) if isinstance(model, OpenAIModel) else AnthropicBatches(model)


class OpenAIBatches:
    """Implements Batches: a file of requests goes up, files of answers and of errors come down."""

    def __init__(self, model: OpenAIModel) -> None:
        self.model = model

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        lines = (
            json.dumps({"custom_id": f"{tag}-{i}", "method": "POST", "url": _ENDPOINT, "body": body})
            for i, body in enumerate(bodies)
        )
        content = "\n".join(lines).encode()
        client = self.model.connect()
        file = await _said(self.model, lambda: client.files.create(file=(f"{tag}.jsonl", content), purpose="batch"))
        batch = await _said(
            self.model,
            lambda: client.batches.create(
                input_file_id=file.id, endpoint=_ENDPOINT, completion_window="24h", metadata={"tag": tag}
            ),
        )
        return str(batch.id)

    async def find(self, tag: str, size: int, since: float) -> str | None:
        async def look() -> str | None:
            async for batch in self.model.connect().batches.list(limit=100):
                if (batch.metadata or {}).get("tag") == tag:
                    return str(batch.id)
                if batch.created_at < since - _EARLIER_S:
                    break
            return None

        return await _said(self.model, look)

    async def state(self, id: str) -> State:
        batch = await _said(self.model, lambda: self.model.connect().batches.retrieve(id))
        counts = batch.request_counts
        said = f"{batch.status}" + (f", {counts.completed} of {counts.total} done" if counts is not None else "")
        if batch.status != "failed":
            return State(batch.status in ("completed", "expired", "cancelled"), said)
        errors = (batch.errors.data if batch.errors is not None else None) or []
        why = "; ".join(dict.fromkeys(e.message or e.code or "" for e in errors))[:200]
        waits = any(e.code == "token_limit_exceeded" for e in errors)  # until earlier batches are through
        return State(True, said, _fault(self.model.name, f"the batch was refused: {why}", retryable=waits))

    async def results(self, id: str) -> AsyncIterator[Result]:
        batch = await _said(self.model, lambda: self.model.connect().batches.retrieve(id))
        for file in filter(None, (batch.output_file_id, batch.error_file_id)):
            async for line in self._lines(file):
                item = json.loads(line)
                reply = item.get("response") or {}
                error = item.get("error") or (reply.get("body") or {}).get("error")
                if reply.get("status_code") == 200 and not error:
                    yield Result(item["custom_id"], reply["body"])
                    continue
                status = reply.get("status_code")
                said = str((error or {}).get("message") or (error or {}).get("code") or "no answer")
                retryable = status is None or status in (408, 409, 429) or status >= 500
                kind = str((error or {}).get("code") or "no answer").removeprefix("batch_")
                told = f"HTTP {status}: {said}" if status is not None else f"{kind}: {said}"
                yield Result(item["custom_id"], None, _fault(self.model.name, told, retryable, status))

    async def _lines(self, file: str) -> AsyncIterator[bytes]:
        """The lines of a file, as they arrive: one of a batch may be larger than memory should be."""
        try:
            async with self.model.connect().files.with_streaming_response.content(file) as response:
                left = b""
                async for block in response.iter_bytes():
                    *lines, left = (left + block).split(b"\n")
                    for line in lines:
                        if line.strip():
                            yield line
                if left.strip():
                    yield left
        except ModelError:
            raise
        except Exception as error:
            failed = fault(_sdk(self.model), error, self.model.name, *self.model.secrets)
        else:
            return
        raise failed


class AnthropicBatches:
    """Implements Batches: Message Batches."""

    def __init__(self, model: AnthropicModel) -> None:
        self.model = model

    async def submit(self, tag: str, bodies: Sequence[Mapping[str, Any]]) -> str:
        requests: Any = [{"custom_id": f"{tag}-{i}", "params": body} for i, body in enumerate(bodies)]
        batch = await _said(self.model, lambda: self.model.connect().messages.batches.create(requests=requests))
        return str(batch.id)

    async def find(self, tag: str, size: int, since: float) -> str | None:
        """It has no name of ours: the newest of the right size and time is taken, whose results will show whether it is."""

        async def look() -> str | None:
            async for batch in self.model.connect().messages.batches.list(limit=100):
                if batch.created_at.timestamp() < since - _EARLIER_S:
                    break
                counts = batch.request_counts
                if counts.processing + counts.succeeded + counts.errored + counts.canceled + counts.expired == size:
                    return str(batch.id)
            return None

        return await _said(self.model, look)

    async def state(self, id: str) -> State:
        batch = await _said(self.model, lambda: self.model.connect().messages.batches.retrieve(id))
        counts = batch.request_counts
        return State(batch.processing_status == "ended", f"{batch.processing_status}, {counts.succeeded} done")

    async def results(self, id: str) -> AsyncIterator[Result]:
        found = await _said(self.model, lambda: self.model.connect().messages.batches.results(id))
        try:
            async for item in found:
                yield self._result(item.to_dict(mode="json"))
        except ModelError:
            raise
        except Exception as error:
            failed = fault(_sdk(self.model), error, self.model.name, *self.model.secrets)
        else:
            return
        raise failed

    def _result(self, item: Mapping[str, Any]) -> Result:
        result = item["result"]
        kind = result["type"]
        if kind == "succeeded":
            return Result(item["custom_id"], result["message"])
        error = (result.get("error") or {}).get("error") or {}
        told = f"{error.get('type') or kind}: {error.get('message') or kind}"
        retryable = error.get("type") not in ("invalid_request_error", "authentication_error", "permission_error")
        return Result(item["custom_id"], None, _fault(self.model.name, told, retryable))


def _fault(name: str, said: str, retryable: bool, status: int | None = None) -> ModelError:
    # Neither provider bills a request of a batch that was not answered.
    return ModelError(f"{name}: {said[:200]}", model=name, retryable=retryable, status=status, usage=Usage())


async def _said(model: OpenAIModel | AnthropicModel, call: Callable[[], Awaitable[T]]) -> T:
    try:
        return await call()
    except Exception as error:
        failed = fault(_sdk(model), error, model.name, *model.secrets)
    raise failed


def _sdk(model: OpenAIModel | AnthropicModel) -> Any:
    if isinstance(model, OpenAIModel):
        import openai

        return openai
    import anthropic

    return anthropic
