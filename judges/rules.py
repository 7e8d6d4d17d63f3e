"""Plain rules: empty, truncated, refused, not one of the choices, wrong pattern or length. Each break is a veto."""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from .answer import Answer, Verdict
from .judge import Case

PATTERN_SECONDS = 0.05
_REFUSAL = re.compile(
    r"^(?:(?:i['’]?m|i am) (?:very |so |really )?sorry\b[^.\n]{0,40}\b(?:can['’]?t|cannot|unable|not able|won['’]?t)\b"
    r"|(?:unfortunately,? |sorry,? (?:but )?|i apologi[sz]e,? (?:but )?)?i (?:can['’]?t|cannot|won['’]?t|am unable to|am not able to)"
    r" (?:help|assist|provide|answer|comply|do that|fulfil|support|discuss|create|generate|engage|share|write|continue)"
    r"|as an ai(?: language)?(?: model| assistant)?,? (?:i (?:can['’]?t|cannot|do not|don['’]?t|am)|my)"
    r"|i['’]m (?:unable|not able) to (?:help|assist|provide|answer|comply|fulfil|discuss))",
    re.I,
)


def is_refusal(text: str) -> bool:
    """Whether the text begins as a refusal. Only the first 200 characters are read."""
    return _REFUSAL.match(text[:200].lstrip()) is not None


@lru_cache(maxsize=256)
def compiled(pattern: str) -> Any:
    """The pattern, compiled by ``regex``: unlike ``re`` it can be stopped. Raises ValueError where it is none."""
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"not a regular expression: {pattern[:80]!r}: {error}") from None


@dataclass(frozen=True)
class RulesJudge:
    """Vetoes an answer that breaks a rule; gives no score.

    ``empty``, ``refusal`` and ``truncated`` (finish reason ``length`` or ``content_filter``) are on by default. ``choices``:
    the answer must be one of them, case and outer punctuation aside. ``pattern``: must be found in the text; a pattern that
    takes longer than 50 ms is a veto. ``min_chars`` and ``max_chars`` bound the length of the stripped text.
    """

    refusal: bool = True
    empty: bool = True
    truncated: bool = True
    choices: tuple[str, ...] | None = None
    pattern: str | None = None
    min_chars: int | None = None
    max_chars: int | None = None
    name: str = "rules"
    only_vetoes: bool = True
    _folded: frozenset[str] = field(init=False, repr=False, compare=False, default=frozenset())

    def __post_init__(self) -> None:
        if self.choices is not None:
            if isinstance(self.choices, str) or not self.choices:
                raise ValueError("choices must be a list with at least one text")
            object.__setattr__(self, "choices", tuple(str(c) for c in self.choices))
            object.__setattr__(self, "_folded", frozenset(_fold(str(c)) for c in self.choices))
        if self.pattern is not None:
            compiled(self.pattern)
        for option in ("min_chars", "max_chars"):
            value = getattr(self, option)
            if value is not None and (not isinstance(value, int) or value < 0):
                raise ValueError(f"{option} must be a whole number from 0 on, got {value!r}")

    def judge(self, case: Case) -> Verdict:
        """The first broken rule as a veto, or a verdict without one."""
        reason = self._broken(case.answer)
        return Verdict(self.name, None, reason is not None, reason or "")

    def _broken(self, answer: Answer) -> str | None:
        if self.truncated and answer.finish_reason in ("length", "content_filter"):
            return "truncated: the length limit was reached" if answer.finish_reason == "length" else "content filter"
        text = answer.text.strip()
        if not text and answer.tool_calls:
            return None
        if self.empty and not text:
            return "empty answer"
        if self.refusal and is_refusal(text):
            return "refusal"
        if self.choices is not None and _fold(text) not in self._folded:
            return f"not one of the {len(self.choices)} choices"
        if self.min_chars is not None and len(text) < self.min_chars:
            return f"shorter than {self.min_chars} characters"
        if self.max_chars is not None and len(text) > self.max_chars:
            return f"longer than {self.max_chars} characters"
        return self._mismatch(text) if self.pattern is not None else None

    def _mismatch(self, text: str) -> str | None:
        try:
            found = compiled(self.pattern or "").search(text, timeout=PATTERN_SECONDS)
        except TimeoutError:
            return "the pattern took too long"
        return None if found else "the pattern was not found"


def _fold(text: str) -> str:
    return text.strip().strip(".,;:!?\"'`*()[] ").casefold()
