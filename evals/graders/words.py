"""Graders of words: exact, text, choice, contains, regex."""

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from judges.equivalence import final_answer, key
from judges.rules import compiled

from .grader import Case, GraderError

PATTERN_SECONDS = 1.0
_LETTER = re.compile(r"\(?([A-Za-z])\)?[.:)]?")


@dataclass(frozen=True, slots=True)
class WordsGrader:
    """1 where a rule about texts holds, else 0."""

    name: str
    rule: Callable[[Any, str], bool]
    version: str = "1"
    needs_reference: bool = True
    waits: bool = False

    def grade(self, case: Case) -> float | None:
        """The rule applied to reference and answer."""
        return float(self.rule(case.reference, case.text))


def normal(text: str) -> str:
    """Lower case, Unicode-compatible form, hyphens as spaces, no punctuation around, no leading article."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("*", "").replace("`", "")
    folded = re.sub(r"[-‐-―]", " ", folded)
    folded = " ".join(folded.split()).strip(" .,;:!?\"'“”‘’()[]{}<>")
    return re.sub(r"^(?:the|a|an) ", "", folded)


def one_of(reference: Any) -> list[Any]:
    """The right answers: a reference that is a list names several. Raises GraderError where they are no texts or numbers."""
    golds = list(reference) if isinstance(reference, list | tuple) else [reference]
    if not golds or not all(isinstance(gold, str | int | float) for gold in golds):
        told = f"{reference!r}"[:80]
        raise GraderError(f"reference: must be text, a number or a list of those for this grader, got {told}; see json")
    return golds


def exact(reference: Any, text: str) -> bool:
    """The very text, white space around aside."""
    return any(text.strip() == str(gold).strip() for gold in one_of(reference))


def equal(reference: Any, text: str) -> bool:
    """The same words after normalising, in the whole reply or in what it marks as its answer."""
    said = {normal(text), normal(final_answer(text))}
    return any(normal(str(gold)) in said for gold in one_of(reference))


def choice(reference: Any, text: str) -> bool:
    """The same letter where the reference is one, else the same words."""
    return any(
        key(text, "choice") == key(f"({match[1]})", "choice") if (match := _letter(gold)) else equal(gold, text)
        for gold in one_of(reference)
    )


def _letter(gold: Any) -> re.Match[str] | None:
    return _LETTER.fullmatch(str(gold).strip())


def contains(reference: Any, text: str) -> bool:
    """Equal, or the reference's whole words in a reply of under 15 words that does not negate them."""
    return any(_contains(normal(str(gold)), normal(text)) for gold in one_of(reference))


def _contains(gold: str, said: str) -> bool:
    if said == gold:
        return True
    if not gold or len(said.split()) >= 15 or re.search(r"\b(?:not|no|n't|or)\b", said):
        return False
    # One or two letters (a chemical symbol) would be found by chance: they must end the sentence.
    ending = r"\Z" if len(gold) <= 2 else r"(?!\w)"
    return re.search(rf"(?<!\w){re.escape(gold)}{ending}", said) is not None


def matches(reference: Any, text: str) -> bool:
    """The reference, a regular expression, is found in the reply; one that takes over a second is an error."""
    try:
        return any(compiled(str(gold)).search(text, timeout=PATTERN_SECONDS) is not None for gold in one_of(reference))
    except TimeoutError:
        raise GraderError(f"reference: the pattern {str(reference)[:80]!r} takes over {PATTERN_SECONDS:g} s") from None
    except ValueError as error:
        raise GraderError(f"reference: {error}") from None
