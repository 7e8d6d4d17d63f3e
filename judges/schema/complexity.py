"""The work of validating an answer against a pydantic model's unions: nesting multiplies it, and it cannot be stopped."""

from collections.abc import Iterator, Mapping
from typing import Any

MAX_WORK = 20_000  # alternatives tried, about 0.1 s


def branches(schema: Mapping[str, Any]) -> int:
    """The most alternatives without a discriminator among which a model that refers to itself may choose; 1: none.

    ``schema`` is the model's JSON Schema.
    """
    definitions: Mapping[str, Any] = schema.get("$defs", {})
    reached = {name: set(_names(body)) for name, body in definitions.items()}
    for _ in reached:  # as many steps as the longest way can have
        for names in reached.values():
            names |= {further for name in tuple(names) for further in reached.get(name, ())}
    circular = {name for name, names in reached.items() if name in names}
    choices = [
        sum(1 for choice in node[word] if circular & set(_names(choice)))
        for body in (schema, *(definitions[name] for name in circular))
        for node in _nodes(body)
        for word in ("anyOf", "oneOf")
        if isinstance(node.get(word), list) and "discriminator" not in node
    ]
    return max(choices, default=1)


def validation_cost(value: Any, branches: int) -> float:
    """An upper estimate of the alternatives tried on ``value``: ``branches`` to the power of its depth for each object."""
    total, todo = 0.0, [(value, 1.0)]
    while todo and total <= MAX_WORK:
        node, weight = todo.pop()
        if isinstance(node, dict):
            weight *= branches
            total += weight
            todo += [(child, weight) for child in node.values()]
        elif isinstance(node, list):
            todo += [(child, weight) for child in node]
    return total


def _nodes(schema: Any) -> Iterator[Mapping[str, Any]]:
    """The schema and everything in it, without its definitions."""
    if isinstance(schema, Mapping):
        yield schema
        for word, inner in schema.items():
            if word != "$defs":
                yield from _nodes(inner)
    elif isinstance(schema, list):
        for inner in schema:
            yield from _nodes(inner)


def _names(schema: Any) -> Iterator[str]:
    """The definitions that are referred to."""
    for node in _nodes(schema):
        if isinstance(reference := node.get("$ref"), str):
            yield reference.rpartition("/")[2]
