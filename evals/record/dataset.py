"""Datasets: turns the rows of a file or folder into examples, streamed."""

import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from evals.recording import SPLITS, Example

from .dataset_readers import DatasetError, Row, rows

_REFERENCE = "reference"
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
# Created once: json.dumps creates an encoder for every call that has options.
_sorted = json.JSONEncoder(sort_keys=True).encode
_plain_text = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


@dataclass(frozen=True, slots=True)
class Survey:
    """A dataset's size and hashes.

    Attributes:
        rows: How many rows it has.
        sha256: The SHA-256 of what the models are sent: ids, prompts, system messages, schemas and tools.
        content: The SHA-256 of all fields, references included.
    """

    rows: int
    sha256: str
    content: str


@dataclass(frozen=True, slots=True)
class Dataset:
    """A file or folder of prompts, and how a row becomes an example. Every iteration reads the file again.

    Attributes:
        path: The file or folder.
        prompt_field: The field with the prompt, text or chat messages; by default ``prompt``, otherwise ``messages``.
        template: A text with ``{field}`` placeholders that is used as the prompt.
        reference_field: The field with the right answer.
        system: A system message for rows that have none.
    """

    path: str
    prompt_field: str | None = None
    template: str | None = None
    reference_field: str = _REFERENCE
    system: str | None = None

    def __iter__(self) -> Iterator[Example]:
        """The examples in the order of the file. Raises DatasetError, OSError."""
        return (example for _, example in self._examples())

    def _examples(self) -> Iterator[tuple[str, Example]]:
        fields = _fields(self.template) if self.template is not None else None
        for number, (where, row) in enumerate(rows(Path(self.path)), 1):
            yield where, self._example(row, where, number, fields)

    def survey(self, check: Callable[[Example], None] = lambda _: None) -> Survey:
        """Reads every row once, so that errors are found before anything is paid for.

        Args:
            check: Called with each example; may raise ValueError for one that cannot be used.

        Returns:
            The dataset's size and hashes.

        Raises:
            DatasetError: A row cannot be used, an id occurs twice, or there is no row.
        """
        digest, content = hashlib.sha256(), hashlib.sha256()
        ids = array("q")
        referenced = False
        for where, example in self._examples():
            referenced = referenced or example.reference is not None
            content.update(_written(example, where))
            try:
                check(example)
            except ValueError as error:
                raise DatasetError(f"{where}: {error}") from None
            ids.append(hash(example.id))
            question = [example.id, example.prompt, example.system, example.schema, example.tools]
            digest.update(_sorted(question).encode())
        ordered = sorted(ids)
        twice = {a for a, b in itertools.pairwise(ordered) if a == b}
        if twice:
            self._name_doubled(twice)
        if not ids:
            raise DatasetError(f"{self.path}: contains no rows")
        if not referenced and self.reference_field != _REFERENCE:
            raise DatasetError(f"{self.path}: {self.reference_field}: no row has this reference; correct --reference-field")
        return Survey(len(ids), digest.hexdigest(), content.hexdigest())

    def _name_doubled(self, hashes: set[int]) -> None:
        seen: dict[str, str] = {}
        for where, example in self._examples():
            if hash(example.id) in hashes:
                if example.id in seen:
                    raise DatasetError(
                        f"{where}: id: {example.id!r} is also the id at {seen[example.id]}; give each row its own id"
                    )
                seen[example.id] = where

    def _example(self, row: Row, where: str, number: int, fields: tuple[tuple[str, str | None], ...] | None) -> Example:
        prompt = self._prompt(row, where, fields)
        reference = _reference(row.get(self.reference_field))
        if self.prompt_field is None and self.template is None and "prompt" not in row and reference is None:
            prompt, reference = _without_target(prompt)
        id = row.get("id")
        if not isinstance(id, str | int | None) or isinstance(id, bool) or id == "":
            raise DatasetError(f"{where}: id: must be text or a whole number, got {id!r}; leave it out to number the rows")
        for name, kind, words in (("task", str, "text"), ("system", str, "text"), ("schema", dict, "an object")):
            if row.get(name) is not None and not isinstance(row[name], kind):
                raise DatasetError(f"{where}: {name}: must be {words}, got {type(row[name]).__name__}")
        tools = row.get("tools") or ()
        if not isinstance(tools, list | tuple) or not all(map(_is_tool, tools)):
            raise DatasetError(
                f"{where}: tools: must be a list of objects in OpenAI's function shape: "
                '{"type": "function", "function": {"name": ..., "parameters": {...}}}'
            )
        if row.get("split") not in SPLITS:
            raise DatasetError(f"{where}: split: must be 'train', 'test' or absent, got {row['split']!r}")
        answers: Any = row.get("answers")
        recorded = answers if _is_recorded(answers) else {}
        return Example(
            id=str(number) if id is None else str(id),
            prompt=prompt,
            answers=recorded,
            task=row.get("task") or "",
            split=row.get("split"),
            system=row.get("system") or self.system,
            schema=row.get("schema"),
            tools=tuple(tools),
            reference=reference,
            raw=row,
        )

    def _prompt(
        self, row: Row, where: str, fields: tuple[tuple[str, str | None], ...] | None
    ) -> str | list[Mapping[str, Any]]:
        has = f"the row has: {', '.join(map(str, row)) or 'nothing'}"
        if fields is not None:
            return "".join(text + ("" if name is None else _filled(row, name, where, has)) for text, name in fields)
        name = self.prompt_field or ("prompt" if "prompt" in row or "messages" not in row else "messages")
        if name not in row:
            raise DatasetError(
                f"{where}: {name}: the row has no prompt; name its field by --prompt-field or --template; {has}"
            )
        prompt = row[name]
        if isinstance(prompt, str) and prompt.strip():
            return prompt
        if prompt is None or prompt == [] or isinstance(prompt, str):
            raise DatasetError(f"{where}: {name}: the prompt is empty; fill it in or remove the row")
        if not isinstance(prompt, list):
            raise DatasetError(f"{where}: {name}: must be text or a list of messages, got {type(prompt).__name__}")
        for i, message in enumerate(prompt):
            if not isinstance(message, dict) or message.get("role") not in _ROLES:
                raise DatasetError(
                    f"{where}: {name}[{i}]: a message is an object whose 'role' is one of {', '.join(_ROLES)}"
                )
            content = message.get("content")
            if not (isinstance(content, str | list) or message.get("tool_calls")):
                raise DatasetError(f"{where}: {name}[{i}]: content: must be text or a list of parts")
        return prompt


