"""ModelSpec -> Model: the one place that knows which provider is which class. SDKs load with a model's first request."""

import os
from typing import TYPE_CHECKING, Any

from cascade.errors import PolicyError
from cascade.policy.schema import ModelSpec
from cascade.util.providers import DEFAULT_MAX_TOKENS, KEY_ENV

from .protocol import Model

if TYPE_CHECKING:
    from .embeddings import OpenAIEmbeddings


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
    settings = _settings(name, spec)
    if spec.provider == "openai":
        from .openai import OpenAIModel

        settings |= {"max_tokens": spec.max_tokens, "max_tokens_field": spec.max_tokens_field}
        return OpenAIModel(**settings, logprobs=spec.logprobs, n=spec.n)
    from .anthropic import AnthropicModel

    return AnthropicModel(**settings, max_tokens=spec.max_tokens or DEFAULT_MAX_TOKENS["anthropic"])


def build_embeddings(
    name: str, spec: ModelSpec, dimensions: int, *, requests_dimensions: bool = False
) -> "OpenAIEmbeddings":
    """The embedding model ``name`` of a policy file.

    Args:
        name: Its name in the file.
        spec: Its settings.
        dimensions: How many numbers an embedding has.
        requests_dimensions: Whether the server is asked for that many.

    Raises:
        PolicyError: The environment variable of its key is not set, or its provider has no embeddings.
    """
    if spec.provider != "openai":
        raise PolicyError(f"model {name!r}: provider {spec.provider!r} has no embeddings; an OpenAI-compatible server has")
    from .embeddings import OpenAIEmbeddings

    return OpenAIEmbeddings(**_settings(name, spec), dimensions=dimensions, requests_dimensions=requests_dimensions)


def _settings(name: str, spec: ModelSpec) -> dict[str, Any]:
    """The settings that the models of all SDKs share. Raises PolicyError where the key's variable is not set."""
    key_env = spec.api_key_env or KEY_ENV[spec.provider]
    has_file = spec.api_key_file is not None
    # A key meant for the provider itself must not travel to another server that the file names, unless it says so.
    api_key = os.environ.get(key_env) if not has_file and (spec.api_key_env or spec.base_url is None) else None
    if api_key is None and not has_file and (spec.base_url is None or spec.api_key_env):
        raise PolicyError(f"model {name!r}: set the environment variable {key_env} to the provider's key")
    return {
        "name": name,
        "model": spec.model or name,
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
