"""The letter of the option that a reply chooses: the one reader for votes and graders."""

import re

from .normal_form import compatible

_BLANK = re.compile(r"\n[ \t]{0,8}\n")
_DRESS = "*_`\"'[] \n"
# "not B", "rather than B": an option that is named in order to be left out.
_NOT_CHOSEN = re.compile(
    r"(?:\b(?:not|rather than|instead of|over)|n['’]t)\s(?:option\s)?\(?[A-Za-z]\)?(?!\w)[.:)]?", re.IGNORECASE
)
_WHOLE = re.compile(r"(?:(?:option|choice|answer) )?\(?([a-z])\)?[.:),]?", re.IGNORECASE)
_ALONE = re.compile(rf"[*_]{{0,3}}{_WHOLE.pattern}[*_]{{0,3}}", re.IGNORECASE)
_REASON = r"(?:[Bb]ecause|[Ss]ince|as|for|due to|given that)\b"
_HEAD = re.compile(
    r"(?:(?:option|choice|answer) )?(?:\(([a-z])\)|([a-z])[).:](?!\w))"
    rf"|(?:(?:option|choice|answer) )?([A-Z])(?:,| ?[-–—])? {_REASON}|([A-Z]) ?[-–—] |([A-Z]) \(|([A-Z])[,;] ",
)
_HEAD_ANY_CASE = re.compile(r"(?:(?:option|choice|answer) )?(?:\(([a-z])\)|([a-z])[).:](?!\w))", re.IGNORECASE)
_LISTED = re.compile(r"^\W{0,4}([a-z])[).:](?!\w)", re.IGNORECASE | re.MULTILINE)
# A and I are also words: they count only where nothing else is possible.
_NAMED = re.compile(
    r"\(([A-Za-z])\)|(?<![\w'’])([B-HJ-Z])(?![\w'’])"
    rf"|(?<![\w'’])([AI])(?=\W{{0,4}}\Z|\s?\(|[).:,*]|\s(?:or|and|is|was|{_REASON}))|(?<=\*)([AI])(?=\W)"
)


def chosen(answer: str) -> str | None:
    """The letter of the option that an answer chooses, in upper case; None if it chooses none or several.

    Args:
        answer: The part of a reply that is its answer.
    """
    plain = compatible(answer).strip(_DRESS)
    first, *rest = (part.strip() for part in _BLANK.split(plain))
    if rest and _ALONE.fullmatch(first) and not any(map(_ALONE.fullmatch, rest)):
        plain = first  # an explanation follows
    plain = _NOT_CHOSEN.sub("", plain).strip(f"{_DRESS},;")
    if match := _WHOLE.fullmatch(plain):
        return match[1].upper()
    listed = {letter.upper() for letter in _LISTED.findall(plain)}
    head = plain.replace("*", "").replace("_", "")
    if (match := _HEAD.match(head) or _HEAD_ANY_CASE.match(head)) and len(listed) < 2:
        return next(group for group in match.groups() if group).upper()
    named = {next(filter(None, groups)).upper() for groups in _NAMED.findall(plain)} | listed
    return named.pop() if len(named) == 1 else None
