"""ModelSpec -> Model: the one place that knows which provider is which class. SDKs load with a model's first request."""

import os
from typing import Any

from cascade.errors import PolicyError
from cascade.policy.schema import ModelSpec
from cascade.util.providers import DEFAULT_MAX_TOKENS, KEY_ENV

from .protocol import Model


def build(name: str, spec: ModelSpec) -> Model:
    """The model ``name`` of a policy file. Raises PolicyError where its key's environment variable is not set."""
    model = spec.model or name
    if spec.provider == "recorded":
        from .recorded import RecordedModel

        assert spec.recording is not None
        return RecordedModel.from_file(name, model, spec.recording)
    if spec.provider == "scripted":
        from .scripted import ScriptedModel

        return ScriptedModel(name, spec.answers, keep_calls=False)  # nobody can read them, and they hold whole prompts
    key_env = spec.api_key_env or KEY_ENV[spec.provider]
    has_file = spec.api_key_file is not None
    # A key meant for the provider itself must not travel to another server that the file names, unless it says so.
    api_key = os.environ.get(key_env) if not has_file and (spec.api_key_env or spec.base_url is None) else None
    if api_key is None and not has_file and (spec.base_url is None or spec.api_key_env):
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
        "cost_from_provider": spec.cost_from_provider,
        "api_key_file": spec.api_key_file,
    }
    if spec.provider == "openai":
        from .openai import OpenAIModel

        settings |= {"max_tokens": spec.max_tokens, "max_tokens_field": spec.max_tokens_field}
        return OpenAIModel(**settings, logprobs=spec.logprobs, n=spec.n)
    from .anthropic import AnthropicModel

    return AnthropicModel(**settings, max_tokens=spec.max_tokens or DEFAULT_MAX_TOKENS["anthropic"])
