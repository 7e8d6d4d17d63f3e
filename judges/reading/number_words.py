"""English numbers in words -> digits: "fifty-one" and "two hundred and five", for votes and graders."""

import re

_TO_TWELVE = "zero one two three four five six seven eight nine ten eleven twelve"
_SMALL = f"{_TO_TWELVE} thirteen fourteen fifteen sixteen seventeen eighteen nineteen".split()
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_VALUES = {word: value for value, word in enumerate(_SMALL)} | {word: 10 * value for value, word in enumerate(_TENS, 2)}
_BIG = "|".join(("hundred", *_SCALES))
_WORD = f"(?:{'|'.join(sorted(_VALUES, key=len, reverse=True))}|{_BIG})"
_RUN = re.compile(
    rf"(?<![\w-])(?:a (?=(?:{_BIG})\b))?{_WORD}\b(?:(?:, and |,? and |, |[ -]){_WORD}\b)*+"
    # Not "twenty-first", "seven-segment", "three point five" and "two thirds".
    r"(?!-?\w| point\b| (?:hal(?:f|ves)|thirds?|quarters?|fourths?|fifths?|and (?:a|one) half)\b)",
    re.IGNORECASE,
)
_IN_BRACKETS = re.compile(rf"(?<=\d) \((?:{_WORD}(?:,? and |, |[ -])?){{1,20}}\)", re.IGNORECASE)  # 51 (fifty-one)
_OR_NUMBER = re.compile(rf" or {_WORD}\b", re.IGNORECASE)
_DOZEN = re.compile(r"(?<![\w-])a dozen\b", re.IGNORECASE)
_ANY = re.compile(rf"(?<![\w-])(?:a dozen|{_WORD})\b", re.IGNORECASE)
_DENIED = re.compile(r"\b(?:no|none|not|neither|nor|cannot|unknown|undefined)\b|n['’]t\b", re.IGNORECASE)
# "one" is mostly a pronoun: "the right one", "one of them".
_ONE_ALONE = re.compile(
    r"\W*(?:.{0,60}\b(?:is|are|was|were|equals?|gets?|makes?|gives?|leaves?) )?one\W*", re.IGNORECASE | re.DOTALL
)
_MOST_WORDS = 30


def has_number_words(text: str) -> bool:
    """Whether a text without digits may give its number in words."""
    return _ANY.search(text) is not None and not _DENIED.search(text)


def digits_for_words(text: str) -> str:
    """The text with its numbers in digits; unchanged where it has digits, denies something, or is no well-formed number."""
    if any(char.isdigit() for char in text):
        return _IN_BRACKETS.sub("", text)
    if not has_number_words(text):
        return text
    return _RUN.sub(lambda match: _digits(match, text), _DOZEN.sub("1 dozen", text))


def _digits(match: re.Match[str], text: str) -> str:
    run = match[0].lower()
    if run == "one" and not (_ONE_ALONE.fullmatch(text) or _OR_NUMBER.match(text, match.end())):
        return match[0]
    value = _value(re.findall(r"[a-z]+", run))
    return match[0] if value is None else str(value)


def _value(words: list[str]) -> int | None:
    """The number, or None where the words are several numbers or a year (nineteen eighty-four)."""
    total, group, room, last_scale = 0, 0, 1000, 10**15
    if len(words) > _MOST_WORDS:
        return None
    for i, word in enumerate(words):
        if word == "a":
            group, room = 1, 1
        elif word == "and":
            if room not in (100, 1000) or i == 0:
                return None
        elif word == "hundred":
            if not 0 < group < 100:
                return None
            group, room = 100 * group, 100
        elif (scale := _SCALES.get(word)) is not None:
            if group == 0 or scale >= last_scale:
                return None
            total, group, room, last_scale = total + group * scale, 0, 1000, scale
        else:
            value = _VALUES[word]
            if value >= room or (value == 0 and len(words) > 1):
                return None
            group, room = group + value, 10 if value >= 20 else 1
    return total + group
