"""Which of a judge's or a provider's words may be in a record that must not contain text of prompts and answers."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from judges import Message
from judges.types import content_text

MASK = "…"
_SHORTEST_QUOTE = 16  # characters: a passage of this length that is also in the prompt counts as quoted from it
_LONGEST_READ = 100_000  # characters of an answer that are looked at
_THOUGHTS = ("reasoning_content", "reasoning", "thinking_blocks")  # of a history, besides its content
_ENUM = re.compile(r"[a-z][a-z0-9_]{0,31}")
_WORD = re.compile(r"\w+")
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})")
_MASKS = re.compile(rf"{MASK}(?:\s+{MASK})+")
# Words that say what was wrong. Many answers contain them, too, but they reveal none of the answers.
_GRAMMAR = re.compile(
    "(?i)a|an|and|answer|at|by|does|fewer|from|has|have|in|is|it|judge|long|longer|missing|more|must|no|none|not|of|on|one|or|"
    "other|property|properties|required|short|shorter|than|the|to|too|type|unexpected|value|was|with|"
    "array|boolean|integer|null|number|object|string|json|schema"
)


@dataclass(slots=True)
class Redactor:
    """Masks what comes from one prompt and one answer; ``keep=True`` lets everything through (``journal_text``)."""

    _messages: Iterable[Message]
    _answer: str
    keep: bool = field(kw_only=True)
    _prompt: str | None = None
    _words: set[str] | None = None

    def __post_init__(self) -> None:
        self._answer = self._answer[:_LONGEST_READ]

    def prompt_or_answer(self, text: str) -> str:
        """A reason or a fault, with the words of the answer masked, or all of it where it quotes the prompt."""
        if self.keep or not text:
            return text
        words = self._answers_words()
        if words:
            text = _WORD.sub(lambda m: MASK if m[0].lower() in words and _GRAMMAR.fullmatch(m[0]) is None else m[0], text)
            text = _MASKS.sub(MASK, text)
        return f"{MASK} (quotes the prompt)" if self._quotes(text) else text

    def details(self, details: Mapping[str, Any]) -> dict[str, Any]:
        """A verdict's further figures: numbers, truth values and short lower-case words that are not the answer's."""
        if not details:
            return {}
        if self.keep:
            return {str(k): v for k, v in details.items()}
        harmless: dict[str, Any] = {}
        for name, value in details.items():
            # A name may be quoted, too: counts of the words of an answer, say.
            if not isinstance(name, str) or _ENUM.fullmatch(name) is None or name in self._answers_words():
                continue
            kind = type(value)
            if (
                kind is int
                or kind is bool
                or value is None
                or (kind is float and isfinite(value))
                or (kind is str and self._harmless(value))
            ):
                harmless[name] = value
        return harmless

    def _harmless(self, word: str) -> bool:
        return (
            _ENUM.fullmatch(word) is not None
            and word not in self._answer.lower()
            and word not in self._prompts_text().lower()
        )

    def _answers_words(self) -> set[str]:
        if self._words is None:
            text = self._answer
            if "\\" in text:  # JSON may spell a word with escapes that a judge has read
                text = f"{text} {_ESCAPE.sub(lambda m: chr(int(m[1], 16)), text)}"
            self._words = {word.lower() for word in _WORD.findall(text)}
        return self._words

    def _prompts_text(self) -> str:
        if self._prompt is None:
            thoughts = (str(m[name]) for m in self._messages for name in _THOUGHTS if m.get(name))
            self._prompt = "\n".join([*(content_text(m.get("content")) for m in self._messages), *thoughts])
        return self._prompt

    def _quotes(self, text: str) -> bool:
        prompt = self._prompts_text()
        width = min(_SHORTEST_QUOTE, max(len(prompt), 4))
        return any(text[i : i + width] in prompt for i in range(len(text) - width + 1))
