"""Where validations run: at once in the calling thread, or elsewhere if the host of an event loop says so.

A validation holds the interpreter while it runs. A server whose clients send schemas of their own sets ``offload``, so that
``SchemaJudge`` runs only validations there whose work is known to be small.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, NamedTuple

MAX_NODES = 150  # of a schema with its references expanded: 0.2 ms each to compile
MAX_PATTERN_CHARS = 256  # of all patterns of a schema together
MAX_TEXT = 64 * 1024
MAX_WORK = 4_000  # nodes of the schema times nodes of the answer: about 10 ms
# Keywords that repeat the work of others, or whose target is only known while they run.
_UNBOUNDED = frozenset(
    ("unevaluatedProperties", "unevaluatedItems", "$dynamicRef", "$recursiveRef", "$schema", "$id", "id", "$anchor")
)


class Outcome(NamedTuple):
    """The result of a validation elsewhere.

    Attributes:
        veto: The reason for a veto; None: the text is valid.
        value: The JSON value in the text.
        text: The JSON alone where the text holds more; None: it holds nothing else.
        details: See ``Verdict``.
    """

    veto: str | None
    value: Any = None
    text: str | None = None
    details: Mapping[str, Any] = MappingProxyType({})


Offload = Callable[[Mapping[str, Any], str, Mapping[str, Any]], Awaitable[Outcome]]
"""Validates a text against a schema somewhere else, by a ``SchemaJudge`` with these options."""

offload: ContextVar[Offload | None] = ContextVar("offload", default=None)


def is_small(schema: Mapping[str, Any], text: str = "") -> bool:
    """Whether compiling ``schema`` and validating ``text`` against it takes a few milliseconds at most."""
    size = schema_size(schema)
    if size is None or len(text) > MAX_TEXT:
        return False
    nodes = 1 + text.count(",") + text.count("{") + text.count("[")
    return size * nodes <= MAX_WORK


def schema_size(schema: Mapping[str, Any]) -> int | None:
    """The nodes of a schema with its references expanded; None where they are too many or not known beforehand."""
    count = pattern_chars = 0
    todo: list[Any] = [schema]
    while todo:
        node = todo.pop()
        count += 1
        if count > MAX_NODES:
            return None
        if isinstance(node, list):
            todo += node
        elif isinstance(node, Mapping):
            for key, value in node.items():
                if key in _UNBOUNDED:
                    return None
                if key == "pattern":
                    pattern_chars += len(value) if isinstance(value, str) else 0
                elif key == "patternProperties" and isinstance(value, Mapping):
                    pattern_chars += sum(map(len, value))
                elif key == "$ref":
                    target = definition(schema, value)
                    if target is None:
                        return None
                    todo.append(target)
                    continue
                # Definitions count where they are used, and once because each of them is compiled.
                todo.append(value)
            if pattern_chars > MAX_PATTERN_CHARS:
                return None
    return count


def definition(schema: Mapping[str, Any], reference: Any) -> Any:
    """The target of a reference to one of the schema's own definitions, as pydantic writes them; None for any other."""
    if not isinstance(reference, str):
        return None
    root, _, rest = reference.partition("/")
    section, _, name = rest.partition("/")
    definitions = schema.get(section) if root == "#" and section in ("$defs", "definitions") else None
    return definitions.get(name) if isinstance(definitions, Mapping) and not set(name) & set("/~%") else None
