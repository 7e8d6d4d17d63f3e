"""Ask the cheap model first, judge its answer, escalate only when it is not good enough.

    result = cascade.run("What is 17 * 3?")
    if result.accepted: use(result.text)

Importing this package loads nothing heavy: each name below is loaded when it is first used.

The public API is ``__all__`` of this package and of ``judges``, and the names without a leading underscore in these modules:

- ``cascade.options``: the types of the keywords, for wrappers
- ``cascade.errors``: every exception, as a tree
- ``cascade.result``: what a run returns, down to each request
- ``cascade.models.protocol``: what a model of your own implements
- ``cascade.policy.schema``, ``cascade.policy.load``: the policy file as objects
- ``cascade.costs.budget``: what a ledger of your own implements
- ``cascade.journal.journal``, ``cascade.telemetry``: what ``Cascade(journal=, telemetry=)`` accept
- ``evals.recording``, ``evals.grade``: recordings and graders

Every other module is private: it may change in any release without an entry in the changelog.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .util.own_packages import check_own
from .util.version import VERSION

check_own("judges")  # before anything imports it, so that the error can name the file in the way

if TYPE_CHECKING:
    from cascade.engine.streaming import Escalated, Event, Finished, Reasoning, Retracted, TierStarted, Token, VerdictGiven
    from cascade.models.scripted import ScriptedModel
    from cascade.policy.schema import Policy
    from judges import Answer, Prompt, Usage, Verdict

    from .client import Cascade
    from .default_client import afeedback, agate, arun, astream, feedback, gate, run, stream
    from .errors import (
        BudgetError,
        CascadeError,
        DeadlineError,
        JournalError,
        PolicyError,
        ProviderError,
        RunError,
        RunNotFoundError,
        StateError,
        UnsureError,
    )
    from .result import Attempt, Result

__version__ = VERSION

_WHERE = {
    **dict.fromkeys(
        ("afeedback", "agate", "arun", "astream", "feedback", "gate", "run", "stream"), "cascade.default_client"
    ),
    "Cascade": "cascade.client",
    **dict.fromkeys(("Answer", "Prompt", "Usage", "Verdict"), "judges"),
    **dict.fromkeys(
        (
            "BudgetError",
            "CascadeError",
            "DeadlineError",
            "JournalError",
            "PolicyError",
            "ProviderError",
            "RunError",
            "RunNotFoundError",
            "StateError",
            "UnsureError",
        ),
        "cascade.errors",
    ),
    "ScriptedModel": "cascade.models.scripted",
    "Policy": "cascade.policy.schema",
    "Attempt": "cascade.result",
    "Result": "cascade.result",
    **dict.fromkeys(
        ("Escalated", "Event", "Finished", "Reasoning", "Retracted", "TierStarted", "Token", "VerdictGiven"),
        "cascade.engine.streaming",
    ),
}

__all__ = [
    "Answer",
    "Attempt",
    "BudgetError",
    "Cascade",
    "CascadeError",
    "DeadlineError",
    "Escalated",
    "Event",
    "Finished",
    "JournalError",
    "Policy",
    "PolicyError",
    "Prompt",
    "ProviderError",
    "Reasoning",
    "Result",
    "Retracted",
    "RunError",
    "RunNotFoundError",
    "ScriptedModel",
    "StateError",
    "TierStarted",
    "Token",
    "UnsureError",
    "Usage",
    "Verdict",
    "VerdictGiven",
    "afeedback",
    "agate",
    "arun",
    "astream",
    "feedback",
    "gate",
    "run",
    "stream",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
