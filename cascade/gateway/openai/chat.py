"""OpenAI's chat completions: a request's fields in our words, and a result as a completion."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from time import time
from typing import Any

from jiter import from_json

from cascade.gateway.errors import bad
from cascade.gateway.request import GatewayRequest
from cascade.gateway.response import dump, summary, total_usd, usage_of
from cascade.gateway.validation import boolean, by_table, listed, number, object_of, one_of, shallow, text, whole
from cascade.result import Result
from judges import Usage

from .messages import messages_of, tools_of

MOST_CHOICES = 8


def read(body: Mapping[str, Any]) -> GatewayRequest:
    """What is asked for. Raises Refusal for whatever cannot be honoured, naming the field."""
    asked = GatewayRequest()
    by_table(body, _READERS, asked)
    for name, given in (("model", asked.policy), ("messages", asked.messages)):
        if not given:
            raise bad("is missing", name)
    if asked.stream and asked.n > 1:
        raise bad("a stream holds one choice; leave n out or stream out", "n")
    if asked.include_usage and not asked.stream:
        raise bad("is for streams only", "stream_options")
    if not asked.tools:
        for name in ("tool_choice", "parallel_tool_calls"):
            if name in asked.options:
                raise bad("needs tools", name)
    return asked


def _model(value: Any, asked: GatewayRequest) -> None:
    asked.policy = text(value, "model", 256, empty=False)


def _messages(value: Any, asked: GatewayRequest) -> None:
    asked.messages = messages_of(value, asked.uses)


def _tools(value: Any, asked: GatewayRequest) -> None:
    asked.tools = tools_of(value)


def _tool_choice(value: Any, asked: GatewayRequest) -> None:
    if isinstance(value, str):
        one_of(value, "tool_choice", ("none", "auto", "required"))
    else:
        object_of(value, "tool_choice", ("type", "function"), ("type", "function"))
        one_of(value["type"], "tool_choice.type", ("function",))
        object_of(value["function"], "tool_choice.function", ("name",), ("name",))
        text(value["function"]["name"], "tool_choice.function.name", 256, empty=False)
    asked.options["tool_choice"] = value


def _response_format(value: Any, asked: GatewayRequest) -> None:
    object_of(value, "response_format", ("type", "json_schema"), ("type",))
    kind = one_of(value["type"], "response_format.type", ("text", "json_object", "json_schema"))
    if kind == "json_object":
        asked.schema, asked.options["response_format"] = {"type": "object"}, {"type": "json_object"}
        asked.uses.add("response_format.type")
    elif kind == "json_schema":
        where = "response_format.json_schema"
        # Every answer is judged against the schema, so that strict is what it is in any case.
        given = object_of(value.get("json_schema"), where, ("name", "description", "schema", "strict"), ("schema",))
        asked.schema = schema_of(given["schema"], f"{where}.schema")


def schema_of(value: Any, name: str) -> Mapping[str, Any]:
    """A JSON Schema that can be judged by. Raises Refusal."""
    schema = object_of(shallow(value, name), name)
    problem = _schema_problem(dump(schema))
    if problem is not None:
        raise bad(f"is not a JSON Schema: {problem}", name)
    return schema


@lru_cache(maxsize=256)
def _schema_problem(schema: bytes) -> str | None:
    # A client mostly sends the same few, and checking one takes longer than a run.
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import SchemaError

    try:
        Draft202012Validator.check_schema(from_json(schema))
    except SchemaError as error:
        return error.message[:200]
    return None


def _stop(value: Any, asked: GatewayRequest) -> None:
    words = [value] if isinstance(value, str) else listed(value, "stop")
    if not 0 < len(words) <= 4:
        raise bad("must be one to four texts", "stop")
    asked.options["stop"] = [text(word, f"stop[{i}]", 256, empty=False) for i, word in enumerate(words)]


def _temperature(value: Any, asked: GatewayRequest) -> None:
    asked.temperature = number(value, "temperature", 0, 2)
    if asked.temperature > 1:
        asked.uses.add("temperature")


def _max_tokens(name: str) -> Callable[[Any, GatewayRequest], None]:
    def reader(value: Any, asked: GatewayRequest) -> None:
        if asked.max_tokens is not None:
            raise bad("max_tokens is its older name; give one of the two", "max_completion_tokens")
        asked.max_tokens = whole(value, name, 1, 10_000_000)

    return reader


def _n(value: Any, asked: GatewayRequest) -> None:
    asked.n = whole(value, "n", 1, MOST_CHOICES)


def _logprobs(value: Any, asked: GatewayRequest) -> None:
    asked.logprobs = boolean(value, "logprobs")
    if asked.logprobs:
        asked.uses.add("logprobs")


def _top_logprobs(value: Any, _: GatewayRequest) -> None:
    if value != 0:
        raise bad("alternatives are not kept; only 0 can be honoured", "top_logprobs", "unsupported")


def _user(value: Any, asked: GatewayRequest) -> None:
    asked.tags["user"] = text(value, "user", 256)


def _metadata(value: Any, asked: GatewayRequest) -> None:
    for name, given in object_of(value, "metadata").items():
        asked.tags[name] = text(given, f"metadata.{name}", 256)


def _stream(value: Any, asked: GatewayRequest) -> None:
    asked.stream = boolean(value, "stream")


def _stream_options(value: Any, asked: GatewayRequest) -> None:
    given = object_of(value, "stream_options", ("include_usage",))
    asked.include_usage = boolean(given.get("include_usage", False), "stream_options.include_usage")


def _cascade(value: Any, asked: GatewayRequest) -> None:
    given = object_of(value, "cascade", ("budget_usd", "deadline_s"))
    if given.get("budget_usd") is not None:
        asked.budget_usd = number(given["budget_usd"], "cascade.budget_usd", 0, 1e6)
    if given.get("deadline_s") is not None:
        asked.deadline_s = number(given["deadline_s"], "cascade.deadline_s", 0.001, 86_400)


def _only(name: str, *values: Any) -> Callable[[Any, GatewayRequest], None]:
    """A field whose other values could not be honoured."""

    def reader(value: Any, _: GatewayRequest) -> None:
        if value not in values or type(value) not in {type(v) for v in values}:
            shown = " or ".join(map(repr, values)).lower()
            raise bad(f"only {shown} can be honoured", name, "unsupported")

    return reader


def _option(name: str, check: Callable[[Any, str], Any], *, rare: bool = True) -> Callable[[Any, GatewayRequest], None]:
    """A field that is passed on; ``rare``: not by every provider."""

    def reader(value: Any, asked: GatewayRequest) -> None:
        asked.options[name] = check(value, name)
        if rare:
            asked.uses.add(name)

    return reader


def _bias(value: Any, name: str) -> Any:
    for token, bias in object_of(value, name).items():
        number(bias, f"{name}.{token}", -100, 100)
    return value


_READERS: Mapping[str, Callable[[Any, GatewayRequest], None]] = {
    "model": _model,
    "messages": _messages,
    "tools": _tools,
    "tool_choice": _tool_choice,
    "parallel_tool_calls": _option("parallel_tool_calls", boolean, rare=False),
    "response_format": _response_format,
    "stop": _stop,
    "seed": _option("seed", lambda v, name: whole(v, name, -(2**63), 2**63 - 1)),
    "temperature": _temperature,
    "top_p": _option("top_p", lambda v, name: number(v, name, 0, 1), rare=False),
    "presence_penalty": _option("presence_penalty", lambda v, name: number(v, name, -2, 2)),
    "frequency_penalty": _option("frequency_penalty", lambda v, name: number(v, name, -2, 2)),
    "logit_bias": _option("logit_bias", _bias),
    "max_tokens": _max_tokens("max_tokens"),
    "max_completion_tokens": _max_tokens("max_completion_tokens"),
    "n": _n,
    "logprobs": _logprobs,
    "top_logprobs": _top_logprobs,
    "reasoning_effort": _option("reasoning_effort", lambda v, name: text(v, name, 32)),
    "verbosity": _option("verbosity", lambda v, name: text(v, name, 32)),
    "prompt_cache_key": _option("prompt_cache_key", lambda v, name: text(v, name, 256)),
    "safety_identifier": _option("safety_identifier", lambda v, name: text(v, name, 256)),
    "user": _user,
    "metadata": _metadata,
    "stream": _stream,
    "stream_options": _stream_options,
    "store": _only("store", False),
    "service_tier": _only("service_tier", "auto", "default"),
    "modalities": _only("modalities", ["text"]),
    "cascade": _cascade,
}


def completion(asked: GatewayRequest, results: Sequence[Result]) -> dict[str, Any]:
    """The results as one completion, a choice each."""
    first = results[0]
    told = [summary(asked.policy, result) for result in results]
    made: dict[str, Any] = {
        "id": f"chatcmpl-{first.run_id}",
        "object": "chat.completion",
        "created": int(time()),
        "model": first.model,
        "choices": [_choice(asked, i, result) for i, result in enumerate(results)],
        "usage": usage(usage_of(results)),
    }
    if len(results) == 1:
        made["cascade"] = told[0]
    else:
        accepted = all(result.accepted for result in results)
        made["cascade"] = {"accepted": accepted, "cost_usd": total_usd(results), "choices": told}
    return made


def _choice(asked: GatewayRequest, i: int, result: Result) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": result.text, "refusal": None}
    if result.abstained:
        message["content"], message["refusal"] = None, abstention(result)
    elif result.tool_calls:
        message["tool_calls"] = result.tool_calls
        message["content"] = result.text or None
    return {"index": i, "message": message, "finish_reason": finish(result), "logprobs": logprobs(asked, result)}


def abstention(result: Result) -> str:
    """What is said in an answer's place where the policy says ``when_unsure: abstain``."""
    return f"No answer was good enough ({result.reason})."


def finish(result: Result) -> str:
    """Why the answer ended, in OpenAI's words."""
    said = result.answer.finish_reason if result.answer is not None else None
    return said or ("tool_calls" if result.tool_calls else "stop")


def logprobs(asked: GatewayRequest, result: Result) -> dict[str, Any] | None:
    """The answer's tokens where they were asked for; None where the model gave none."""
    tokens = result.answer.logprobs if asked.logprobs and result.answer is not None else None
    if tokens is None:
        return None
    content = [
        {"token": t.token, "logprob": t.logprob, "bytes": list(t.token.encode("utf-8", "replace")), "top_logprobs": []}
        for t in tokens
    ]
    return {"content": content, "refusal": None}


def usage(counted: Usage | None) -> dict[str, Any] | None:
    """Tokens as OpenAI counts them; None where they are unknown."""
    if counted is None:
        return None
    return {
        "prompt_tokens": counted.input_tokens,
        "completion_tokens": counted.output_tokens,
        "total_tokens": counted.input_tokens + counted.output_tokens,
        "prompt_tokens_details": {"cached_tokens": counted.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": counted.reasoning_tokens},
    }
