"""OpenAI's responses: writes a result as a response."""

from collections.abc import Mapping
from time import time
from typing import Any

from cascade.gateway.openai.completion import finish_reason, logprobs, refusal
from cascade.gateway.response import summary, usage_of
from cascade.result import Result
from judges import Usage

from .items import seal
from .request import ResponseRequest

Item = dict[str, Any]

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


def response(request: ResponseRequest, result: Result) -> dict[str, Any]:
    """The result as one response."""
    return finished(request, result, result.run_id, time())


def finished(request: ResponseRequest, result: Result, key: str, created_at: float) -> dict[str, Any]:
    """The response of a run that has ended; ``key`` is in the ids of the response and its items."""
    reason = _INCOMPLETE.get(finish_reason(result))
    return {
        **frame(request, key, created_at, result.model),
        "status": "completed" if reason is None else "incomplete",
        "completed_at": time(),
        "incomplete_details": None if reason is None else {"reason": reason},
        "output": items(request, result, key),
        "usage": usage(usage_of([result])),
        "cascade": summary(request, result),
    }


def frame(request: ResponseRequest, key: str, created_at: float, model: str) -> dict[str, Any]:
    """A response in progress, with the fields of the request that a response repeats."""
    body = request.body or {}
    reasoning = body.get("reasoning") or {}
    return {
        "id": f"resp_{key}",
        "object": "response",
        "created_at": int(created_at),
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": request.max_tokens,
        "metadata": body.get("metadata") or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": request.options.get("parallel_tool_calls", True),
        "previous_response_id": None,
        "reasoning": {"effort": reasoning.get("effort"), "summary": reasoning.get("summary")},
        "store": False,
        "temperature": request.temperature,
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": request.options.get("top_p"),
        "truncation": "disabled",
        "usage": None,
        "user": body.get("user"),
    }


def items(request: ResponseRequest, result: Result, key: str) -> list[Item]:
    """The output: what the model thought, its text or refusal, its calls."""
    blocks = result.answer.extra.get("thinking_blocks", ()) if result.answer is not None else ()
    output = []
    if result.reasoning or (blocks and request.seals_reasoning):
        output.append(reasoning_item(request, key, result.reasoning or "", blocks))
    status = "completed" if finish_reason(result) in ("stop", "tool_calls") else "incomplete"
    refused, answer_text = refusal(result), "" if result.abstained else result.text
    if refused is not None and answer_text in ("", refused):
        output.append(message_item(key, [{"type": "refusal", "refusal": refused}], status))
    elif answer_text or not result.tool_calls:
        output.append(message_item(key, [text_part(answer_text, _logprobs(request, result))], status))
    return output + [call_item(key, i, call, status) for i, call in enumerate(result.tool_calls)]


def reasoning_item(request: ResponseRequest, key: str, thoughts: str, blocks: Any) -> Item:
    """What the model thought, in the field that client libraries show; sealed, where its provider signed it."""
    sealed = seal(blocks) if blocks and request.seals_reasoning else None
    summaries = [{"type": "summary_text", "text": thoughts}] if thoughts else []
    return {"id": f"rs_{key}", "type": "reasoning", "summary": summaries, "encrypted_content": sealed, "status": "completed"}


def message_item(key: str, parts: list[Item], status: str) -> Item:
    """A message of the model."""
    return {"id": f"msg_{key}", "type": "message", "role": "assistant", "status": status, "content": parts}


def text_part(text: str, tokens: list[Item]) -> Item:
    """A text of the model."""
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": tokens}


def call_item(key: str, i: int, call: Mapping[str, Any], status: str) -> Item:
    """A call of a function; one that was cut is incomplete, and not to be run."""
    function = call.get("function") or {}
    return {
        "id": f"fc_{key}_{i}",
        "type": "function_call",
        "call_id": call.get("id"),
        "name": function.get("name"),
        "arguments": function.get("arguments") or "{}",
        "status": status,
    }


def _logprobs(request: ResponseRequest, result: Result) -> list[Item]:
    logged = logprobs(request, result)
    return [] if logged is None else logged["content"]


def usage(tokens: Usage | None) -> dict[str, Any] | None:
    """Tokens as responses count them; None where they are unknown."""
    if tokens is None:
        return None
    return {
        "input_tokens": tokens.input_tokens,
        "input_tokens_details": {"cached_tokens": tokens.cached_tokens, "cache_write_tokens": tokens.cache_write_tokens},
        "output_tokens": tokens.output_tokens,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
        "total_tokens": tokens.input_tokens + tokens.output_tokens,
    }
