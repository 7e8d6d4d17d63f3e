"""YAML of a policy file -> plain data with the line of every key. Bounded: alias bombs, tags and odd scalars are refused."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from cascade.errors import PolicyError

from .environment import VariableError, expand

MAX_NODES = 50_000  # an alias bomb expands to far more
_MAX_NUMBER = 64  # characters: YAML's numbers to base 60 take time quadratic in their length
_TAG = "tag:yaml.org,2002:"
# Texts, too, are what YAML takes for dates (a model may be called after its own) and the bare signs = and <<.
_TEXTS = frozenset(("merge", "str", "timestamp", "value"))
_PLAIN = frozenset(_TAG + kind for kind in ("bool", "float", "int", "map", "null", "seq", *_TEXTS))
KeyPath = tuple[str | int, ...]


class Lines(dict[KeyPath, int]):
    """The line of each value, by its path.

    Attributes:
        texts: The values that hold variables, as text before YAML's types.
        variables: The names of those variables, by their values.
    """

    def __init__(self) -> None:
        super().__init__()
        self.texts: dict[KeyPath, str] = {}
        self.variables: dict[str, str] = {}


def read(text: str, file: str, lines: Lines | None = None) -> tuple[Any, Lines]:
    """The data and, by path, the line of each value.

    Args:
        text: YAML.
        file: The name that errors use.
        lines: Is filled and returned.

    Raises:
        PolicyError: The text is wrong.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise PolicyError(f"{file}:{line}: not valid YAML: {error.problem or error.context}") from None
    except RecursionError:
        raise PolicyError(f"{file}: nested too deeply") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two of escapes beyond Unicode
        raise PolicyError(f"{file}: not valid YAML: {str(error).splitlines()[0]}") from None
    if node is None:
        raise PolicyError(f"{file}:1: the file is empty; it needs 'models' and 'policies'")
    lines = Lines() if lines is None else lines
    try:
        return _Builder(file, lines).build(node, ()), lines
    except RecursionError:
        raise PolicyError(f"{file}: nested too deeply") from None


class _Builder:
    """YAML nodes -> plain data, remembering the line of every key; refuses duplicate keys and alias bombs."""

    def __init__(self, file: str, lines: Lines) -> None:
        self.file, self.lines, self.nodes = file, lines, 0
        self.scalars = yaml.SafeLoader("")

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.nodes += 1
        line = node.start_mark.line + 1
        if self.nodes > MAX_NODES:
            raise PolicyError(f"{self.file}:{line}: aliases expand to more than {MAX_NODES} values")
        if node.tag not in _PLAIN:
            tag = node.tag.replace(_TAG, "!!")
            raise self._wrong(line, path, f"the tag {tag[:40]} is not one that a policy file may use")
        self.lines.setdefault(path, line)
        if isinstance(node, yaml.SequenceNode):
            return [self.build(child, (*path, i)) for i, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        assert isinstance(node, yaml.ScalarNode)
        return self._scalar(node, path, line)

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own: dict[str, Any] = {}
        merged: dict[str, Any] = {}
        for key_node, child in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise PolicyError(f"{self.file}:{line}: a key must be a plain word")
            if key_node.tag == f"{_TAG}merge":
                parts = self.build(child, path)
                for part in parts if isinstance(parts, list) else [parts]:
                    if not isinstance(part, dict):
                        raise self._wrong(line, path, "<< merges mappings; this is not a mapping")
                    merged = {**part, **merged}
                continue
            key = self._text(key_node.value, path, line)
            if key in own:
                raise PolicyError(f"{self.file}:{line}: the key {dotted((*path, key))} occurs twice")
            self.lines[(*path, key)] = line
            own[key] = self.build(child, (*path, key))
        return {**merged, **own}

    def _scalar(self, node: yaml.ScalarNode, path: KeyPath, line: int) -> Any:
        kind, text = node.tag.removeprefix(_TAG), node.value
        if "${" in text:
            return self._expanded(node, path, line)
        if kind in _TEXTS:
            return self._text(text, path, line)
        if kind in ("int", "float") and len(text) > _MAX_NUMBER:
            raise self._wrong(line, path, f"a number has at most {_MAX_NUMBER} characters")
        try:
            return self.scalars.construct_object(node, deep=True)
        except (yaml.YAMLError, ValueError, LookupError, OverflowError):
            raise self._wrong(line, path, f"not a value of the kind {kind}") from None

    def _expanded(self, node: yaml.ScalarNode, path: KeyPath, line: int) -> Any:
        """The value with its variables replaced: a number or a flag where it looks like one, quoted or not.

        In ``{...}`` YAML allows no variable without quotes.
        """
        try:
            text = self._text(expand(node.value, self.lines.variables), path, line)
        except VariableError as error:
            raise self._wrong(line, path, str(error)) from None
        self.lines.texts[path] = text
        if node.style in ("|", ">") or not 0 < len(text) <= _MAX_NUMBER:
            return text
        tag: str = self.scalars.resolve(yaml.ScalarNode, str(text), (True, False))  # type: ignore[no-untyped-call]
        if tag.removeprefix(_TAG) not in ("bool", "float", "int", "null"):
            return text
        try:
            return self.scalars.construct_object(yaml.ScalarNode(tag, str(text)))
        except (yaml.YAMLError, ValueError, LookupError, OverflowError):
            return text

    def _text(self, text: str, path: KeyPath, line: int) -> str:
        if not text.isascii() and any("\ud800" <= char <= "\udfff" for char in text):
            raise self._wrong(line, path, "holds half a surrogate pair, which is not text")
        return text

    def _wrong(self, line: int, path: KeyPath, what: str) -> PolicyError:
        where = f"{dotted(path)}: " if path else ""
        return PolicyError(f"{self.file}:{line}: {where}{what}")


def dotted(path: Sequence[str | int]) -> str:
    """``policies.default.tiers[0]``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def line_of(message: str, lines: Mapping[KeyPath, int]) -> int:
    """The line of the dotted path that begins ``message``."""
    named = message.split(": ", 1)[0]
    return next((line for path, line in lines.items() if dotted(path) == named), 1)
