"""Every OpenTelemetry name: spans and events by the GenAI semantic conventions, and our own attributes.

``cascade.run {policy}`` is the span of one run (``invoke_workflow`` of the conventions) and holds an event
``gen_ai.evaluation.result`` for every verdict; ``chat {model}`` is the span of one request to a provider and the current one
while it lasts, so that the spans of instrumented HTTP clients nest in it. The conventions are still in development and their
constants in Python deprecated, so the names are defined here; a test compares them with the installed package.
"""

import asyncio
import re
from collections.abc import Sequence
from contextvars import Token
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from cascade.engine.outcome import attempts_of, result_of, run_reason
from cascade.result import CallRecord, Result
from cascade.util import version
from judges import Answer, Prompt, Verdict

from .messages import input_messages, output_messages
from .outcomes import VerdictLabel, failure

if TYPE_CHECKING:
    from cascade.costs.prices import ModelSettings
    from cascade.models.protocol import Model, Request

OPERATION, WORKFLOW, PROVIDER = "gen_ai.operation.name", "gen_ai.workflow.name", "gen_ai.provider.name"
REQUEST_MODEL, RESPONSE_MODEL = "gen_ai.request.model", "gen_ai.response.model"
CHOICES, MAX_TOKENS, TEMPERATURE = "gen_ai.request.choice.count", "gen_ai.request.max_tokens", "gen_ai.request.temperature"
FINISH_REASONS, OUTPUT_TYPE = "gen_ai.response.finish_reasons", "gen_ai.output.type"
INPUT_TOKENS, OUTPUT_TOKENS = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
CACHE_READ, CACHE_WRITTEN = "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_creation.input_tokens"
REASONING_TOKENS = "gen_ai.usage.reasoning.output_tokens"
INPUT_MESSAGES, OUTPUT_MESSAGES = "gen_ai.input.messages", "gen_ai.output.messages"
EVALUATION, EVALUATION_NAME = "gen_ai.evaluation.result", "gen_ai.evaluation.name"
SCORE, SCORE_LABEL = "gen_ai.evaluation.score.value", "gen_ai.evaluation.score.label"
EXPLANATION = "gen_ai.evaluation.explanation"
ERROR_TYPE, SERVER_ADDRESS, SERVER_PORT = "error.type", "server.address", "server.port"

POLICY, RUN_ID = "cascade.policy", "cascade.run_id"
ACCEPTED, REASON, TIER, MODEL = "cascade.accepted", "cascade.reason", "cascade.tier", "cascade.model"
CONFIDENCE, CALIBRATED, COST = "cascade.confidence", "cascade.calibrated", "cascade.cost_usd"
ATTEMPTS, CALLS, PURPOSE = "cascade.attempts", "cascade.calls", "cascade.purpose"

_RUN = context.create_key("cascade-run")
_ADDRESSES = {"openai": "https://api.openai.com", "anthropic": "https://api.anthropic.com"}
_WORD = re.compile(r"[A-Za-z_]{1,32}")  # a provider's own word for why it stopped: not a message, nor a key that it echoes


class Spans:
    """Opens spans with one tracer of ``provider`` (None: the process's own)."""

    def __init__(self, provider: Any, *, content: bool) -> None:
        self._tracer = trace.get_tracer("cascade", version.VERSION, provider)
        self._content = content

    def run(self, kind: str, policy: str) -> "RunSpan":
        """The span of a run, the current one from now on."""
        attributes = {OPERATION: "invoke_workflow", WORKFLOW: policy, POLICY: policy}
        span = self._tracer.start_span(f"cascade.{kind} {policy}", attributes=attributes)
        return RunSpan(span, self._content, context.set_value(_RUN, span))

    def call(
        self, model: "Model", spec: "ModelSettings | None", prompt: Prompt, request: "Request", purpose: str
    ) -> "CallSpan":
        """The span of a request, the current one from now on."""
        model_name = str(getattr(model, "model", model.name))
        provider = spec.provider if spec is not None else type(model).__name__.removesuffix("Model").lower()
        operation = "embeddings" if purpose == "embedding" else "chat"
        attributes: dict[str, AttributeValue] = {
            OPERATION: operation,
            PROVIDER: provider,
            REQUEST_MODEL: model_name,
            MODEL: model.name,
            PURPOSE: purpose,
            **_server(spec.base_url if spec is not None and spec.base_url is not None else _ADDRESSES.get(provider)),
        }
        if request.n != 1:
            attributes[CHOICES] = request.n
        if request.max_tokens is not None:
            attributes[MAX_TOKENS] = request.max_tokens
        if request.temperature is not None:
            attributes[TEMPERATURE] = request.temperature
        if prompt.schema is not None:
            attributes[OUTPUT_TYPE] = "json"
        span = self._tracer.start_span(f"{operation} {model_name}", kind=SpanKind.CLIENT, attributes=attributes)
        if self._content and span.is_recording():
            span.set_attribute(INPUT_MESSAGES, input_messages(prompt))
        return CallSpan(span, self._content)

    def verdict(self, tier: str, judge: str, outcome: Verdict | BaseException, label: VerdictLabel) -> None:
        """An event on the run's span; none where no run is under way, as when an answer is evaluated outside of one."""
        span = cast(Span | None, context.get_value(_RUN))
        if span is None or not span.is_recording():
            return
        attributes: dict[str, AttributeValue] = {EVALUATION_NAME: judge, SCORE_LABEL: label, TIER: tier}
        if isinstance(outcome, BaseException):
            attributes[ERROR_TYPE] = type(outcome).__name__
        else:
            if outcome.score is not None:
                attributes[SCORE] = outcome.score
            if self._content and outcome.reason:
                attributes[EXPLANATION] = _encodable(outcome.reason)
        span.add_event(EVALUATION, attributes)


