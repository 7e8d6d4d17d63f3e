"""Refusals by words: a short reply that begins by declining the request, in thirteen languages.

A refusal says three things: who declines (the speaker), that it declines, and that what it declines is the request: help,
information, an answer, content. "I can't come on Saturday" lacks the third. A provider's own mark (``Answer.refusal``) needs
no words.
"""

import re
import unicodedata
from functools import cache

from . import english_refusals, refusal_kinds
from .refusals_by_language import CUES, KINDS, REQUESTS

_HEAD = 200  # characters: a refusal begins at once
_LONG = 1500  # an answer this long that begins with an apology goes on to answer

_Patterns = list[tuple[tuple[str, ...], str]]
_PATTERNS: _Patterns = [
    (
        (*CUES[language], *refusal_kinds.OTHER_CUES.get(language, ())),
        patterns[0]
        if language == "english"
        else "|".join((*patterns, *KINDS.get(language, ()), *refusal_kinds.OTHERS.get(language, ()))),
    )
    for language, patterns in ({"english": (english_refusals.START,)} | REQUESTS).items()
]
_PATTERNS += english_refusals.WIDE
_PATTERNS.append((refusal_kinds.CUES, rf"\A(?:{'|'.join(refusal_kinds.ENGLISH)})"))
_ASCII_CUES = ((tuple(cue for cue in cues if cue.isascii()), pattern) for cues, pattern in _PATTERNS)
_ASCII_PATTERNS: _Patterns = [(cues, pattern) for cues, pattern in _ASCII_CUES if cues]


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Compiled when a reply first has a cue of the language: all of them take 50 ms, which no import should pay."""
    return re.compile(unicodedata.normalize("NFC", pattern), re.IGNORECASE)


# Of a story: "I can't help you," said the wizard; I won't tell, she laughed.
_SPEECH = r"(?:said|says|laughed|replied|answered|wrote|whispered|shouted|complained|cried|muttered|sighed|asked|thought)"
_NARRATED = re.compile(
    rf"[,!?.][\"”’'] (?:\w+ ){{0,3}}{_SPEECH}\b|, (?!as |i )(?:\w+ ){{1,3}}{_SPEECH}[.!]?\W*\Z", re.IGNORECASE
)
_CURLY = str.maketrans({"’": "'", "‘": "'", "ʼ": "'"})


def is_refusal(text: str) -> bool:
    """Whether a short reply begins by declining the request.

    Args:
        text: A reply without reasoning; only its first 200 characters are read.

    Returns:
        True for English, Chinese, Hindi, Spanish, French, Arabic, Bengali, Portuguese, Russian, Urdu, Indonesian, German and
        Japanese refusals; False for any text over 1,500 characters.
    """
    if len(text) > _LONG:
        return False
    head = text[:_HEAD].lstrip(" \t\r\n\"'*_#>“")
    if not head or head[0] in "{[" or head[0].isdigit():
        return False
    if head.isascii():
        if " " not in head:
            return False  # one word declines nothing
        return _begins_as_refusal(head, _ASCII_PATTERNS) and _NARRATED.search(head) is None
    head = unicodedata.normalize("NFC", head.translate(_CURLY))
    return _begins_as_refusal(head, _PATTERNS) and _NARRATED.search(head) is None


def _begins_as_refusal(head: str, patterns: _Patterns) -> bool:
    lower = f" {head.lower()}"
    for cues, pattern in patterns:
        for cue in cues:
            if cue in lower:
                compiled = _compiled(pattern)
                find = compiled.match if pattern is english_refusals.START else compiled.search
                if find(head) is not None:
                    return True
                break
    return False
