"""Graders of text: exact, text, choice, contains, regex."""

import json
import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from judges.equivalence import final_answer
from judges.patterns import compiled, is_found

from .protocol import GraderError, GradingCase

PATTERN_SECONDS = 1.0
_FENCED = re.compile(r"```\w{0,20}[ \t]{0,8}\n(.*)\n[ \t]{0,8}```", re.DOTALL)
_BLANK = re.compile(r"\n[ \t]{0,8}\n")
_OUTER = " .,;:!?\"'“”‘’()[]{}"
_EMPHASIS = re.compile(r"`|(?<!\w)\*{1,3}(?=\S)|(?<=\S)\*{1,3}(?!\w)")
_LETTER_HYPHEN = re.compile(r"(?<=[^\W\d])-(?=\w)|(?<=\w)-(?=[^\W\d])|(?<!\d)\s-\s(?!\d)|^-\s(?!\d)")
_DENIES = re.compile(
    r"n['’]t\b|\b(?:not|no|nor|neither|never|cannot|or|unlike|wrong|incorrect|false|rather than|instead of)\b"
)


@dataclass(frozen=True, slots=True)
class WordsGrader:
    """1 where a rule about texts holds, else 0."""

    name: str
    rule: Callable[[Any, str], bool]
    version: str = "2"
    needs_reference: bool = True
    waits: bool = False

    def check(self, reference: Any) -> None:
        """Raises GraderError if the rule cannot use the reference."""
        self.rule(reference, "")

    def grade(self, case: GradingCase) -> float | None:
        """Applies the rule to reference and answer."""
        return float(self.rule(case.reference, case.text))


def stated(text: str) -> str:
    """The answer that a reply states: the field ``answer`` of a JSON object, else its final answer; without a code fence."""
    whole = text.strip()
    if fenced := _FENCED.fullmatch(whole):
        whole = fenced[1].strip()
    if whole.startswith("{"):
        with suppress(ValueError, RecursionError):
            value = json.loads(whole)
            for name in ("answer", "final_answer"):
                if name in value:
                    return value[name] if isinstance(value[name], str) else json.dumps(value[name])
    return final_answer(whole)


def leading(answer: str, pattern: re.Pattern[str]) -> str:
    """The first paragraph where it alone matches ``pattern`` and an explanation follows, else the whole text."""
    first, *rest = (part.strip() for part in _BLANK.split(answer))
    alone = rest and pattern.fullmatch(first) and not any(pattern.fullmatch(part) for part in rest)
    return first if alone else answer


def normal(text: str) -> str:
    """Lower case, Unicode-compatible form, letters' hyphens as spaces, no punctuation around, no leading article.

    Characters that belong to a number, or are the whole text, stay: -5, .5, 2*3, "<".
    """
    folded = _EMPHASIS.sub("", unicodedata.normalize("NFKC", text).casefold())
    folded = " ".join(re.sub(r"[‐-―−]", "-", folded).split())
    folded = _LETTER_HYPHEN.sub(" ", folded)
    bare = folded.rstrip(_OUTER).lstrip(_OUTER)
    if bare[:1].isdigit() and folded[: folded.find(bare)].endswith("."):
        bare = f".{bare}"
    return re.sub(r"^(?:the|a|an) ", "", bare or folded)


def one_of(reference: Any) -> list[Any]:
    """The right answers: a list contains several. Raises GraderError if they are not texts or numbers."""
    golds = list(reference) if isinstance(reference, list | tuple) else [reference]
    if not golds or not all(isinstance(gold, str | int | float) for gold in golds):
        value = f"{reference!r}"[:80]
        raise GraderError(f"reference: must be text, a number or a list of those for this grader, got {value}; see json")
    return golds


def exact(reference: Any, text: str) -> bool:
    """The same text, ignoring surrounding white space."""
    return any(text.strip() == str(gold).strip() for gold in one_of(reference))


def equal(reference: Any, text: str) -> bool:
    """The same words after normalising, in the whole reply or in the answer that it states."""
    texts = {normal(text), normal(stated(text))}
    return any(normal(str(gold)) in texts for gold in one_of(reference))


def contains(reference: Any, text: str) -> bool:
    """Equal, or the reference's whole words in a reply of under 15 words that does not negate them."""
    return any(_contains(normal(str(gold)), normal(text)) for gold in one_of(reference))


def _contains(gold: str, text: str) -> bool:
    if text == gold:
        return True
    if not gold or len(text.split()) >= 15 or _DENIES.search(text.replace(gold, "")):
        return False
    # A number does not match inside another: 5 is not in 3.5, -5, 11,985 or 5,000.
    start = r"(?<![\w-])(?<!\d[.,])" if gold[0].isdigit() else r"(?<!\w)"
    end = r"(?!\w|[.,]\d)" if gold[-1].isdigit() else r"(?!\w)"
    # One or two letters (a chemical symbol) would match by chance: they must end the sentence.
    return re.search(start + re.escape(gold) + (r"\Z" if len(gold) <= 2 else end), text) is not None


def matches(reference: Any, text: str) -> bool:
    """The reference, a regular expression, is found in the reply; one that takes over a second is an error."""
    golds = [str(gold) for gold in one_of(reference)]
    try:
        if any(not gold or compiled(gold).fullmatch("", timeout=PATTERN_SECONDS) is not None for gold in golds):
            raise GraderError(f"reference: the pattern {str(reference)[:80]!r} matches every reply; make it more exact")
        return any(is_found(gold, text, PATTERN_SECONDS) for gold in golds)
    except TimeoutError:
        raise GraderError(f"reference: the pattern {str(reference)[:80]!r} takes over {PATTERN_SECONDS:g} s") from None
    except GraderError:
        raise
    except ValueError as error:
        raise GraderError(f"reference: {error}") from None