@dataclass(slots=True)
class _Current:
    """A span that is the current one until it ends; it must end in the task in which it began."""

    _span: Span
    _content: bool
    _context: Context | None = None
    _token: Token[Context] = field(init=False)

    def __post_init__(self) -> None:
        self._token = context.attach(trace.set_span_in_context(self._span, self._context))

    def _close(self, attributes: dict[str, AttributeValue], error: str | None, message: str) -> None:
        context.detach(self._token)
        if error is not None:
            attributes[ERROR_TYPE] = error
            self._span.set_status(Status(StatusCode.ERROR, _encodable(message) if self._content else None))
        self._span.set_attributes(attributes)
        self._span.end()


@dataclass(slots=True)
class RunSpan(_Current):
    """The span of one run."""

    def end(self, outcome: Result | BaseException | None) -> None:
        """Ends the span with the run's outcome; unknown values are left out."""
        result, attempts = result_of(outcome), attempts_of(outcome)
        attributes: dict[str, AttributeValue] = {
            ACCEPTED: result is not None and result.accepted,
            REASON: run_reason(outcome),
            ATTEMPTS: len(attempts),
            CALLS: sum(len(a.call_log) for a in attempts),
        }
        run_id = getattr(outcome, "run_id", "")
        if run_id:
            attributes[RUN_ID] = run_id
        if result is not None:
            attributes |= {TIER: result.tier, MODEL: result.model, CONFIDENCE: result.confidence}
            attributes[CALIBRATED] = result.calibrated
            if result.cost_usd is not None:
                attributes[COST] = result.cost_usd
        error = outcome if isinstance(outcome, BaseException) else None
        kind = None if error is None else "cancelled" if isinstance(error, asyncio.CancelledError) else type(error).__name__
        self._close(attributes, kind, str(error))


@dataclass(slots=True)
class CallSpan(_Current):
    """The span of one request."""

    def end(self, record: CallRecord, answers: Sequence[Answer]) -> None:
        """Ends the span with the answers and their usage; unknown values are left out."""
        attributes: dict[str, AttributeValue] = {}
        if self._span.is_recording():
            if answers and answers[0].model:
                attributes[RESPONSE_MODEL] = answers[0].model
            finished = [a.finish_reason for a in answers if a.finish_reason]
            if finished:
                attributes[FINISH_REASONS] = [word if _WORD.fullmatch(word) else "_OTHER" for word in finished]
            if record.cost_usd is not None:
                attributes[COST] = record.cost_usd
            if record.usage is not None:
                attributes |= {INPUT_TOKENS: record.usage.input_tokens, OUTPUT_TOKENS: record.usage.output_tokens}
                attributes |= {CACHE_READ: record.usage.cached_tokens, CACHE_WRITTEN: record.usage.cache_write_tokens}
                attributes[REASONING_TOKENS] = record.usage.reasoning_tokens
            if self._content and answers:
                attributes[OUTPUT_MESSAGES] = output_messages(answers)
        self._close(attributes, failure(record), record.fault or "")


def _server(url: str | None) -> dict[str, AttributeValue]:
    """Host and port alone: the rest of an address may hold a password or a key."""
    if url is None:
        return {}
    parts = urlsplit(url)
    return {SERVER_ADDRESS: parts.hostname or "", SERVER_PORT: parts.port or (80 if parts.scheme == "http" else 443)}


def _encodable(text: str) -> str:
    """The text without lone surrogates, for which an exporter would drop the whole batch."""
    return text.encode("utf-8", "replace").decode()
