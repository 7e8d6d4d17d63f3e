"""English number words -> digits, where a short answer is stated in words alone: "twelve apples", "It is fifty-one."."""

import re

_ONES = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
)
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_VALUES = {
    **{word: value for value, word in enumerate(_ONES)},
    **{word: 20 + 10 * i for i, word in enumerate(_TENS)},
    "fourty": 40,
}
_LARGE = {"thousand": 1_000, "million": 1_000_000, "billion": 10**9, "trillion": 10**12}
_WORD = rf"(?:{'|'.join(sorted((*_VALUES, 'hundred', *_LARGE), key=len, reverse=True))})"
# A capital inside a sentence begins a name: Seven Samurai.
_PHRASE = re.compile(
    rf"(?<![\w-])(?:a (?=hundred|thousand|million|billion))?{_WORD}(?:(?:[ -]|,? and |, ){_WORD}){{0,12}}(?![\w-])",
    re.IGNORECASE,
)
_DOZEN = re.compile(r"(?<![\w-])(?:a|one) dozen(?![\w-])", re.IGNORECASE)
_LONGEST = 120  # characters


def in_digits(text: str) -> str:
    """A short text with the numbers in words as digits; itself where it has none, has digits, or is longer.

    "Nineteen eighty-four" and "one or two" are no statement of one number, and stay.
    """
    if len(text) > _LONGEST or any(char.isdigit() for char in text):
        return text
    text = _DOZEN.sub("12", text)
    if any(char.isdigit() for char in text):
        return text
    matches = list(_PHRASE.finditer(text))
    if len(matches) != 1:
        return text
    match = matches[0]
    value = _value(re.findall(r"[a-z]+", match[0].lower()))
    after = text[match.end() :]
    if value is not None and (half := _HALF.match(after)) is not None:
        return f"{text[: match.start()]}{value} 1/2{after[half.end() :]}"
    if value is None or match[0].isupper() or _NAME.match(after) or _PART.match(after):
        return text
    return f"{text[: match.start()]}{value}{after}"


_HALF = re.compile(r" and (?:a|one) half\b", re.IGNORECASE)
_NAME = re.compile(r"[ -][A-Z]")
# One of them, two thirds, three point five, five hundredths, one another.
_PART = re.compile(
    r"[ -](?:of|or|to|point|half|halves|quarters?|thirds?|fourths?|fifths?|sixths?|sevenths?|eighths?|ninths?|tenths?"
    r"|hundredths?|another|more|less|who|that|which|day|time|way|by|at|on|in|score)\b",
    re.IGNORECASE,
)


def _value(words: list[str]) -> int | None:
    """The number of a phrase; None where it is no number, such as a year in two parts."""
    total = current = 0
    last = 10**15  # the size of the word before: each must be smaller within its group
    largest = 10**15
    for word in words:
        if word == "and":
            continue
        if word == "a":
            current, last = 1, 1
        elif word == "hundred":
            if not 1 <= current <= 99 or last >= 100:
                return None
            current, last = current * 100, 100
        elif word in _LARGE:
            scale = _LARGE[word]
            if not 1 <= current <= 999 or scale >= largest:
                return None
            total, current, last, largest = total + current * scale, 0, 10**15, scale
        else:
            value = _VALUES[word]
            size = 10 if value >= 20 else 1
            if size >= last or (last == 10 and value >= 10) or (value == 0 and len(words) > 1):
                return None
            current, last = current + value, size
    return total + current
