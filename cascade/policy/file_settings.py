"""Settings of the policy file that no single policy has: telemetry, CORS, budgets by tag."""

import re

from pydantic import Field, field_validator, model_validator

from .strict_model import StrictModel, Usd


class TelemetrySpec(StrictModel):
    """Which telemetry runs emit; none by default."""

    traces: bool = Field(False, description="OpenTelemetry spans; needs the extra 'otel'.")
    metrics: bool = Field(False, description="Prometheus metrics; needs the extra 'metrics'.")
    content: bool = Field(False, description="Spans hold the texts of prompts, answers, verdicts and faults, too.")

    @model_validator(mode="after")
    def _content_of_traces(self) -> "TelemetrySpec":
        if self.content and not self.traces:
            raise ValueError("content: true needs traces: true; metrics hold no texts")
        return self


class CorsSpec(StrictModel):
    """Which web pages may call the gateway from a browser."""

    allow_origins: list[str] = Field(min_length=1, description="Origins such as https://app.example.com; '*' for any.")
    allow_credentials: bool = Field(False, description="Whether a browser sends cookies and client certificates along.")
    max_age_s: int = Field(600, ge=0, le=86_400, description="How long a browser keeps the answer to its preflight request.")

    @field_validator("allow_origins")
    @classmethod
    def _origins(cls, origins: list[str]) -> list[str]:
        for origin in origins:
            if origin != "*" and not re.fullmatch(r"https?://[^/\s@?#*]+", origin):
                raise ValueError(f"{origin!r} is not an origin; write a scheme and a host, such as https://app.example.com")
        return [origin.lower() for origin in origins]

    @model_validator(mode="after")
    def _safe(self) -> "CorsSpec":
        if self.allow_credentials and "*" in self.allow_origins:
            raise ValueError("allow_credentials: true needs a list of origins: browsers refuse it for '*'")
        return self


class TagBudget(StrictModel):
    """What all runs with the same value of a tag may spend, whatever their policy."""

    usd_per_day: Usd | None = Field(None, description="In a UTC day.")
    usd_per_month: Usd | None = Field(None, description="In a UTC month.")

    @model_validator(mode="after")
    def _some(self) -> "TagBudget":
        if self.usd_per_day is None and self.usd_per_month is None:
            raise ValueError("needs usd_per_day, usd_per_month or both")
        return self
