"""The gateway's own interface: route, gate and feedback."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from cascade.errors import RunNotFoundError
from cascade.gateway.dashboard.events import find
from cascade.gateway.openai.chat import schema_of
from cascade.gateway.openai.messages import messages_of
from cascade.result import Attempt, Result
from judges import Message, Prompt

from .endpoint import Reply
from .errors import ApiError, bad
from .request import GatewayRequest
from .response import headers
from .run_request import allowed, answer, tags_of
from .validation import number, object_of, text

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller

    from .state import Gateway

_ROUTE = frozenset(("prompt", "policy", "system", "schema", "budget", "deadline_s", "max_tokens", "tags"))
_GATE = frozenset(("prompt", "answer", "policy", "tier", "system", "schema", "tags"))
_FEEDBACK = frozenset(("run_id", "quality", "note"))


async def route(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/route``: a prompt -> its answer and how it came."""
    _fields(body, _ROUTE, "prompt")
    asked = _asked(body)
    if (budget := body.get("budget")) is not None:
        asked.budget_usd = number(_usd(budget), "budget", 0, 1e6)
    if (seconds := body.get("deadline_s")) is not None:
        asked.deadline_s = number(seconds, "deadline_s", 0.001, 86_400)
    (result,) = await answer(gateway, caller, asked)
    await reply.json(told(asked.policy, result), headers([result]))


async def gate(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/gate``: a prompt and an answer that the caller has -> what the judges say of it."""
    _fields(body, _GATE, "prompt", "answer")
    asked = _asked(body)
    given = text(body["answer"], "answer")
    serving = gateway.serving
    policy = allowed(serving, caller, asked.policy)
    tier = body.get("tier")
    if tier is not None and tier not in [t.name for t in policy.tiers]:
        raise ApiError(404, f"tier: policy {asked.policy!r} has no tier {text(tier, 'tier', 256)!r}", param="tier")
    with serving as cascade:
        result = await cascade.agate(
            asked.prompt, given, policy=asked.policy, tier=tier, tags=tags_of(caller, asked.tags), daily=caller.daily
        )
    made = told(asked.policy, result)
    del made["answer"], made["parsed"]
    await reply.json(made, headers([result]))


async def feedback(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /v1/feedback``: what later proved true of a run's answer."""
    _fields(body, _FEEDBACK, "run_id", "quality")
    run_id = text(body["run_id"], "run_id", 64, empty=False)
    quality = number(body["quality"], "quality", 0, 1)
    note = None if body.get("note") is None else text(body["note"], "note", 2000)
    if gateway.journal is None:
        raise ApiError(409, "there is no journal to keep it; name one in the policy file", code="no_journal")
    run = gateway.figures.find(run_id) or await find(gateway, run_id)
    if run is not None and not caller.may(run.policy, gateway.serving.cascade.policies):
        raise ApiError(403, "run_id: this key may not use the run's policy", param="run_id", code="policy_not_allowed")
    with gateway.serving as cascade:
        try:
            await cascade.afeedback(run_id, quality=quality, note=note)
        except ValueError as error:
            raise bad(str(error), "note") from None
        except RunNotFoundError as error:
            raise ApiError(404, f"run_id: {error}", param="run_id", code="run_not_found") from None
    if run is not None and run.confidence is not None:
        gateway.figures.feedback(run_id, run.confidence, quality)
    await reply.json({"run_id": run_id, "quality": quality})


def _fields(body: Mapping[str, Any], known: frozenset[str], *needed: str) -> None:
    for name in body:
        if name not in known:
            raise bad(f"unknown field; known: {', '.join(sorted(known))}", name)
    for name in needed:
        if body.get(name) is None:
            raise bad("is missing", name)


def _asked(body: Mapping[str, Any]) -> GatewayRequest:
    asked = GatewayRequest()
    asked.policy = "default" if body.get("policy") is None else text(body["policy"], "policy", 256, empty=False)
    prompt = body["prompt"]
    messages: tuple[Message, ...]
    if isinstance(prompt, str):
        messages = Prompt.of(text(prompt, "prompt", empty=False)).messages
    else:
        messages = messages_of(prompt, asked.uses)
        if not messages:
            raise bad("is empty", "prompt")
    if body.get("system") is not None:
        messages = ({"role": "system", "content": text(body["system"], "system")}, *messages)
    asked.messages = messages
    if body.get("schema") is not None:
        asked.schema = schema_of(body["schema"], "schema")
    if body.get("max_tokens") is not None:
        asked.max_tokens = int(number(body["max_tokens"], "max_tokens", 1, 1e7))
    for name, given in object_of({} if body.get("tags") is None else body["tags"], "tags").items():
        if not isinstance(given, str | int | float | bool):
            raise bad("must be a text, a number or a truth value", f"tags.{name}")
        asked.tags[name] = given
    return asked


def _usd(value: Any) -> Any:
    """Money may come as text, since a decimal fraction has no exact binary one."""
    if not isinstance(value, str):
        return value
    try:
        return float(value)
    except ValueError:
        raise bad("must be USD, such as 0.5 or '0.50'", "budget") from None


def told(policy: str, result: Result) -> dict[str, Any]:
    """A result as plain data."""
    return {
        "answer": None if result.abstained else result.text,
        "parsed": result.parsed,
        "accepted": result.accepted,
        "confidence": result.confidence,
        "calibrated": result.calibrated,
        "reason": result.reason,
        "policy": policy,
        "tier": result.tier,
        "model": result.model,
        "cost_usd": result.cost_usd,
        "latency_s": result.latency_s,
        "run_id": result.run_id,
        "attempts": [_attempt(a) for a in result.attempts],
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
