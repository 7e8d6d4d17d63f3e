"""A quick check for schemas of the usual kind: finds nearly every valid answer valid in a fraction of jsonschema's time.

It says "valid" or "ask jsonschema": errors and rarer keywords stay jsonschema's own. It takes time linear in the answer.
"""

import operator
from collections.abc import Callable, Mapping, Set
from typing import Any, NamedTuple

from .offload import definition, schema_size

QuickCheck = Callable[[Any], bool]
"""Whether a JSON value is surely valid."""

_CLASSES: dict[str, frozenset[type]] = {
    "object": frozenset([dict]),
    "array": frozenset([list]),
    "string": frozenset([str]),
    "integer": frozenset([int]),  # 1.0 is an integer, too: jsonschema's to decide
    "number": frozenset([int, float]),
    "boolean": frozenset([bool]),
    "null": frozenset([type(None)]),
}
_CONTAINERS = _CLASSES["object"] | _CLASSES["array"]
# The type that a limit applies to, and how a value of it compares with the limit.
_LIMITS: dict[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "minimum": ("number", operator.ge),
    "maximum": ("number", operator.le),
    "exclusiveMinimum": ("number", operator.gt),
    "exclusiveMaximum": ("number", operator.lt),
    "minLength": ("string", lambda text, limit: len(text) >= limit),
    "maxLength": ("string", lambda text, limit: len(text) <= limit),
    "minItems": ("array", lambda items, limit: len(items) >= limit),
    "maxItems": ("array", lambda items, limit: len(items) <= limit),
}
_SUPPORTED = {"type", "properties", "required", "additionalProperties", "items", "enum", *_LIMITS}


class _Node(NamedTuple):
    """The check of a subschema, and the classes of the values that it accepts."""

    check: QuickCheck
    classes: frozenset[type]


class _UnsupportedError(Exception):
    """The schema uses what the quick check does not know."""


def quick_check(schema: Any, keywords: Set[str]) -> QuickCheck | None:
    """Compiles a schema.

    Args:
        schema: A schema that is valid in its dialect, which is draft 6 or later.
        keywords: The dialect's keywords; others are ignored, as jsonschema does.

    Returns:
        The check; None where the schema is large, refers to itself, or uses rarer keywords.
    """
    if not isinstance(schema, dict):
        return None
    root = {name: value for name, value in schema.items() if name != "$schema"}
    if schema_size(root) is None:
        return None
    try:
        return _compile(root, root, keywords - {"format"}).check
    except _UnsupportedError:
        return None


def _compile(schema: Any, root: Mapping[str, Any], keywords: Set[str]) -> _Node:
    if not isinstance(schema, dict):
        raise _UnsupportedError
    used = schema.keys() & keywords
    if used == {"$ref"}:
        return _compile(definition(root, schema["$ref"]), root, keywords)
    if used == {"anyOf"}:
        return _any_of([_compile(alternative, root, keywords) for alternative in schema["anyOf"]])
    if "type" not in used or not used <= _SUPPORTED:
        raise _UnsupportedError
    names = [schema["type"]] if isinstance(schema["type"], str) else schema["type"]
    classes = frozenset[type]().union(*(_CLASSES[name] for name in names))
    check = _type(classes)
    if "object" in names:
        properties = {name: _compile(each, root, keywords).check for name, each in schema.get("properties", {}).items()}
        others = schema.get("additionalProperties", True)
        if not isinstance(others, bool):
            others = _compile(others, root, keywords).check
        check = _object(check, properties, tuple(schema.get("required", ())), others)
    if "array" in names and "items" in used:
        check = _array(check, _compile(schema["items"], root, keywords).check)
    if "enum" in used:
        check = _enum(check, schema["enum"])
    for name in used & _LIMITS.keys():
        check = _limited(check, schema[name], *_LIMITS[name])
    return _Node(check, classes)


def _any_of(alternatives: list[_Node]) -> _Node:
    # One alternative at most may look into its values: where several did, each level of nesting would multiply the work.
    if sum(bool(node.classes & _CONTAINERS) for node in alternatives) > 1:
        raise _UnsupportedError
    checks = tuple(node.check for node in alternatives)
    classes = frozenset[type]().union(*(node.classes for node in alternatives))
    return _Node(lambda value: any(check(value) for check in checks), classes)


def _type(classes: frozenset[type]) -> QuickCheck:
    return lambda value: type(value) in classes


def _object(
    has_type: QuickCheck, properties: Mapping[str, QuickCheck], required: tuple[str, ...], others: QuickCheck | bool
) -> QuickCheck:
    def check(value: Any) -> bool:
        if type(value) is not dict:
            return has_type(value)
        for name in required:
            if name not in value:
                return False
        for name, each in value.items():
            check_property = properties.get(name, others)
            if check_property is not True and (check_property is False or not check_property(each)):
                return False
        return True

    return check


def _array(check_other: QuickCheck, check_item: QuickCheck) -> QuickCheck:
    return lambda value: all(map(check_item, value)) if type(value) is list else check_other(value)


def _enum(check_type: QuickCheck, choices: list[Any]) -> QuickCheck:
    texts = frozenset(choice for choice in choices if isinstance(choice, str))
    allows_null = None in choices
    return lambda value: (value in texts if type(value) is str else value is None and allows_null) and check_type(value)


def _limited(check: QuickCheck, limit: Any, name: str, holds: Callable[[Any, Any], bool]) -> QuickCheck:
    classes = _CLASSES[name]
    return lambda value: check(value) and (type(value) not in classes or holds(value, limit))
