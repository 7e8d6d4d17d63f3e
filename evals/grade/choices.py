"""Graders of choices: the letter of an option, or its words."""

import re
from typing import Any

from judges.reading import chosen

from .text import equal, one_of, stated

_GOLD = re.compile(r"\(?([A-Za-z])\)?[.:)]?|\(?([A-Za-z])[):.]\s.*", re.DOTALL)
_LABEL = re.compile(r"\W{0,4}\w+(?: \w+){0,2}\W{0,4}?:\W{0,4}(\S[^\n]{0,200})")


def choice(reference: Any, text: str) -> bool:
    """The same letter where the reference is one (or begins with it, "B) Paris"), else the same words.

    A reply that names several letters without choosing one is wrong; words may follow a label, "Category: billing".
    """
    letters, label = None, _LABEL.fullmatch(text.strip())
    for gold in one_of(reference):
        if letter := _GOLD.fullmatch(str(gold).strip()):
            letters = letters or chosen(stated(text))
            if letters == (letter[1] or letter[2]).upper():
                return True
        if equal(gold, text) or (label is not None and not letter and equal(gold, label[1])):
            return True
    return False
