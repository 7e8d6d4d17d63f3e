"""A client's request in one form for all interfaces, and which model supports which field."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from cascade.client import Cascade
from cascade.engine.sessions import first_turns
from cascade.errors import PolicyError
from cascade.journal.record import MAX_TAG_TEXT
from cascade.models.message_parts import takes_foreign_fields, takes_reasoning
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec, Policy
from cascade.result import Result
from cascade.util.suggestions import nearest
from judges import Prompt

from .errors import ApiError, bad_request

Tags = dict[str, str | int | float | bool]

# Fields that not every provider supports: a request that needs one is refused. A recording and a script give the same
# answer whatever the request says.
_UNSUPPORTED = {
    "openai": {"top_k", "tools.type", "stop_sequences", "messages.content.document.url"},
    "anthropic": {
        *("seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs"),
        *("response_format.type", "temperature"),
        *("messages.name", "messages.refusal", "messages.content.input_audio", "messages.content.file"),
    },
}

# Thoughts in a history, by the names that ``uses`` gives them: as text, and as blocks that Anthropic signed.
_REASONING = frozenset(("messages.reasoning_content", "messages.reasoning", "messages.content.thinking"))
_SIGNED_REASONING = frozenset(("messages.content.thinking.signature", "messages.content.redacted_thinking"))

UNREAD = frozenset(
    f"messages.{name}"
    for name in (
        *("annotations", "citations", "provider_specific_fields", "reasoning_details", "thinking_blocks", "images"),
        *("parsed", "id", "created", "response_metadata", "usage", "cascade"),
    )
)
"""Fields that servers and client libraries add to a history's messages; no model is called with them."""

FOREIGN = "messages.assistant."
"""Before the names of other fields of an assistant's message: they are those of the server that wrote it."""

# Fields that a provider's models are called without: they change what an answer costs, how long it takes or how much the
# model thinks, and nothing that the gateway promises.
_IGNORED = {
    "openai": frozenset((
        *("anthropic-beta", "cache_control", "context_management", "thinking", "output_config.effort"),
        *("tools.allowed_callers", "tools.defer_loading", "tools.eager_input_streaming", "tools.input_examples"),
        *("messages.content.caller", "messages.content.citations", "messages.content.context"),
        "messages.content.transformations",
    )),
    "anthropic": frozenset(("prompt_cache_key", "reasoning_effort", "safety_identifier", "verbosity")) | _REASONING,
}  # fmt: skip


@dataclass(slots=True)
class GatewayRequest:
    """One request: the policy that it names, the prompt, and the options for its models.

    Attributes:
        policy: The name of a policy, or of one tier of it: ``policy/tier``.
        messages: The conversation, in OpenAI's shape.
        schema: The JSON Schema of the answer; None: any text.
        tools: The tools, in OpenAI's shape.
        temperature: Sampling temperature; None: the provider's default.
        max_tokens: Most tokens of an answer; None: the provider's default.
        logprobs: Whether token log-probabilities are returned.
        n: How many choices, each with a run of its own.
        stream: Whether the answer is streamed.
        include_usage: Whether a stream ends with the token counts.
        budget_usd: Most USD of the run; it can only lower the policy's.
        deadline_s: Most seconds of the run; it can only lower the policy's.
        min_confidence: The least confidence that the run accepts; it can only raise the policy's thresholds.
        max_latency_s: Seconds that the run should take; it decides which tiers are asked.
        session: The conversation, as the client names it; None: it does not.
        options: Further fields that are passed on to the models.
        tags: The client's tags for the journal.
        uses: The fields that not every provider supports, by the names that errors give them.
        ignored: The fields that a model is called without, by the model's name in the policy.
        unused: The fields that no model is called with.
        schema_field: The name that errors give the schema.
        strict: Whether the provider is to enforce the schema; None: the client did not say.
    """

    policy: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    schema: Mapping[str, Any] | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    temperature: float | None = None
    max_tokens: int | None = None
    logprobs: bool = False
    n: int = 1
    stream: bool = False
    include_usage: bool = False
    budget_usd: float | None = None
    deadline_s: float | None = None
    min_confidence: float | None = None
    max_latency_s: float | None = None
    session: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    tags: Tags = field(default_factory=dict)
    uses: set[str] = field(default_factory=set)
    ignored: dict[str, frozenset[str]] = field(default_factory=dict)
    unused: set[str] = field(default_factory=set)
    schema_field: str = "schema"
    strict: bool | None = None

    def set_schema(self, schema: Mapping[str, Any], field_name: str) -> None:
        """Sets the schema, and the name that errors give its field."""
        self.schema, self.schema_field = schema, field_name

    def set_tag(self, name: str, value: str, field_name: str) -> None:
        """Sets a tag of the journal; a value that the journal does not accept is ignored, and listed as ignored."""
        if len(value) <= MAX_TAG_TEXT and value.isprintable():
            self.tags[name] = value
        else:
            self.unused.add(field_name)

    @property
    def prompt(self) -> Prompt:
        """The prompt of the run."""
        return Prompt(self.messages, self.schema, self.tools)

    def model_request(self, i: int = 0) -> Request:
        """The options for choice number ``i``; a seed counts up, or all choices would be the same."""
        options = self.options
        if i and "seed" in options:
            options = {**options, "seed": options["seed"] + i}
        return Request(
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            logprobs=self.logprobs,
            options=options,
            strict=self.strict,
        )


