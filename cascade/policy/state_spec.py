"""Where state is kept that all gateways share: the policy file's key ``state``."""

import os
from typing import Any, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from cascade.errors import StateError

from .environment import EnvironmentText
from .strict_model import StrictModel

_REDIS = ("redis", "rediss", "valkey", "valkeys")
_POSTGRES = ("postgresql", "postgres")
_REMEDY = "; write ${NAME} for it, or name the variable that holds the whole URL in url_env"


class StateSpec(StrictModel):
    """Where budgets and key rates are shared, and what an outage means.

    The place is ``url``, or what the variable ``url_env`` holds; without either it is the journal's database.
    """

    url: str | None = Field(
        None,
        repr=False,
        description="redis://host:6379/0, rediss:// (TLS) or postgresql://host/database; null: the journal's database.",
    )
    url_env: str | None = Field(None, min_length=1, description="The environment variable that holds the URL.")
    fail: Literal["closed", "open"] = Field(
        "closed",
        description="Without the store, requests under shared limits are refused; open: each process limits alone.",
    )

    @field_validator("url", mode="before")
    @classmethod
    def _usable(cls, url: Any) -> Any:
        if not isinstance(url, str):
            return url
        if problem := wrong(url):
            raise ValueError(problem)
        if password_in(url) and not isinstance(url, EnvironmentText):
            raise ValueError("the URL must not hold a password" + _REMEDY)
        return url

    @model_validator(mode="after")
    def _one_place(self) -> "StateSpec":
        if self.url is not None and self.url_env is not None:
            raise ValueError("takes one of 'url' and 'url_env', not both")
        return self

    def address(self) -> str | None:
        """The URL, password and all; None: the journal's database. Raises StateError where the variable holds none."""
        if self.url is not None or self.url_env is None:
            return self.url
        url = os.environ.get(self.url_env)
        if not url:
            raise StateError(f"state: set the environment variable {self.url_env} to the URL of the shared state")
        if problem := wrong(url):
            raise StateError(f"state: the URL in {self.url_env}: {problem}")
        return url


def wrong(url: str) -> str | None:
    """The problem with a state's URL, without quoting it, or None."""
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in _REDIS + _POSTGRES or "://" not in url:
        return "must begin with redis://, rediss:// or postgresql://"
    if parts.scheme in _REDIS and not parts.hostname:
        return "names no host; write redis://host:6379"
    database = parts.path.strip("/")
    if parts.scheme in _REDIS and database and not (database.isascii() and database.isdigit()):
        return "names no database; write its number after the host, as in redis://host:6379/0"
    return None


def is_redis(url: str) -> bool:
    """Whether the URL names a Valkey or Redis server."""
    return urlsplit(url).scheme in _REDIS


def password_in(url: str) -> bool:
    """Whether a URL holds a password, as user:password@ or as a parameter."""
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or "password" in parse_qs(parts.query, keep_blank_values=True)
