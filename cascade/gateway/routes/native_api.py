"""The gateway's own interface: route, gate and feedback."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cascade.errors import RunNotFoundError
from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError, bad_request
from cascade.gateway.field_readers import max_tokens, needs, session, usd
from cascade.gateway.openai.messages import calls_of, messages_of, tools_of
from cascade.gateway.request import GatewayRequest, ignored_fields
from cascade.gateway.response import headers
from cascade.gateway.run_request import allowed_policy, check_schema, journal_tags, run_request
from cascade.gateway.schemas.bounds import schema_of
from cascade.gateway.validation import number, object_of, other_name, shorten, text
from cascade.result import Attempt, Result
from judges import Answer, Message, Prompt

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway

_ROUTE = frozenset(
    ("prompt", "policy", "system", "schema", "budget", "deadline_s", "accuracy", "latency", "session", "max_tokens", "tags")
)
_GATE = frozenset(
    (
        *("prompt", "answer", "policy", "tier", "system", "schema", "accuracy", "tags"),
        *("tools", "tool_choice", "tool_calls", "finish_reason"),
    )
)
_FEEDBACK = frozenset(("run_id", "quality", "note"))


async def route(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/route``: answers a prompt and says how the answer was found."""
    _check_fields(body, _ROUTE, "prompt")
    request = _request(body)
    if (budget := body.get("budget")) is not None:
        request.budget_usd = usd(budget, "budget")
    if (seconds := body.get("deadline_s")) is not None:
        request.deadline_s = number(seconds, "deadline_s", 0.001, 86_400)
    needs(body, request)
    session(body, request)
    allowed_policy(gateway.active, caller, request.policy)  # here a name is a policy's: aliases are for models
    (result,) = await run_request(gateway, caller, request)
    await reply.json(result_data(request, result), headers([result]))


