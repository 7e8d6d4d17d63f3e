"""What a client asks for, in our words; and which model can honour what."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade.client import Cascade
from cascade.errors import PolicyError
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec, Policy
from judges import Prompt

from .errors import ApiError, bad

Tags = dict[str, str | int | float | bool]

# What a client may ask for that not every provider can do. A recording and a script answer as they do whatever is asked.
_CANNOT = {
    "openai": {"top_k"},
    "anthropic": {
        *("seed", "presence_penalty", "frequency_penalty", "logit_bias", "logprobs", "reasoning_effort", "verbosity"),
        *("prompt_cache_key", "safety_identifier", "response_format.type", "temperature"),
        *("messages.name", "messages.refusal", "messages.content.input_audio", "messages.content.file"),
    },
}


@dataclass(slots=True)
class GatewayRequest:
    """One request: the policy it names, the prompt, and how its models are to be asked.

    ``uses`` are the fields that not every provider can honour, by the names that errors give them. ``budget_usd`` and
    ``deadline_s`` may only lower what the policy says.
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
    options: dict[str, Any] = field(default_factory=dict)
    tags: Tags = field(default_factory=dict)
    uses: set[str] = field(default_factory=set)

    @property
    def prompt(self) -> Prompt:
        """What is asked."""
        return Prompt(self.messages, self.schema, self.tools)

    def request(self, i: int = 0) -> Request:
        """How the models are asked for choice number ``i``; a seed counts up, or all choices would be one."""
        options = self.options
        if i and "seed" in options:
            options = {**options, "seed": options["seed"] + i}
        return Request(temperature=self.temperature, max_tokens=self.max_tokens, logprobs=self.logprobs, options=options)


def check_honoured(asked: GatewayRequest, policy: Policy, models: Mapping[str, ModelSpec]) -> None:
    """Raises Refusal where a model that may answer cannot honour what was asked."""
    if not asked.uses and asked.schema is None:
        return
    for tier in policy.tiers:
        judged = asked.schema is None or any(rule.use == "schema" for rule in tier.judges)
        for model in (tier.model, *tier.fallbacks):
            spec = models.get(model)
            if not judged and spec is not None and spec.structured == "off":
                told = (
                    f"the model {model!r} is not told of schemas, and no judge of policy {asked.policy!r} checks its answer"
                )
                raise bad(told, "response_format", "unsupported")
            cannot = asked.uses & _CANNOT[spec.provider] if spec is not None and spec.provider in _CANNOT else ()
            if cannot:
                name = min(cannot)
                raise bad(
                    f"the model {model!r} of policy {asked.policy!r} cannot honour it; leave it out or name another policy",
                    name,
                    "unsupported",
                )


def lowered(policy: Policy, asked: GatewayRequest) -> tuple[float | None, float | None]:
    """Budget and deadline of a run: the policy's, or the client's where it is lower."""
    return _least(policy.budget_usd, asked.budget_usd), _least(policy.deadline_s, asked.deadline_s)


def _least(*values: float | None) -> float | None:
    return min((value for value in values if value is not None), default=None)


def policy_of(cascade: Cascade, name: str) -> Policy:
    """The policy that a request names. Raises Refusal with status 404."""
    try:
        return cascade.policy(name)
    except PolicyError as error:
        raise ApiError(404, f"model: {error}", param="model", code="model_not_found") from None
