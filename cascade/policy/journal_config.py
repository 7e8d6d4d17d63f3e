"""Where a journal is kept and how long: the policy file's key ``journal``."""

import os
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import parse_qs, urlsplit

from pydantic import Field, field_validator, model_validator

from cascade.errors import JournalError

from .strict_model import StrictModel

Durability = Literal["full", "batched", "off"]
_SQLITE, _POSTGRES = "sqlite:///", ("postgresql://", "postgres://")
_REMEDY = "; name the variable that holds the whole URL in url_env, or leave the password to PGPASSWORD or ~/.pgpass"


class JournalSpec(StrictModel):
    """Where the records go (``url``, or the environment variable ``url_env`` that holds it) and how long they stay."""

    url: str | None = Field(
        None,
        description="sqlite:///file (relative to this file; sqlite:////file is absolute) or postgresql://host/database.",
    )
    url_env: str | None = Field(None, min_length=1, description="The environment variable that holds the URL.")
    durability: Durability = Field(
        "batched", description="full: a run returns once its record is committed; batched: at most 250 ms later; off: none."
    )
    keep_days: Annotated[float, Field(gt=0.0, allow_inf_nan=False)] | None = Field(
        None, description="Records older than this are deleted; null keeps all."
    )
    max_mb: Annotated[float, Field(ge=1.0, allow_inf_nan=False)] | None = Field(
        None, description="SQLite: the oldest records are deleted where the file would grow larger, in millions of bytes."
    )

    @field_validator("url")
    @classmethod
    def _usable(cls, url: str | None) -> str | None:
        if url is None:
            return None
        problem = wrong(url)
        if problem:
            raise ValueError(problem)
        if password_in(url):
            raise ValueError("the URL must not hold a password" + _REMEDY)
        return url

    @model_validator(mode="after")
    def _one_place(self) -> "JournalSpec":
        if (self.url is None) == (self.url_env is None):
            raise ValueError("needs just one of 'url' and 'url_env'")
        if self.max_mb is not None and self.url is not None and not is_sqlite(self.url):
            raise ValueError("max_mb is for SQLite, whose file it bounds; use keep_days with Postgres")
        return self

    def located(self, folder: Path) -> "JournalSpec":
        """The same with a relative SQLite path taken from ``folder`` on."""
        if self.url is None or not is_sqlite(self.url):
            return self
        return self.model_copy(update={"url": _SQLITE + str((folder / sqlite_path(self.url)).resolve())})

    def address(self) -> str:
        """The URL, password and all. Raises JournalError where the environment variable is unset or holds none."""
        if self.url is not None:
            return self.url
        assert self.url_env is not None
        url = os.environ.get(self.url_env)
        if not url:
            raise JournalError(f"journal: set the environment variable {self.url_env} to the journal's URL")
        problem = wrong(url)
        if problem is None and self.max_mb is not None and not is_sqlite(url):
            problem = "max_mb is for SQLite, whose file it bounds; use keep_days with Postgres"
        if problem:
            raise JournalError(f"journal: the URL in {self.url_env}: {problem}")
        return url


def wrong(url: str) -> str | None:
    """The problem with a journal's URL, without quoting it, or None."""
    if url.startswith(_SQLITE):
        return "names no file; write sqlite:///cascade.db" if url[len(_SQLITE) :] in ("", ":memory:") else None
    if url.startswith(_POSTGRES):
        try:
            urlsplit(url).port  # noqa: B018 - reading it checks it
        except ValueError:
            return "is not a valid URL"
        return None
    return "must begin with sqlite:/// or postgresql://"


def is_sqlite(url: str) -> bool:
    """Whether the URL names an SQLite file."""
    return url.startswith(_SQLITE)


def sqlite_path(url: str) -> Path:
    """The file that an SQLite URL names; three slashes are followed by a relative path, four begin an absolute one."""
    return Path(url.removeprefix(_SQLITE))


def password_in(url: str) -> bool:
    """Whether a Postgres URL holds a password, as user:password@ or as a parameter."""
    if is_sqlite(url):
        return False
    parts = urlsplit(url)
    return ":" in parts.netloc.rpartition("@")[0] or "password" in parse_qs(parts.query, keep_blank_values=True)


def without_password(url: str) -> str:
    """The URL as errors may show it: without user, password and parameters."""
    if is_sqlite(url):
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