async def gate(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/gate``: judges an answer that the caller already has."""
    _check_fields(body, _GATE, "prompt")
    request = _request(body)
    needs(body, request)
    if body.get("tools") is not None:
        request.tools = tools_of(body["tools"])
    answer = _answer(body)
    config = gateway.active
    policy = allowed_policy(config, caller, request.policy)
    await check_schema(gateway, request)
    tier = body.get("tier")
    if tier is not None and tier not in [t.name for t in policy.tiers]:
        message = f"tier: policy {request.policy!r} has no tier {text(tier, 'tier', 256)!r}"
        raise ApiError(404, message, param="tier")
    with config as cascade:
        result = await cascade.agate(
            replace(request.prompt, tool_choice=_tool_choice(body)),
            answer,
            policy=request.policy,
            tier=tier,
            min_confidence=request.min_confidence,
            tags=journal_tags(caller, request.tags),
            daily=caller.daily,
        )
    data = result_data(request, result)
    del data["answer"], data["parsed"]
    data.pop("reasoning", None)
    await reply.json(data, headers([result]))


async def feedback(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/feedback``: stores how good a run's answer turned out to be."""
    _check_fields(body, _FEEDBACK, "run_id", "quality")
    run_id = text(body["run_id"], "run_id", 64, empty=False)
    quality = number(body["quality"], "quality", 0, 1)
    note = None if body.get("note") is None else text(body["note"], "note", 2000)
    if gateway.journal is None:
        raise ApiError(409, "there is no journal to store feedback in; name one in the policy file", code="no_journal")
    run = gateway.stats.find(run_id) or await gateway.find_record(run_id)
    if run is not None and not caller.may(run.policy, gateway.active.cascade.policies):
        raise ApiError(403, "run_id: this key may not use the run's policy", param="run_id", code="policy_not_allowed")
    with gateway.active as cascade:
        try:
            await cascade.afeedback(run_id, quality=quality, note=note)
        except ValueError as error:
            raise bad_request(str(error), "note") from None
        except RunNotFoundError as error:
            raise ApiError(404, f"run_id: {error}", param="run_id", code="run_not_found") from None
    if run is not None and run.confidence is not None:
        gateway.stats.add_feedback(run_id, run.confidence, quality)
    await reply.json({"run_id": run_id, "quality": quality})


def _check_fields(body: Mapping[str, Any], known_fields: frozenset[str], *required: str) -> None:
    for name in body:
        if name not in known_fields:
            raise bad_request(f"unknown field{other_name(name)}; known: {', '.join(sorted(known_fields))}", shorten(name))
    for name in required:
        if body.get(name) is None:
            raise bad_request("is missing", name)


def _answer(body: Mapping[str, Any]) -> Answer:
    """The answer to judge: a text, tool calls, or both."""
    if body.get("answer") is None and not body.get("tool_calls"):
        raise bad_request("is missing", "answer")
    reason = body.get("finish_reason")
    return Answer(
        "" if body.get("answer") is None else text(body["answer"], "answer"),
        tool_calls=calls_of(body["tool_calls"], "tool_calls") if body.get("tool_calls") is not None else (),
        finish_reason=None if reason is None else text(reason, "finish_reason", 64),
    )


def _tool_choice(body: Mapping[str, Any]) -> Any:
    choice = body.get("tool_choice")
    if choice is not None and not isinstance(choice, str | dict):
        raise bad_request("must be a string or an object, as in OpenAI's chat completions", "tool_choice")
    return choice


def _request(body: Mapping[str, Any]) -> GatewayRequest:
    request = GatewayRequest()
    request.policy = "default" if body.get("policy") is None else text(body["policy"], "policy", 256, empty=False)
    prompt = body["prompt"]
    messages: tuple[Message, ...]
    if isinstance(prompt, str):
        messages = Prompt.of(text(prompt, "prompt", empty=False)).messages
    else:
        messages = messages_of(prompt, request.uses, "prompt")
        if not messages:
            raise bad_request("is empty", "prompt")
    if body.get("system") is not None:
        messages = ({"role": "system", "content": text(body["system"], "system")}, *messages)
    request.messages = messages
    if body.get("schema") is not None:
        request.set_schema(schema_of(body["schema"], "schema"), "schema")
    if body.get("max_tokens") is not None:
        max_tokens("max_tokens")(body["max_tokens"], request)
    for name, value in object_of({} if body.get("tags") is None else body["tags"], "tags").items():
        if not isinstance(value, str | int | float | bool):
            raise bad_request("must be a string, a number or a boolean", f"tags.{shorten(name)}")
        request.tags[name] = value
    return request


def result_data(request: GatewayRequest, result: Result) -> dict[str, Any]:
    """A result as plain data; ``reasoning`` and ``ignored`` are there only where there is something in them."""
    ignored = ignored_fields(request, result)
    return {
        "answer": None if result.abstained else result.text,
        "parsed": result.parsed,
        **({"reasoning": result.reasoning} if result.reasoning else {}),
        "accepted": result.accepted,
        "judged": result.judged,
        "confidence": result.confidence,
        "calibrated": result.calibrated,
        "reason": result.reason,
        "policy": request.policy,
        "tier": result.tier,
        "model": result.model,
        "cost_usd": result.cost_usd,
        "latency_s": result.latency_s,
        "run_id": result.run_id,
        "attempts": [_attempt(a) for a in result.attempts],
        **({"ignored": ignored} if ignored else {}),
    }


def _attempt(a: Attempt) -> dict[str, Any]:
    return {
        "tier": a.tier,
        "model": a.model,
        "reason": a.reason,
        "confidence": a.confidence,
        "cost_usd": a.cost_usd,
        "judge_cost_usd": a.judge_cost_usd,
        "latency_s": a.latency_s,
        "calls": a.calls,
        "verdicts": [{"judge": v.judge, "score": v.score, "veto": v.veto, "reason": v.reason} for v in a.verdicts],
    }
