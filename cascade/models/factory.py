"""ModelSpec -> Model: the one place that knows which provider is which class. SDKs load with a model's first request."""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from cascade.costs.prices import Price, list_price
from cascade.errors import PolicyError
from cascade.policy.schema import ModelSpec, Policy
from cascade.resilience.breaker import BreakerRule
from cascade.resilience.guard import Guard, Retry
from judges import Usage

from .protocol import Model

KEY_ENV = {"openai": "OPENAI_API_KEY", "anthropic": "ANTHROPIC_API_KEY"}
DEFAULT_MAX_TOKENS = {"anthropic": 1024}
"""For providers that require a number, where the policy file has none."""


def build(name: str, spec: ModelSpec) -> Model:
    """The model ``name`` of a policy file. Raises PolicyError where its key's environment variable is not set."""
    model = spec.model or name
    if spec.provider == "recorded":
        from .recorded import RecordedModel

        assert spec.recording is not None
        return RecordedModel.from_file(name, model, spec.recording)
    if spec.provider == "scripted":
        from .scripted import ScriptedModel

        return ScriptedModel(name, spec.answers)
    key_env = spec.api_key_env or KEY_ENV[spec.provider]
    # A key meant for the provider itself must not travel to another server that the file names, unless it says so.
    api_key = os.environ.get(key_env) if spec.api_key_env or spec.base_url is None else None
    if api_key is None and (spec.base_url is None or spec.api_key_env):
        raise PolicyError(f"model {name!r}: set the environment variable {key_env} to the provider's key")
    settings: dict[str, Any] = {
        "name": name,
        "model": model,
        "api_key": api_key,
        "base_url": spec.base_url,
        "headers": spec.headers,
        "timeout_s": spec.timeout_s,
        "max_body_bytes": spec.max_body_bytes,
        "temperature": spec.temperature,
        "structured": spec.structured,
        "options": spec.options,
    }
    if spec.provider == "openai":
        from .openai import OpenAIModel

        return OpenAIModel(**settings, max_tokens=spec.max_tokens, logprobs=spec.logprobs, n=spec.n)
    from .anthropic import AnthropicModel

    return AnthropicModel(**settings, max_tokens=spec.max_tokens or DEFAULT_MAX_TOKENS["anthropic"])


def answers_singly(spec: ModelSpec | None) -> bool:
    """Whether the provider gives one answer a request, so that several samples are several requests."""
    return spec is not None and (spec.provider == "anthropic" or (spec.provider == "openai" and not spec.n))


def unpriced(specs: Mapping[str, ModelSpec], policy: Policy) -> list[str]:
    """The models that a policy may ask whose price is neither given nor listed. Recorded answers state their own cost."""
    names = sorted(policy.asks & specs.keys())
    return [m for m in names if specs[m].provider in KEY_ENV and Pricer(m, specs[m]).cost(Usage(1, 1)) is None]


def guard_of(spec: ModelSpec | None) -> Guard:
    """The model's retries, breaker and limits; the defaults where nothing is set."""
    if spec is None:
        return Guard.of(breaker=BreakerRule())
    return Guard.of(
        retry=Retry(**spec.retry.model_dump()),
        breaker=BreakerRule(**spec.breaker.model_dump()) if spec.breaker is not None else None,
        max_concurrency=spec.max_concurrency,
        requests_per_s=spec.requests_per_s,
        hedge=spec.hedge,
    )


class Pricer:
    """Usage -> USD for one model of a policy: the policy's own price, else the list price, else None."""

    def __init__(self, name: str, spec: ModelSpec | None) -> None:
        self.spec, self.name = spec, name
        price = spec.price if spec is not None else None
        self.price = Price(**price.model_dump()) if price is not None else None

    @cached_property
    def writes_cost_no_more(self) -> bool:
        """Whether what is written to the provider's cache is known to cost no more than other input."""
        return self.price is not None and (self.price.cache_write_per_mtok or 0.0) <= self.price.input_per_mtok

    def cost(self, usage: Usage | None) -> float | None:
        """USD of one call; None where usage or price is unknown."""
        if usage is None or self.spec is None:
            return None
        if self.price is not None:
            return self.price.cost(usage)
        if self.spec.provider not in KEY_ENV:
            return None
        return list_price(self.spec.provider, self.spec.model or self.name, usage, self.spec.base_url)
