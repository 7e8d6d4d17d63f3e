"""The reports of the engine during a run; ``cascade.telemetry`` turns them into spans and metrics."""

from collections.abc import Sequence
from typing import Protocol

from cascade.costs.prices import ModelSettings
from cascade.models.protocol import Model, Request
from cascade.resilience.breaker import Breaker
from cascade.result import CallRecord
from judges import Answer, Judge, Prompt, Verdict


class CallObserver(Protocol):
    """Observes one request to a model, from its start to its end."""

    def end(self, record: CallRecord, answers: Sequence[Answer]) -> None:
        """The request ended; ``answers`` is empty where it failed."""
        ...


class Observer(Protocol):
    """Observes requests, verdicts and circuit breakers. Every method returns at once and raises nothing."""

    def watch(self, model: str, breaker: Breaker) -> None:
        """Follows the state of a model's circuit breaker from now on."""
        ...

    def call(self, model: Model, spec: ModelSettings | None, prompt: Prompt, request: Request, purpose: str) -> CallObserver:
        """A request to a model begins; ``CallObserver.end`` follows in the same task.

        Args:
            model: The model that the request goes to.
            spec: The model's settings; None for a model that the caller gave.
            prompt: What is sent.
            request: How it is sent.
            purpose: "answer", or the name of the judge that sends the request.
        """
        ...

    def verdict(self, tier: str, judge: Judge, outcome: Verdict | BaseException) -> None:
        """A judge gave a verdict on a tier's answer, or failed with an exception."""
        ...