def check_supported(request: GatewayRequest, policy: Policy, models: Mapping[str, ModelSpec]) -> None:
    """Checks that every model that may answer supports what the request uses; fills ``request.ignored``.

    Raises:
        ApiError: 400 with the field that a model does not support.
    """
    if not request.uses and request.schema is None:
        return
    for tier in policy.tiers:
        checked = request.schema is None or any(rule.use == "schema" for rule in tier.judges)
        for model in (tier.model, *tier.fallbacks):
            spec = models.get(model)
            if spec is None:
                continue
            if not checked and spec.structured == "off":
                message = f"the model {model!r} does not support schemas, and policy {request.policy!r} has no schema judge"
                raise bad_request(message, "response_format", "unsupported")
            if ignored := _ignored(request, spec):
                request.ignored[model] = ignored
            unsupported = request.uses & _UNSUPPORTED.get(spec.provider, set())
            if unsupported:
                message = (
                    f"the model {model!r} of policy {request.policy!r} does not support it; "
                    "leave it out or name another policy"
                )
                raise bad_request(message, min(unsupported), "unsupported")


def _ignored(request: GatewayRequest, spec: ModelSpec) -> frozenset[str]:
    """The fields that are not sent to the model, such as thoughts and other servers' fields of tool calls in the history.

    They are of use to the model that wrote them alone; the answers of others do not depend on them.
    """
    ignored = (_IGNORED.get(spec.provider, frozenset()) | UNREAD) & request.uses
    unread = frozenset(name for name in request.uses if name.startswith(FOREIGN))
    ignored = ignored | unread if unread else ignored
    foreign = frozenset(name for name in request.uses if name.startswith("messages.tool_calls."))
    if spec.provider == "openai":
        dropped = _SIGNED_REASONING if takes_reasoning(spec.base_url) else _SIGNED_REASONING | _REASONING
        return ignored | (dropped & request.uses) | (frozenset() if takes_foreign_fields(spec.base_url) else foreign)
    return ignored | foreign if spec.provider == "anthropic" else ignored


def ignored_fields(request: GatewayRequest, result: Result) -> list[str]:
    """The fields of the request that a model which was called did not receive, in order.

    Args:
        request: The request, after ``check_supported``.
        result: Its result.
    """
    # Fields that a model's server has rejected.
    refused = {"temperature"} if request.temperature is not None and _fixed_temperature(result) else frozenset[str]()
    if not request.ignored:
        return sorted(request.unused | refused)
    models = {call.model for attempt in result.attempts for call in attempt.call_log}
    names = request.unused.union(refused, *(request.ignored.get(model, ()) for model in models))
    return sorted({name.removesuffix(".signature") for name in names})


def _fixed_temperature(result: Result) -> bool:
    for attempt in result.attempts:
        if attempt.answer is not None and "temperature" in attempt.answer.extra.get("ignored", ()):
            return True
    return False


def session_of(request: GatewayRequest, policy: Policy, caller_name: str | None) -> str | None:
    """The conversation that a request continues, for a policy with ``sticky``; None for others.

    Identified by the client's name for it, else its ``prompt_cache_key``, else its first messages; and by the API key, so
    that keys cannot share a conversation.
    """
    if policy.sticky is None:
        return None
    name = request.session or request.options.get("prompt_cache_key") or first_turns(request.messages)
    return sha256(json.dumps([caller_name, name], sort_keys=True, default=str).encode()).hexdigest()


def run_limits(policy: Policy, request: GatewayRequest) -> tuple[float | None, float | None]:
    """Budget (USD) and deadline (seconds) of a run: the policy's, or the client's where it is lower."""
    return _lowest(policy.budget_usd, request.budget_usd), _lowest(policy.deadline_s, request.deadline_s)


def _lowest(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def find_policy(cascade: Cascade, name: str, aliases: Collection[str] = ()) -> Policy:
    """The policy that a request names.

    Args:
        cascade: Has the policies.
        name: The name.
        aliases: Further names, for the error.

    Raises:
        ApiError: 404 where there is none.
    """
    try:
        return cascade.policy(name)
    except PolicyError as error:
        message = str(error)
        if aliases and "did you mean" not in message:
            message += nearest(name, list(aliases))
        raise ApiError(404, f"model: {message}", param="model", code="model_not_found") from None
