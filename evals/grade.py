"""An answer and its reference -> quality in [0, 1]. Strict on purpose: a lenient grader flatters the cheap model.

A judge's idea of "these two say the same" may be generous; a grader decides what counts as right, so it wants the
answer itself and does not hunt for it in a text that never commits to one.
"""

import json
import re
import unicodedata
from collections.abc import Callable
from datetime import date, datetime
from fractions import Fraction
from typing import Any

_NUMBER = re.compile(r"[-+−]?\d+(?:,\d{3})+(?:\.\d+)?(?![\d,])|[-+−]?\d*\.?\d+(?:[eE][-+]?\d+)?")
_MARKED = re.compile(r"(?:answer(?:\s+is)?\s*[:=]?|####)\s*[*_$\\({\[<]*\s*(?=[-+−$€£.\d])[$€£]?\s*", re.IGNORECASE)
_FENCE = re.compile(r"\A\s*```(?:json|JSON)?\s*\n(.*?)\n?\s*```\s*\Z", re.DOTALL)
_DATES = ("%Y-%m-%d", "%m/%d/%Y", "%B %d, %Y", "%d %B %Y", "%b %d, %Y", "%Y/%m/%d")


def grade(reference: Any, text: str, kind: str = "text") -> float:
    """1.0 where ``text`` answers as ``reference`` says, else 0.0.

    ``kind``: ``number`` (the marked or else the last number, exactly), ``date`` (the answer is one date), ``json`` (one
    equal JSON value, a code fence around it allowed), ``text`` or ``choice`` (equal after normalising), ``contains`` (equal,
    or the whole words of the reference in a sentence of under 15 words). Raises ValueError for an unknown kind.
    """
    grader = GRADERS.get(kind)
    if grader is None:
        raise ValueError(f"unknown grader {kind!r}; known: {', '.join(GRADERS)}")
    return 1.0 if grader(reference, text) else 0.0


def normal(text: str) -> str:
    """Lower case, Unicode-compatible form, hyphens as spaces, no punctuation around, no leading article."""
    folded = unicodedata.normalize("NFKC", text).casefold().replace("*", "").replace("`", "")
    folded = re.sub(r"[-‐-―]", " ", folded)
    folded = " ".join(folded.split()).strip(" .,;:!?\"'“”‘’()[]{}<>")
    return re.sub(r"^(?:the|a|an) ", "", folded)


def _as_number(text: str) -> Fraction | None:
    try:
        return Fraction(text.replace(",", "").replace("−", "-"))
    except (ValueError, ZeroDivisionError):
        return None


def _number(reference: Any, text: str) -> bool:
    gold = _as_number(str(reference))
    marks = list(_MARKED.finditer(text))
    found = _NUMBER.match(text, marks[-1].end()) if marks else None
    if found is None:
        numbers = _NUMBER.findall(text)
        return bool(numbers) and gold is not None and _as_number(numbers[-1]) == gold
    # "Answer: 17 + 5" states a sum, not its result.
    if re.match(r"[ \t]*[-+*/×÷][ \t]*\d", text[found.end() :]):
        return False
    return gold is not None and _as_number(found.group()) == gold


def _as_date(text: str) -> date | None:
    for form in _DATES:
        try:
            return datetime.strptime(text, form).date()
        except ValueError:
            continue
    return None


def _date(reference: Any, text: str) -> bool:
    said = _as_date(text.strip().strip("*`\"'. \n"))
    return said is not None and said == _as_date(str(reference))


def _json(reference: Any, text: str) -> bool:
    fenced = _FENCE.match(text)
    try:
        said = json.loads(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        return False
    # Compared as text, because in Python 1 == True == 1.0.
    return json.dumps(said, sort_keys=True) == json.dumps(reference, sort_keys=True)


def _text(reference: Any, text: str) -> bool:
    return normal(text) == normal(str(reference))


def _contains(reference: Any, text: str) -> bool:
    gold, said = normal(str(reference)), normal(text)
    if said == gold:
        return True
    if not gold or len(said.split()) >= 15 or re.search(r"\b(?:not|no|n't|or)\b", said):
        return False
    # One or two letters (a chemical symbol) would be found by chance: they must end the sentence.
    ending = r"\Z" if len(gold) <= 2 else r"(?!\w)"
    return re.search(rf"(?<!\w){re.escape(gold)}{ending}", said) is not None


GRADERS: dict[str, Callable[[Any, str], bool]] = {
    "number": _number,
    "date": _date,
    "json": _json,
    "choice": _text,
    "text": _text,
    "contains": _contains,
}
