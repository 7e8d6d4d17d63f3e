"""Graders of choices: the letter of an option, or its words."""

import re
import unicodedata
from typing import Any

from .text import equal, leading, one_of, stated

_GOLD = re.compile(r"\(?([A-Za-z])\)?[.:)]?|\(?([A-Za-z])[):.]\s.*", re.DOTALL)
_NOT_CHOSEN = re.compile(
    r"(?:\b(?:not|rather than|instead of|over)|n['’]t)\s(?:option\s)?\(?[A-Za-z]\)?(?!\w)[.:)]?", re.IGNORECASE
)
_WHOLE = re.compile(r"(?:(?:option|choice|answer) )?\(?([a-z])\)?[.:),]?", re.IGNORECASE)
_ALONE = re.compile(rf"[*_]{{0,3}}{_WHOLE.pattern}[*_]{{0,3}}", re.IGNORECASE)
_HEAD = re.compile(
    r"(?:(?:option|choice|answer) )?(?:\(([a-z])\)|([a-z])[).:](?!\w))|([A-Z])(?:,| [-–—])? (?:because|since|as|for)\b"
    r"|([A-Z]) [-–—] ",
    re.IGNORECASE,
)
_LISTED = re.compile(r"^\W{0,4}([a-z])[).:](?!\w)", re.IGNORECASE | re.MULTILINE)
# A and I are also words: they count only where nothing else is possible.
_NAMED = re.compile(
    r"\(([A-Za-z])\)|(?<![\w'’])([B-HJ-Z])(?![\w'’])|(?<![\w'’])([AI])(?=\W{0,4}\Z|[).:,]|\s(?:or|and|because|since|is|was)\b)"
)
_LABEL = re.compile(r"\W{0,4}\w+(?: \w+){0,2}\W{0,4}?:\W{0,4}(\S[^\n]{0,200})")


def choice(reference: Any, text: str) -> bool:
    """The same letter where the reference is one (or begins with it, "B) Paris"), else the same words.

    A reply that names several letters without choosing one is wrong; words may follow a label, "Category: billing".
    """
    letters, label = None, _LABEL.fullmatch(text.strip())
    for gold in one_of(reference):
        if letter := _GOLD.fullmatch(str(gold).strip()):
            letters = letters or chosen(text)
            if letters == (letter[1] or letter[2]).upper():
                return True
        if equal(gold, text) or (label is not None and not letter and equal(gold, label[1])):
            return True
    return False


def chosen(text: str) -> str | None:
    """The letter of the option that a reply chooses, in upper case; None if it chooses none or several."""
    answer = unicodedata.normalize("NFKC", stated(text)).strip("*_`\"' \n")
    answer = leading(answer, _ALONE)
    answer = _NOT_CHOSEN.sub("", answer).strip("*_`\"' \n,;")
    if match := _WHOLE.fullmatch(answer):
        return match[1].upper()
    listed = {letter.upper() for letter in _LISTED.findall(answer)}
    if (match := _HEAD.match(answer)) and len(listed) < 2:
        return next(group for group in match.groups() if group).upper()
    named = {next(filter(None, groups)).upper() for groups in _NAMED.findall(answer)} | listed
    return named.pop() if len(named) == 1 else None
