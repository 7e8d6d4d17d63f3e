"""Routes: rules written by a person that say at which tier a run begins. The first rule that matches counts."""

import sys
import unicodedata
from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product
from math import prod
from typing import Any

from pydantic import Field, field_validator, model_validator

from cascade.util.suggestions import unknown
from judges import Prompt
from judges.language import LANGUAGES, language_of

from .strict_model import StrictModel

_COMMON_SCRIPTS = frozenset(
    (
        "latin", "cyrillic", "greek", "cjk", "hiragana", "katakana", "hangul", "arabic", "hebrew", "devanagari", "bengali",
        "tamil", "telugu", "thai", "georgian", "armenian", "ethiopic", "khmer", "none",
    )
)  # fmt: skip
_MOST_LETTERS = 400
_READ = 10_000
Word = str | list[str]


class RouteCondition(StrictModel):
    """What a run must be like: every condition that is set must hold. Without any, every run matches."""

    task: Word | None = Field(None, description="The run's task: its tag, see tasks. One name or several.")
    key: Word | None = Field(None, description="The name of the gateway's key. One name or several.")
    tags: dict[str, str | int | float | bool] = Field(default_factory=dict, description="What the run's tags must hold.")
    min_chars: int | None = Field(None, ge=0, description="The prompt's messages have at least this many characters.")
    max_chars: int | None = Field(None, ge=0, description="The prompt's messages have at most this many characters.")
    script: Word | None = Field(None, description="The script of most letters of the last user message: latin, cjk, ...")
    language: Word | None = Field(
        None, description="The language of the last user message, as ISO 639-1 names it: de, en, ..."
    )
    has_tools: bool | None = None
    has_images: bool | None = None
    has_schema: bool | None = None

    @field_validator("task", "key", "script", "language")
    @classmethod
    def _some(cls, words: Word | None) -> Word | None:
        if words == []:
            raise ValueError("an empty list, which no run matches; name at least one, or leave it out")
        return words

    @field_validator("script")
    @classmethod
    def _scripts(cls, words: Word | None) -> Word | None:
        for word in _words(words or []):
            if word not in _COMMON_SCRIPTS and word not in _scripts_of_unicode():
                raise ValueError(f"{unknown('script', word, sorted(_COMMON_SCRIPTS))}; Unicode has others")
        return words

    @field_validator("language")
    @classmethod
    def _languages(cls, words: Word | None) -> Word | None:
        for word in _words(words or []):
            if word not in LANGUAGES:
                raise ValueError(unknown("language", word, sorted(LANGUAGES)))
        return words

    @model_validator(mode="after")
    def _possible(self) -> "RouteCondition":
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"min_chars ({self.min_chars}) lies above max_chars ({self.max_chars}); no run can match")
        return self

    def mismatch(self, prompt: Prompt, tags: Mapping[str, Any], task: str | None) -> str | None:
        """Why a run does not match, in words; None where it does."""
        for name, required, actual in (("task", self.task, task), ("key", self.key, tags.get("key"))):
            if required is not None and actual not in _words(required):
                return f"{name} is {actual!r}"
        for name, value in self.tags.items():
            if name not in tags or tags[name] != value:
                return f"the tag {name} is {tags.get(name)!r}"
        if self.min_chars is not None or self.max_chars is not None:
            length = characters(prompt)
            if length < (self.min_chars or 0) or (self.max_chars is not None and length > self.max_chars):
                return f"the prompt has {length} characters"
        if self.has_tools is not None and self.has_tools != bool(prompt.tools):
            return "it has tools" if prompt.tools else "it has no tools"
        if self.has_schema is not None and self.has_schema != (prompt.schema is not None):
            return "it has no schema" if prompt.schema is None else "it has a schema"
        if self.has_images is not None and self.has_images != (seen := has_images(prompt)):
            return "it has images" if seen else "it has no images"
        if self.script is not None and (script := script_of(prompt.text)) not in _words(self.script):
            return f"its script is {script}"
        if self.language is not None and (language := language_of(prompt.text)) not in _words(self.language):
            return f"its language is {language or 'unclear'}"
        return None


class Route(StrictModel):
    """Where runs of a kind begin."""

    when: RouteCondition = Field(description="Which runs.")
    start_at: str = Field(description="The first tier that is asked; those before it are not.")


def check_routes(routes: Sequence[Route], tag: str) -> None:
    """Raises ValueError for rules that contradict each other or themselves; ``tag`` names a run's task."""
    for i, route in enumerate(routes):
        for name, field_name, words in ((tag, "task", route.when.task), ("key", "key", route.when.key)):
            value = route.when.tags.get(name)
            if value is not None and words is not None and str(value) not in _words(words):
                raise ValueError(f"routes[{i}].when: {field_name} and tags.{name} differ; no run can match")
        for j, earlier in enumerate(routes[:i]):
            if earlier.start_at != route.start_at and _same_runs(earlier.when, route.when, tag):
                raise ValueError(
                    f"routes[{i}] contradicts routes[{j}]: the same runs start at {earlier.start_at!r} and at "
                    f"{route.start_at!r}; remove one"
                )


def _same_runs(a: RouteCondition, b: RouteCondition, tag: str) -> bool:
    return _is_covered(a, [b], tag) and _is_covered(b, [a], tag)


