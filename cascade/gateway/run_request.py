"""The run behind a request: checked against key, policy and models, then asked once or once for each choice."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.journal.record import checked_tags
from cascade.policy.schema import Policy
from cascade.result import Result

from .errors import ApiError, bad
from .request import GatewayRequest, Tags, check_honoured, lowered, policy_of

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller

    from .state import ActiveConfig, Gateway


def allowed(serving: "ActiveConfig", caller: "Caller", name: str) -> Policy:
    """The policy that a request names. Raises Refusal where there is none, or the key may not use it."""
    if not caller.may(name, serving.cascade.policies):
        # The same whether it exists or not: what others use is nobody's business.
        raise ApiError(403, f"model: this key may not use the policy {name!r}", param="model", code="policy_not_allowed")
    return policy_of(serving.cascade, name)


def options_of(serving: "ActiveConfig", caller: "Caller", asked: GatewayRequest) -> dict[str, Any]:
    """What ``arun`` is given beside the prompt and the request. Raises Refusal."""
    policy = allowed(serving, caller, asked.policy)
    check_honoured(asked, policy, serving.models)
    if asked.budget_usd is not None and (missing := serving.cascade.unpriced(asked.policy)):
        raise bad(f"cannot be kept: what the model {', '.join(missing)} costs is not known", "budget", "unpriced")
    budget, deadline = lowered(policy, asked)
    return {
        "policy": asked.policy,
        "budget_usd": budget,
        "deadline_s": deadline,
        "tags": tags_of(caller, asked.tags),
        "daily": caller.daily,
    }


def tags_of(caller: "Caller", tags: Tags) -> Mapping[str, Any]:
    """The client's tags for the journal, with the name of its key. Raises Refusal."""
    if caller.name is not None:
        if "key" in tags:
            raise bad("this name is the gateway's own", "metadata.key")
        tags = {**tags, "key": caller.name}
    if not tags:
        return tags
    try:
        return checked_tags(tags)
    except (TypeError, ValueError) as error:
        raise bad(str(error), "metadata") from None


async def answer(gateway: "Gateway", caller: "Caller", asked: GatewayRequest) -> Sequence[Result]:
    """The results, one for each choice, asked for side by side. Raises Refusal and what ``arun`` raises."""
    serving = gateway.serving
    options = options_of(serving, caller, asked)
    with serving as cascade:
        prompt = asked.prompt
        if asked.n == 1:
            return [await cascade.arun(prompt, request=asked.request(), **options)]
        runs = (cascade.arun(prompt, request=asked.request(i), **options) for i in range(asked.n))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_value(run)) for run in runs]
    found = [task.result() for task in tasks]
    for result in found:
        if isinstance(result, Exception):
            raise result
    return [result for result in found if isinstance(result, Result)]


async def _value(run: Any) -> Result | Exception:
    """A failure as a value, so that the others' answers, which are paid for, are not cancelled by it."""
    try:
        result: Result = await run
    except Exception as error:
        return error
    return result
