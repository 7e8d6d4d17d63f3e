"""``${NAME}`` and ``${NAME:-default}`` in a policy file's values: the environment's, which no error, repr or hash shows."""

import os
import re
import threading
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

_VARIABLE = re.compile(r"\$(\$?)\{(?:([A-Za-z_][A-Za-z0-9_]*)(?:(:-)([^${}]*))?\})?")
_SHORTEST = 4  # characters of a value that is hidden everywhere; a shorter one only in quotes
_START = 8  # characters that give a longer value away, as where an error quotes its beginning only
_names_of_values: dict[
    str, str
] = {}  # values that were put in place of variables in this process, with the names: for reprs
_lock = threading.Lock()


class VariableError(ValueError):
    """A variable that is not set, or that is not written as one."""


class EnvironmentText(str):
    """A text that holds a variable's value; ``source`` is what the file says. Its repr is the source."""

    __slots__ = ("source",)
    source: str

    def __new__(cls, value: str, source: str) -> "EnvironmentText":
        text = super().__new__(cls, value)
        text.source = source
        return text

    def __getnewargs__(self) -> tuple[str, str]:  # type: ignore[override]
        return str(self), self.source

    def __repr__(self) -> str:
        return repr(self.source)


def expand(text: str, values: dict[str, str] | None = None) -> str:
    """The text with its variables replaced; an ``EnvironmentText`` where there are any, and ``$${`` as a plain ``${``.

    Args:
        text: What the file says.
        values: Receives the values that were used, with the names of their variables.

    Raises:
        VariableError: A variable is not set and has no default, or what follows ``${`` is none.
    """
    if "${" not in text:
        return text
    has_variable = False

    def replace(match: re.Match[str]) -> str:
        nonlocal has_variable
        escaped, name, has_default, default = match.groups()
        if escaped:
            return match[0][1:]
        if name is None:
            raise VariableError("'${' begins a variable: write ${NAME} or ${NAME:-default}; '$${' stands for '${' itself")
        value = os.environ.get(name)
        if has_default and not value:
            return str(default)
        if value is None:
            raise VariableError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
        has_variable = True
        if value:
            with _lock:
                _names_of_values[value] = name
            if values is not None:
                values[value] = name
        return value

    expanded = _VARIABLE.sub(replace, text)
    return EnvironmentText(expanded, text) if has_variable else expanded


def hide(text: str, values: Mapping[str, str] | None = None) -> str:
    """The text with the names of variables in place of their values, also where only a value's beginning is quoted.

    Args:
        text: What may quote values.
        values: The values with the names of their variables; None: all that this process has read.
    """
    if values is None:
        with _lock:
            values = dict(_names_of_values)
    for value, name in sorted(values.items(), key=lambda item: -len(item[0])):
        if len(value) < _SHORTEST:
            text = text.replace(repr(value), f"'${{{name}}}'")
            continue
        for spelling in {value, repr(value)[1:-1]}:
            start = spelling[:_START] if len(spelling) >= 2 * _START else spelling
            position = text.find(start)
            while position >= 0:
                end = position + len(start)
                while end < len(text) and end - position < len(spelling) and text[end] == spelling[end - position]:
                    end += 1
                text = f"{text[:position]}${{{name}}}{text[end:]}"
                position = text.find(start, position + len(name) + 3)
    return text


def holds_variable(value: Any) -> bool:
    """Whether plain data has a text from the environment in it."""
    if isinstance(value, dict):
        return any(map(holds_variable, value.values()))
    if isinstance(value, list | tuple):
        return any(map(holds_variable, value))
    return isinstance(value, EnvironmentText)


def masked(value: Any) -> Any:
    """Plain data with each text from the environment as its source and a digest, which changes with its value."""
    if isinstance(value, EnvironmentText):
        return f"{value.source}#{sha256(f'{value.source}{value!s}'.encode()).hexdigest()[:8]}"
    if isinstance(value, dict):
        return {key: masked(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item) for item in value]
    return value