def unreachable(routes: Sequence[Route], tag: str = "task") -> list[tuple[int, tuple[int, ...]]]:
    """Pairs of a rule that never applies and the earlier ones that together match all of its runs.

    Args:
        routes: The rules.
        tag: The tag that names a run's task.
    """
    pairs: list[tuple[int, tuple[int, ...]]] = []
    for i, route in enumerate(routes):
        covering = next((j for j in range(i) if _is_covered(route.when, [routes[j].when], tag)), None)
        if covering is not None:
            pairs.append((i, (covering,)))
        elif _is_covered(route.when, [earlier.when for earlier in routes[:i]], tag):
            needed = list(range(i))
            for j in range(i):  # those that it takes
                fewer = [k for k in needed if k != j]
                if _is_covered(route.when, [routes[k].when for k in fewer], tag):
                    needed = fewer
            pairs.append((i, tuple(needed)))
    return pairs


_MOST_KINDS = 20_000
"""Kinds of runs that are looked at; of rules that tell more of them apart, it is not said that one never applies."""
Value = str | int | float | bool
Side = tuple[Value | None, ...]


def _is_covered(when: RouteCondition, others: Sequence[RouteCondition], tag: str) -> bool:
    """Whether every run that matches a condition matches one of the others.

    Runs are of one kind where no condition tells them apart: every kind that matches ``when`` is looked at.
    """
    every = [when, *others]
    sides: dict[str, Side] = {name: _side([_wanted(c, name, tag) for c in every]) for name in _NAMED}
    sides |= {name: (True, False) for name in _FLAGS if any(getattr(c, name) is not None for c in every)}
    edges = {0, *(c.min_chars or 0 for c in every), *(c.max_chars + 1 for c in every if c.max_chars is not None)}
    sides["characters"] = tuple(sorted(edges))
    for name in sorted({name for c in every for name in c.tags if name != "key"}):
        sides[f"tags.{name}"] = _side([[c.tags[name]] if name in c.tags else None for c in every])
    if prod(map(len, sides.values())) > _MOST_KINDS:
        return False
    for values in product(*sides.values()):
        kind = dict(zip(sides, values, strict=True))
        named = kind.get(f"tags.{tag}")
        if named is not None and kind["task"] != str(named):
            continue  # the tag names the task
        if _matches(when, kind, tag) and not any(_matches(other, kind, tag) for other in others):
            return False
    return True


_NAMED = ("task", "key", "script", "language")
_FLAGS = ("has_tools", "has_images", "has_schema")


def _side(wanted: Sequence[Sequence[Value] | None]) -> Side:
    """The values that conditions name, and None for any other."""
    return (*dict.fromkeys(value for values in wanted for value in values or ()), None)


def _wanted(when: RouteCondition, name: str, tag: str) -> list[Value] | None:
    """The values of a run's task, key, script or language that match; None: all."""
    words: Word | None = getattr(when, name)
    wanted: list[Value] | None = None if words is None else list(_words(words))
    if name == "key" and "key" in when.tags:
        return [when.tags["key"]] if wanted is None else [value for value in wanted if value == when.tags["key"]]
    if name == "task" and tag in when.tags and wanted is None:
        return [str(when.tags[tag])]
    return wanted


def _matches(when: RouteCondition, kind: Mapping[str, Value | None], tag: str) -> bool:
    """Whether runs of a kind match a condition."""
    for name in _NAMED:
        wanted = _wanted(when, name, tag)
        if wanted is not None and kind[name] not in wanted:
            return False
    if any(getattr(when, name) not in (None, kind.get(name)) for name in _FLAGS):
        return False
    if any(kind[f"tags.{name}"] != value for name, value in when.tags.items() if name != "key"):
        return False
    length = kind["characters"]
    assert isinstance(length, int)
    return (when.min_chars or 0) <= length and (when.max_chars is None or length <= when.max_chars)


def first_match(routes: Sequence[Route], prompt: Prompt, tags: Mapping[str, Any], task: str | None) -> int | None:
    """The place of the first rule that matches a run; None where none does."""
    return next((i for i, route in enumerate(routes) if route.when.mismatch(prompt, tags, task) is None), None)


def in_words(when: RouteCondition) -> str:
    """A condition in one line, as the policy file writes it."""
    settings = when.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    return ", ".join(f"{name}: {value}" for name, value in settings.items()) or "every run"


def characters(prompt: Prompt) -> int:
    """How many characters the texts of all messages have."""
    total = 0
    for message in prompt.messages:
        content = message.get("content")
        if isinstance(content, str):
            total += len(content)
        elif isinstance(content, Sequence):
            total += sum(len(str(part.get("text") or "")) for part in content if isinstance(part, Mapping))
    return total


def has_images(prompt: Prompt) -> bool:
    """Whether a message has an image part."""
    return any(
        isinstance(part, Mapping) and "image" in str(part.get("type"))
        for message in prompt.messages
        if isinstance(message.get("content"), list | tuple)
        for part in message["content"]
    )


def script_of(text: str) -> str:
    """The script of most letters of a text: ``latin``, ``cyrillic``, ``cjk``, ...; ``none`` where it has no letters."""
    counts: dict[str, int] = {}
    seen = 0
    for char in text[:_READ]:
        if char.isalpha():
            script = "latin" if char.isascii() else unicodedata.name(char, "unknown").partition(" ")[0].lower()
            counts[script] = counts.get(script, 0) + 1
            seen += 1
            if seen >= _MOST_LETTERS:
                break
    return max(counts, key=counts.__getitem__) if counts else "none"


@cache
def _scripts_of_unicode() -> frozenset[str]:
    """Every script that ``script_of`` may give; to find them takes a tenth of a second, for rare ones alone."""
    letters = (char for char in map(chr, range(128, sys.maxunicode + 1)) if char.isalpha())
    return frozenset(unicodedata.name(char, "unknown").partition(" ")[0].lower() for char in letters)


def _words(words: Word) -> list[str]:
    return [words] if isinstance(words, str) else words
