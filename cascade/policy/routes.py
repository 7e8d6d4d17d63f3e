"""Routes: rules written by a person that say at which tier a run begins. The first rule that matches counts."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field, model_validator

from judges import Prompt

from .strict_model import StrictModel

_MOST_LETTERS = 400
_READ = 10_000
Word = str | list[str]


class RouteCondition(StrictModel):
    """What a run must be like: every condition that is set must hold. Without any, every run matches."""

    task: Word | None = Field(None, description="The run's task: its tag, see tasks. One name or several.")
    key: Word | None = Field(None, description="The name of the gateway's key. One name or several.")
    tags: dict[str, str | int | float | bool] = Field(default_factory=dict, description="What the run's tags must hold.")
    min_chars: int | None = Field(None, ge=0, description="The prompt's messages have at least so many characters.")
    max_chars: int | None = Field(None, ge=0, description="They have at most so many.")
    script: Word | None = Field(None, description="The script of most letters of the last user message: latin, cjk, ...")
    has_tools: bool | None = None
    has_images: bool | None = None
    has_schema: bool | None = None

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
        return None

    def covers(self, other: "RouteCondition") -> bool:
        """Whether every run that matches ``other`` matches this one."""
        for name in ("task", "key", "script"):
            wide, narrow = getattr(self, name), getattr(other, name)
            if wide is not None and (narrow is None or not set(_words(narrow)) <= set(_words(wide))):
                return False
        for name in ("has_tools", "has_images", "has_schema"):
            if getattr(self, name) not in (None, getattr(other, name)):
                return False
        if not self.tags.items() <= other.tags.items():
            return False
        if (self.min_chars or 0) > (other.min_chars or 0):
            return False
        return self.max_chars is None or (other.max_chars is not None and other.max_chars <= self.max_chars)


class Route(StrictModel):
    """Where runs of a kind begin."""

    when: RouteCondition = Field(description="Which runs.")
    start_at: str = Field(description="The first tier that is asked; those before it are not.")


def check_routes(routes: Sequence[Route], tag: str) -> None:
    """Raises ValueError for rules that contradict each other or themselves; ``tag`` names a run's task."""
    for i, route in enumerate(routes):
        required = route.when.tags.get(tag)
        if required is not None and route.when.task is not None and required not in _words(route.when.task):
            raise ValueError(f"routes[{i}].when: task and tags.{tag} differ; no run can match")
        for j, earlier in enumerate(routes[:i]):
            if earlier.when == route.when and earlier.start_at != route.start_at:
                raise ValueError(
                    f"routes[{i}] contradicts routes[{j}]: the same runs start at {earlier.start_at!r} and at "
                    f"{route.start_at!r}; remove one"
                )


def unreachable(routes: Sequence[Route]) -> list[tuple[int, int]]:
    """Pairs of a rule that never applies and the earlier one that matches all of its runs."""
    pairs = []
    for i, route in enumerate(routes):
        covering = next((j for j, earlier in enumerate(routes[:i]) if earlier.when.covers(route.when)), None)
        if covering is not None:
            pairs.append((i, covering))
    return pairs


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


def _words(words: Word) -> list[str]:
    return [words] if isinstance(words, str) else words
