"""A result as OpenAI's chat completion, and its parts, which the other interfaces share."""

from collections.abc import Sequence
from time import time
from typing import Any

from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import summary, total_usd, usage_of
from cascade.result import Result
from judges import Usage


def completion(request: GatewayRequest, results: Sequence[Result]) -> dict[str, Any]:
    """The results as one completion, a choice each."""
    first = results[0]
    summaries = [summary(request, result) for result in results]
    body: dict[str, Any] = {
        "id": f"chatcmpl-{first.run_id}",
        "object": "chat.completion",
        "created": int(time()),
        "model": first.model,
        "choices": [_choice(request, i, result) for i, result in enumerate(results)],
        "usage": usage(usage_of(results)),
    }
    if len(results) == 1:
        body["cascade"] = summaries[0]
    else:
        accepted = all(result.accepted for result in results)
        body["cascade"] = {"accepted": accepted, "cost_usd": total_usd(results), "choices": summaries}
    return body


def _choice(request: GatewayRequest, i: int, result: Result) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": result.text, "refusal": refusal(result)}
    if message["refusal"] is not None and (result.abstained or result.text in ("", message["refusal"])):
        message["content"] = None
    if result.tool_calls:
        message["tool_calls"] = result.tool_calls
        message["content"] = message["content"] or None
    if result.reasoning is not None:
        message["reasoning_content"] = result.reasoning
    return {"index": i, "message": message, "finish_reason": finish_reason(result), "logprobs": logprobs(request, result)}


def abstention(result: Result) -> str:
    """The text in place of an answer where the policy says ``when_unsure: abstain``."""
    return f"No answer was good enough ({result.reason})."


def refusal(result: Result) -> str | None:
    """The text that the provider marked as a refusal, or a note that the policy abstained; None where there is an answer."""
    return abstention(result) if result.answer is None else result.answer.refusal


def finish_reason(result: Result) -> str:
    """OpenAI's finish reason. An unknown word means that the answer may be incomplete."""
    reason = (result.answer.finish_reason if result.answer is not None else None) or "stop"
    if result.tool_calls and reason not in ("length", "content_filter"):
        return "tool_calls"
    if reason in ("stop", "tool_calls"):
        return "stop"
    return "content_filter" if reason == "content_filter" else "length"


def logprobs(request: GatewayRequest, result: Result) -> dict[str, Any] | None:
    """The answer's tokens where the client requested them; None where the model returned none."""
    tokens = result.answer.logprobs if request.logprobs and result.answer is not None else None
    if tokens is None:
        return None
    most = request.options.get("top_logprobs")
    tops = _alternatives(result, most) if most else [[]] * len(tokens)
    content = [{**_token(t.token, t.logprob), "top_logprobs": top} for t, top in zip(tokens, tops, strict=True)]
    return {"content": content, "refusal": None}


def _alternatives(result: Result, most: int) -> list[list[dict[str, Any]]]:
    """The likeliest tokens at each place of the answer; none where the model returned none."""
    assert result.answer is not None
    tokens, logged = result.answer.logprobs or (), result.answer.extra.get("top_logprobs") or ()
    logged = logged[len(logged) - len(tokens) :]  # the first ones may belong to what the model thought
    if [t.token for t in tokens] != [t.get("token") for t in logged]:
        return [[]] * len(tokens)
    return [[_token(t["token"], t["logprob"]) for t in (at.get("top_logprobs") or ())[:most]] for at in logged]


def _token(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode("utf-8", "replace"))}


def usage(tokens: Usage | None) -> dict[str, Any] | None:
    """Tokens as OpenAI counts them; None where they are unknown."""
    if tokens is None:
        return None
    return {
        "prompt_tokens": tokens.input_tokens,
        "completion_tokens": tokens.output_tokens,
        "total_tokens": tokens.input_tokens + tokens.output_tokens,
        "prompt_tokens_details": {"cached_tokens": tokens.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning_tokens},
    }
