"""A model in the policy file: how it is reached, what it costs, when it is retried."""

import re
from typing import Any, Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator, model_validator

from cascade.util.http_settings import MAX_BODY_BYTES, check_address, check_path

from .strict_model import Pause, Seconds, StrictModel, Usd


class PriceSpec(StrictModel):
    """USD per million tokens, in place of the published list price."""

    input_per_mtok: Usd
    output_per_mtok: Usd
    cached_input_per_mtok: Usd | None = None
    cache_write_per_mtok: Usd | None = None
    cache_write_1h_per_mtok: Usd | None = Field(
        None, description="Writes that are kept for an hour. Default: 1.6 times cache_write_per_mtok."
    )


class RetrySpec(StrictModel):
    """When a failed request is retried; see ``cascade.resilience.guard.Retry``."""

    attempts: int = Field(default=3, ge=1, le=20, description="Most requests for one answer, the first included.")
    initial_backoff_s: Pause = Field(default=0.25, description="The longest first pause between requests.")
    max_backoff_s: Pause = Field(default=8.0, description="The longest pause between requests.")
    retry_after_s: Pause = Field(
        default=30.0, description="The longest wait that the provider may ask for; a longer one is final."
    )


class BreakerSpec(StrictModel):
    """When requests to a model that keeps failing stop; see ``cascade.resilience.breaker.BreakerRule``."""

    min_requests: int = Field(default=20, ge=1)
    failure_rate: float = Field(default=0.5, gt=0.0, le=1.0)
    window_s: Seconds = 30.0
    cooldown_s: Seconds = Field(default=10.0, description="How long no request is sent once the breaker has opened.")


class ModelSpec(StrictModel):
    """A model and how to reach it. Keys are never in the file: ``api_key_env`` names an environment variable."""

    model_config = ConfigDict(hide_input_in_errors=True)  # headers may hold keys all the same

    provider: Literal["openai", "anthropic", "recorded", "scripted"]
    model: str | None = Field(None, description="The provider's name of the model (default: the name in this file).")
    base_url: str | None = Field(None, description="Any OpenAI-compatible or Anthropic-compatible server.")
    api_key_env: str | None = Field(None, description="Default: OPENAI_API_KEY or ANTHROPIC_API_KEY.")
    api_key_file: str | None = Field(
        None, min_length=1, description="A file with the key, read again when it changes; relative to this file."
    )
    headers: dict[str, str] = Field(default_factory=dict, repr=False, description="Further HTTP headers.")
    price: PriceSpec | None = None
    cost_from_provider: bool = Field(False, description="An answer costs what the provider says in usage.cost, if it does.")
    max_tokens: int | None = Field(None, ge=1)
    max_tokens_field: Literal["max_tokens", "max_completion_tokens"] | None = Field(
        None, description="openai: the field's name in requests. Default: max_completion_tokens at OpenAI and Azure."
    )
    image_tokens: int = Field(5000, ge=0, description="Most tokens that an image counts, for budgets.")
    temperature: float | None = Field(None, ge=0.0, le=2.0)
    timeout_s: Seconds = 60.0
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1024, description="A longer response is a fault of the provider.")
    retry: RetrySpec = Field(default_factory=RetrySpec)
    breaker: BreakerSpec | None = Field(default_factory=BreakerSpec, description="'off' for none.")
    max_concurrency: int | None = Field(None, ge=1, description="Most requests in progress at once.")
    requests_per_s: float | None = Field(None, gt=0.0, allow_inf_nan=False, description="Most requests started per second.")
    hedge: bool = Field(False, description="Ask a second time where an answer takes longer than the 95th percentile.")
    logprobs: bool = Field(False, description="Ask for the token log-probabilities that the logprob judge reads.")
    n: bool = Field(True, description="openai: the server can give several samples in one request.")
    structured: Literal["json_schema", "json_object", "off"] = "json_schema"
    options: dict[str, Any] = Field(default_factory=dict, description="Further request parameters, passed through.")
    recording: str | None = Field(None, description="recorded: a recording's path, or 'starter' for the shipped one.")
    answers: list[str] = Field(default_factory=list, description="scripted: the answers, given in turn.")

    @field_validator("breaker", mode="before")
    @classmethod
    def _off(cls, value: Any) -> Any:
        return None if value is False or value == "off" else value  # YAML reads a bare off as false

    @field_validator("base_url")
    @classmethod
    def _plain_address(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None:
            return None
        # Anywhere: a password with a slash in it would otherwise be taken for a path.
        if "@" in url:
            raise ValueError("base_url must not hold a user or password; name the key's variable in api_key_env")
        check_address(url)
        check_path(url, info.data.get("provider", "openai"))
        return url

    @field_validator("api_key_env")
    @classmethod
    def _a_name(cls, name: str | None) -> str | None:
        if name is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise ValueError("api_key_env must be the name of an environment variable, never the key itself")
        return name

    @field_validator("headers")
    @classmethod
    def _sendable(cls, headers: dict[str, str]) -> dict[str, str]:
        for name, value in headers.items():
            if not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name, re.ASCII):
                raise ValueError("headers: a name is not one that HTTP allows")
            if not (value.isprintable() and value.isascii()):
                raise ValueError(f"headers: the value of {name} must be printable ASCII")
        return headers

    @model_validator(mode="after")
    def _complete(self) -> "ModelSpec":
        if self.provider == "recorded" and self.recording is None:
            raise ValueError("provider 'recorded' needs 'recording': a path, or 'starter'")
        if self.api_key_env is not None and self.api_key_file is not None:
            raise ValueError("api_key_env and api_key_file: give just one of the two")
        if self.provider == "scripted" and not self.answers:
            raise ValueError("provider 'scripted' needs 'answers': a list with at least one text")
        return self


class EmbeddingSpec(StrictModel):
    """The embedding of a prompt that predictors may read; asked for once a run, and only where a predictor reads it."""

    model: str = Field(description="A model of this file with provider openai; its server has /embeddings.")
    dimensions: int = Field(ge=1, le=8192, description="How many numbers an embedding has.")
    request_dimensions: bool = Field(
        False, description="Ask the server for embeddings of this length, where its own are longer and it can shorten them."
    )
    timeout_s: Seconds = Field(1.0, description="How long a run waits for it; after that it continues without it.")
