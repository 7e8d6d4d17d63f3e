"""``/dashboard/review/next`` and ``/dashboard/review``: runs for people to look at, and what they say of them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qsl

from cascade.errors import RunNotFoundError
from cascade.gateway.endpoint import Reply
from cascade.gateway.errors import ApiError
from cascade.gateway.validation import number, text
from cascade.journal.review import Review, case_of, next_case, note_of

from .journal_access import on_store

LEAST_CHANCE, MOST_CHANCE = 1e-4, 1e4

if TYPE_CHECKING:
    from cascade.gateway.auth.keys import Caller
    from cascade.gateway.state import Gateway
    from cascade.journal.store import SqlStore

T = TypeVar("T")


async def next_review(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``GET /dashboard/review/next?skip=RUN_ID&order=random``: a prompt with two answers; not which was returned.

    A run that was drawn by chance has its probability, relative to the others, which ``POST`` gives back.
    """
    query = parse_qsl(reply.query, max_num_fields=200)
    skipped = frozenset(value for name, value in query if name == "skip")
    at_random = _at_random(dict(query).get("order"))
    case, waiting = await _ask(gateway, lambda store: next_case(store, skipped, at_random=at_random))
    if case is None:
        await reply.json({"waiting": waiting, "case": None})
        return
    a, b = case.answers
    page: dict[str, object] = {"run_id": case.run_id, "policy": case.policy, "messages": case.messages, "a": a, "b": b}
    if case.chance is not None:
        page["chance"] = case.chance
    await reply.json({"waiting": waiting, "case": page})


async def review(gateway: "Gateway", caller: "Caller", body: Mapping[str, Any], reply: Reply) -> None:
    """``POST /dashboard/review``: the quality of A and of B, the order and the chance; stored as feedback on the run."""
    for name in ("run_id", "a", "b"):
        if name not in body:
            raise ApiError(400, f"{name}: is missing", param=name)
    run_id = text(body["run_id"], "run_id", 64, empty=False)
    qualities = number(body["a"], "a", 0, 1), number(body["b"], "b", 0, 1)
    record = await _ask(gateway, lambda store: store.find(run_id))
    case = None if record is None else case_of(record)
    if case is None:
        raise ApiError(404, "run_id: no such run with two answers", param="run_id", code="run_not_found")
    returned, premium = qualities[case.returned], qualities[1 - case.returned]
    done = Review(returned=returned, premium=premium, chance=_chance(body))
    with gateway.active as cascade:
        try:
            await cascade.afeedback(run_id, quality=returned, note=note_of(done))
        except RunNotFoundError as error:
            raise ApiError(404, f"run_id: {error}", param="run_id", code="run_not_found") from None
    await reply.json({"run_id": run_id, "quality": returned, "premium": premium})


def _at_random(order: object) -> bool:
    if order not in (None, "informative", "random"):
        raise ApiError(400, f"order: must be 'informative' or 'random', got {order!r}", param="order")
    return order == "random"


def _chance(body: Mapping[str, Any]) -> float | None:
    """Without its chance, a run counts as one that was shown because it was hard."""
    if not _at_random(body.get("order")) or body.get("chance") is None:
        return None
    return number(body["chance"], "chance", LEAST_CHANCE, MOST_CHANCE)


async def _ask(gateway: "Gateway", work: "Callable[[SqlStore], T]") -> T:
    url = gateway.journal_url
    if url is None:
        raise ApiError(404, "there is no journal; add the key journal to the policy file", code="no_journal")
    return await on_store(url, work)
