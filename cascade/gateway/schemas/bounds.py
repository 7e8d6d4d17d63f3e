"""Bounds on a client's JSON Schema, checked before anything compiles it."""

from collections.abc import Mapping
from typing import Any

from cascade.gateway.errors import bad_request
from cascade.gateway.validation import not_deep, object_of

MAX_NODES = 10_000
MAX_ITEMS = 1_000
MAX_CHARS = 200_000
MAX_PATTERN_CHARS = 2_000
MAX_ALL_PATTERN_CHARS = 20_000


def schema_of(value: Any, name: str) -> Mapping[str, Any]:
    """A client's JSON Schema, as far as its size goes; ``SchemaPool.check`` checks the rest.

    Args:
        value: The value of the field.
        name: The field for errors.

    Returns:
        The schema.

    Raises:
        ApiError: 400 that names the bound which the schema exceeds.
    """
    schema = object_of(not_deep(value, name), name)
    nodes = chars = 0
    patterns: list[str] = []
    todo: list[Any] = [schema]
    while todo:
        node = todo.pop()
        nodes += 1
        if isinstance(node, str):
            chars += len(node)
        elif isinstance(node, list):
            if len(node) > MAX_ITEMS:
                raise bad_request(f"has a list of more than {MAX_ITEMS} items", name)
            todo += node
        elif isinstance(node, dict):
            chars += sum(map(len, node))
            todo += node.values()
            if isinstance(pattern := node.get("pattern"), str):
                patterns.append(pattern)
            if isinstance(by_pattern := node.get("patternProperties"), dict):
                patterns += by_pattern
        if nodes + len(todo) > MAX_NODES:
            raise bad_request(f"has more than {MAX_NODES} nodes", name)
    if max(map(len, patterns), default=0) > MAX_PATTERN_CHARS:
        raise bad_request(f"has a pattern of more than {MAX_PATTERN_CHARS} characters", name)
    if sum(map(len, patterns)) > MAX_ALL_PATTERN_CHARS:
        raise bad_request(f"has patterns of more than {MAX_ALL_PATTERN_CHARS} characters together", name)
    if chars > MAX_CHARS:
        raise bad_request(f"has strings of more than {MAX_CHARS} characters together", name)
    return schema
