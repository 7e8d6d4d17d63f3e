"""Readers of the fields that several interfaces have: each puts a field's value into the request, or refuses it."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from .errors import bad_request
from .request import GatewayRequest
from .validation import boolean, integer, not_deep, number, object_of, text

_DECIMAL = re.compile(r"-?[0-9]{1,9}(?:\.[0-9]{0,18})?(?:[eE]-?[0-9]{1,2})?")

Reader: TypeAlias = Callable[[Any, GatewayRequest], None]
"""Receives the value of a field and the request that is being read. Raises ApiError."""


def check_present(**fields: object) -> None:
    """Raises ApiError for the first of these fields that is missing or empty."""
    for name, value in fields.items():
        if not value:
            raise bad_request("is missing", name)


def model(value: Any, request: GatewayRequest) -> None:
    """Reads ``model``: a policy, or one tier of it."""
    request.policy = text(value, "model", 256, empty=False)


def stream(value: Any, request: GatewayRequest) -> None:
    """Reads ``stream``."""
    request.stream = boolean(value, "stream")


def max_tokens(name: str) -> Reader:
    """The most tokens of an answer, under the name that an interface gives the field."""

    def reader(value: Any, request: GatewayRequest) -> None:
        request.max_tokens = integer(value, name, 1, 10_000_000)

    return reader


def cascade_fields(value: Any, request: GatewayRequest) -> None:
    """Reads ``cascade``: the limits and the needs of this request."""
    fields = object_of(value, "cascade", ("budget", "budget_usd", "deadline_s", "accuracy", "latency", "session"))
    needs(fields, request, "cascade.")
    session(fields, request, "cascade.")
    if fields.get("budget") is not None and fields.get("budget_usd") is not None:
        raise bad_request("is the same as cascade.budget_usd; send one of them", "cascade.budget")
    for name in ("budget", "budget_usd"):
        if fields.get(name) is not None:
            request.budget_usd = usd(fields[name], f"cascade.{name}")
    if fields.get("deadline_s") is not None:
        request.deadline_s = number(fields["deadline_s"], "cascade.deadline_s", 0.001, 86_400)


def needs(fields: Mapping[str, Any], request: GatewayRequest, prefix: str = "") -> None:
    """Reads ``accuracy`` and ``latency``: the least confidence to accept, and the seconds that the run should take."""
    if fields.get("accuracy") is not None:
        request.min_confidence = number(fields["accuracy"], f"{prefix}accuracy", 0, 1)
    if fields.get("latency") is not None:
        request.max_latency_s = number(fields["latency"], f"{prefix}latency", 0.001, 86_400)


def usd(value: Any, name: str) -> float:
    """An amount of money, which may be a text, since a decimal fraction has no exact binary one. Raises ApiError."""
    if isinstance(value, str):
        if not _DECIMAL.fullmatch(value):
            raise bad_request("must be USD, such as 0.5 or '0.50'", name)
        value = float(value)
    return number(value, name, 0, 1e6)


def session(fields: Mapping[str, Any], request: GatewayRequest, prefix: str = "") -> None:
    """Reads ``session``: the conversation that the request continues."""
    if fields.get("session") is not None:
        request.session = text(fields["session"], f"{prefix}session", 256, empty=False)


def option(name: str, check: Callable[[Any, str], Any], *, rare: bool = True) -> Reader:
    """A field that is passed on to the models; ``rare``: not every provider supports it."""

    def reader(value: Any, request: GatewayRequest) -> None:
        request.options[name] = check(value, name)
        if rare:
            request.uses.add(name)

    return reader


def unused(name: str, *plain: Any) -> Reader:
    """A field that is ignored, without effect on what the gateway promises; ``plain`` values are not listed as ignored."""

    def reader(value: Any, request: GatewayRequest) -> None:
        not_deep(value, name)
        if value not in plain:
            request.unused.add(name)

    return reader


def refused(name: str, why: str, *plain: Any) -> Reader:
    """A field that cannot be ignored without changing what is asked for; ``plain`` values, the default, are accepted."""

    def reader(value: Any, _: GatewayRequest) -> None:
        if value not in plain:
            raise bad_request(why, name, "unsupported")

    return reader


top_p = option("top_p", lambda v, name: number(v, name, 0, 1), rare=False)
"""Reads ``top_p``, which every provider has."""
