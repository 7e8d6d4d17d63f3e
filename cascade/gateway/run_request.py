"""The run behind a request: checked against key, policy and models, then run once for each choice."""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cascade.journal.record import checked_tags
from cascade.policy.schema import Policy
from cascade.result import Result

from .errors import ApiError, bad_request
from .request import GatewayRequest, Tags, check_supported, find_policy, run_limits, session_of

if TYPE_CHECKING:
    from .auth.keys import Caller
    from .state import ActiveConfig, Gateway


def allowed_policy(config: "ActiveConfig", caller: "Caller", name: str) -> Policy:
    """The policy that a request names.

    Raises:
        ApiError: 403 where the key may not use it, 404 where it does not exist.
    """
    if not caller.may(name, config.cascade.policies):
        # The same response whether it exists or not: other keys' policies are not disclosed.
        raise ApiError(403, f"model: this key may not use the policy {name!r}", param="model", code="policy_not_allowed")
    return find_policy(config.cascade, name, config.file.aliases)


def run_options(config: "ActiveConfig", caller: "Caller", request: GatewayRequest) -> dict[str, Any]:
    """The keyword arguments of ``Cascade.arun`` other than the prompt and the request.

    Raises:
        ApiError: The request cannot be run with this key, policy or models.
    """
    request.policy = config.policy_name(request.policy)
    policy = allowed_policy(config, caller, request.policy)
    check_supported(request, policy, config.models)
    if request.budget_usd is not None and (unpriced := config.cascade.unpriced(request.policy)):
        message = f"cannot be enforced: the price of the model {', '.join(unpriced)} is unknown"
        raise bad_request(message, "budget", "unpriced")
    budget, deadline = run_limits(policy, request)
    return {
        "policy": request.policy,
        "budget_usd": budget,
        "deadline_s": deadline,
        "min_confidence": request.min_confidence,
        "max_latency_s": request.max_latency_s,
        "session": session_of(request, policy, caller.name),
        "tags": journal_tags(caller, request.tags),
        "daily": caller.daily,
    }


def journal_tags(caller: "Caller", tags: Tags) -> Mapping[str, Any]:
    """The client's tags for the journal, with the name of its key.

    Raises:
        ApiError: A tag that the journal does not take, or the reserved name ``key``.
    """
    if caller.name is not None:
        if "key" in tags:
            raise bad_request("this name is reserved for the gateway", "metadata.key")
        tags = {**tags, "key": caller.name}
    if not tags:
        return tags
    try:
        return checked_tags(tags)
    except (TypeError, ValueError) as error:
        raise bad_request(str(error), "metadata") from None


async def check_schema(gateway: "Gateway", request: GatewayRequest) -> None:
    """Checks the client's schema, if there is one, outside the event loop where that may take long.

    Raises:
        ApiError: 400 where it is not valid.
    """
    if request.schema is not None:
        await gateway.schemas.check(request.schema, request.schema_field)


async def run_request(gateway: "Gateway", caller: "Caller", request: GatewayRequest) -> Sequence[Result]:
    """Runs a request.

    Args:
        gateway: What all requests share.
        caller: Who sent it.
        request: What to run.

    Returns:
        The results, one for each choice. The choices run concurrently.

    Raises:
        ApiError: The request cannot be run with this key, policy or models.
        CascadeError: As ``Cascade.arun``.
    """
    config = gateway.active
    options = run_options(config, caller, request)
    await check_schema(gateway, request)
    with config as cascade:
        prompt = request.prompt
        if request.n == 1:
            return [await cascade.arun(prompt, request=request.model_request(), **options)]
        runs = (cascade.arun(prompt, request=request.model_request(i), **options) for i in range(request.n))
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_outcome(run)) for run in runs]
    outcomes = [task.result() for task in tasks]
    for outcome in outcomes:
        if isinstance(outcome, Exception):
            raise outcome
    return [outcome for outcome in outcomes if isinstance(outcome, Result)]


async def _outcome(run: Awaitable[Result]) -> Result | Exception:
    """Returns a failure as a value: it must not cancel the other choices, which are paid for."""
    try:
        return await run
    except Exception as error:
        return error