def _written(example: Example, where: str) -> bytes:
    """The row's fields and reference as a recording stores them.

    Raises DatasetError for a value that JSON cannot hold, before any answer is paid for.
    """
    row = example.raw
    try:
        return _plain_text([row, example.reference]).encode()
    except (ValueError, RecursionError):
        name = next((name for name, value in row.items() if not _has_json(name, value)), "reference")
        content = "NaN or an infinite number, half of a surrogate pair, or too deep nesting"
        raise DatasetError(f"{where}: {name!a}: holds {content}, which JSON does not allow; correct or remove it") from None


def _has_json(name: str, value: Any) -> bool:
    try:
        _plain_text([name, value]).encode()
    except (ValueError, RecursionError):
        return False
    return True


def _is_tool(tool: Any) -> bool:
    function = tool.get("function") if isinstance(tool, dict) else None
    return isinstance(function, dict) and isinstance(function.get("name"), str)


def _is_recorded(answers: Any) -> bool:
    """Whether a row's ``answers`` are recorded answers, to which those of further models are added."""
    return isinstance(answers, dict) and all(
        isinstance(a, dict) and isinstance(a.get("text"), str) for a in answers.values()
    )


def _reference(value: Any) -> Any:
    """A reference; JSON in a table's cell is parsed."""
    if isinstance(value, str) and value[:1] in ("{", "["):
        with suppress(ValueError):
            return json.loads(value)
    return value


def _without_target(prompt: str | list[Mapping[str, Any]]) -> tuple[str | list[Mapping[str, Any]], Any]:
    """Splits the last message of a fine-tuning example, the assistant's, off as the reference."""
    if isinstance(prompt, str) or len(prompt) < 2 or prompt[-1].get("role") != "assistant":
        return prompt, None
    last = prompt[-1]
    return prompt[:-1], last.get("content") or last.get("tool_calls")


def _fields(template: str) -> tuple[tuple[str, str | None], ...]:
    """A template as pairs of text and the field that follows it."""
    try:
        pieces = [(text, name, spec, change) for text, name, spec, change in Formatter().parse(template)]
    except ValueError as error:
        raise DatasetError(f"--template: {error}; write {{{{ and }}}} for literal braces") from None
    if any(spec or change or name == "" for _, name, spec, change in pieces):
        raise DatasetError("--template: a field is written {name}; write {{ and }} for literal braces")
    if all(name is None for _, name, _, _ in pieces):
        raise DatasetError("--template: names no field, so that every prompt would be the same; write {name}")
    return tuple((text, name) for text, name, _, _ in pieces)


def _filled(row: Row, name: str, where: str, has: str) -> str:
    if name not in row:
        raise DatasetError(f"{where}: {name}: the template needs this field, {has}")
    value = row[name]
    if value is None:
        raise DatasetError(f"{where}: {name}: the template needs this field, which is empty here")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def check_exists(path: str | os.PathLike[str]) -> None:
    """Raises DatasetError where there is no such file or folder."""
    if not Path(path).exists():
        raise DatasetError(f"{path}: no such file or folder")
