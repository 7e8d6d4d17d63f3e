"""Small cascades over scripted models, for the journal's tests."""

from collections.abc import Callable, Mapping
from typing import Any

from cascade import Answer, Cascade, Policy, ScriptedModel, Usage
from cascade.journal.open_store import open_store
from cascade.journal.record import Record
from cascade.journal.store import Filter

SURE = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-5)
POOR = Answer("41", mean_logprob=-2.0, finish_reason="stop", usage=Usage(100, 10), cost_usd=1e-5)
BEST = Answer("42", mean_logprob=-0.01, finish_reason="stop", usage=Usage(100, 12), cost_usd=1e-3)


def policy(*judges: Any, **settings: Any) -> Policy:
    """Two tiers, cheap and premium."""
    judged = list(judges) or ["rules", "logprob"]
    tiers = [
        {"name": "cheap", "model": "small", "accept_at": 0.7, "judges": judged},
        {"name": "premium", "model": "large", "accept_at": 0.5, "judges": judged},
    ]
    return Policy.model_validate({"tiers": tiers, **settings})


def cascade(
    journal: Any, small: Any = POOR, large: Any = BEST, *judges: Any, delay_s: float = 0.0, **settings: Any
) -> Cascade:
    """A cascade of the two tiers; a script is an answer, a list, a function or an exception."""

    def script(reply: Any) -> Any:
        return reply if isinstance(reply, Callable | list) else [reply]  # type: ignore[arg-type]

    models = {
        "small": ScriptedModel("small", script(small), delay_s=delay_s),
        "large": ScriptedModel("large", script(large), delay_s=delay_s),
    }
    return Cascade(policy(*judges, **settings), models=models, journal=journal)


def records(url: str, **selection: Any) -> list[Record]:
    """What the journal holds."""
    store = open_store(url, create=False)
    try:
        return list(store.read(Filter(**selection)))
    finally:
        store.close()


def everything(url: str) -> str:
    """Every value of every table as text, to search for what must not be there."""
    store: Any = open_store(url, create=False)
    try:
        tables = ("cascade_runs", "cascade_policies", "cascade_feedback")
        return repr([store.execute(f"SELECT * FROM {table}") for table in tables])
    finally:
        store.close()


def policies(url: str) -> Mapping[str, str]:
    """The stored policies."""
    store = open_store(url, create=False)
    try:
        return store.policies()
    finally:
        store.close()
