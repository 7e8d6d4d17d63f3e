"""Takes imitations of the verifier's marks and of chat templates' control tokens out of untrusted text.

A model reads more than ASCII: full-width and mathematical letters, look-alikes of other alphabets, invisible characters in
between, HTML and URL escapes, tag characters. So the search runs over what the text looks like, and what it finds is cut out
of the text itself; all else stays as it is.
"""

import html
import re
import unicodedata
from functools import lru_cache

REMOVED = "[mark removed]"
_ANY = "\x00"  # in the looks: a letter of some other alphabet, which may be a look-alike of any
_GAP = r"\s{0,8}"
_CLOSE = r"(?!\w)[\w :#=\"'-]{0,60}"


def _word(word: str) -> str:
    return "".join(f"[{char}{_ANY}]" for char in word)


_NAMES = f"(?P<name>{_word('candidate')}|{_word('question')})"
_MORE_NAMES = "(?:candidate|question|answer)"
_EDGE = r"(?:end|begin)"
# Brackets that are not angles only where they close something, as plain text is full of them.
_MARK = re.compile(
    rf"<{{1,3}}{_GAP}[/\\]?{_GAP}(?:{_EDGE}[\s_-]{{0,3}}(?:of )?)?{_NAMES}{_CLOSE}>{{0,3}}"
    rf"|[\[{{(]{{1,3}}{_GAP}(?:[/\\]{_GAP}|{_EDGE}[\s_-]{{1,3}}(?:of )?){_MORE_NAMES}{_CLOSE}[\]}})>]{{0,3}}"
    rf"|[-=*#~_]{{2}}{_GAP}{_EDGE}[\s_-]{{1,3}}(?:of )?(?:the )?{_MORE_NAMES}{_CLOSE}[-=*#~_]{{0,40}}"
    r"|<\|[^|<>\n]{0,40}\|>|\[/?inst\]|<</?sys>>|</?s>|<(?:bos|eos|pad|(?:start|end)_of_turn)>"
)
_LINE = "-=*#~_"
_LONGEST_LINE = 38  # characters of it before the two that are part of a mark
_LEAST_LETTERS = 3  # letters of a name that must be known for what they are
_PLAIN = re.compile(r"[\t\n\r -~]*")
_ESCAPE = re.compile(
    r"&(?:amp;)*#?\w{1,8};|&(?:amp;)*[lg]t|%(?:25)*[0-9a-f]{2}|\\{1,4}(?:u\{?[0-9a-f]{4}\}?|U[0-9a-f]{8}|x[0-9a-f]{2}|[/<>])",
    re.IGNORECASE,
)
_ALIKE = {
    **dict(zip("аɑαᴀсϲᴄԁđɗᴅеєεᴇіıιɪɩո", "aaaacccddddeeeeiiiiin", strict=True)),
    **dict(zip("пɴηоοօᴏԛꞯѕꜱтτᴛυᴜսѵ", "nnnooooqqsstttuuuu", strict=True)),
    **dict.fromkeys("‹«≪《〈⟨❮˂ᐸ", "<"),
    **dict.fromkeys("›»≫》〉⟩❯˃ᐳ", ">"),
    **dict.fromkeys("∕⁄╱⧸", "/"),
    **dict.fromkeys("ǀ∣│❘", "|"),
    **dict.fromkeys("ㅤᅟᅠ⠀", ""),
}


def remove_marks(text: str) -> str:
    """The text with REMOVED in the place of each imitation. Takes time linear in its length."""
    if _PLAIN.fullmatch(text) and _ESCAPE.search(text) is None:
        return _without_marks(text, text.lower(), None)
    looks: list[str] = []
    starts: list[int] = []  # of each character of the looks, in the text
    at = 0
    for escape in _ESCAPE.finditer(text):
        _look(text[at : escape.start()], at, looks, starts)
        appearance = _unescaped(escape[0])
        looks += appearance
        starts += [escape.start()] * len(appearance)
        at = escape.end()
    _look(text[at:], at, looks, starts)
    return _without_marks(text, "".join(looks), [*starts, len(text)])


def _without_marks(text: str, looks: str, starts: list[int] | None) -> str:
    parts, at, last = [], 0, 0
    for mark in _MARK.finditer(looks):
        name = mark["name"]
        if name is not None and name.count(_ANY) > len(name) - _LEAST_LETTERS:
            continue  # a word of another language
        begin, end = mark.span()
        if looks[begin] in _LINE:
            begin -= len(line := looks[max(last, begin - _LONGEST_LINE) : begin]) - len(line.rstrip(_LINE))
        last = end
        if starts is not None:
            begin, end = starts[begin], starts[end]
        parts.append(text[at:begin])
        at = end
    return REMOVED.join([*parts, text[at:]])


def _look(text: str, at: int, looks: list[str], starts: list[int]) -> None:
    appearances = {char: char.lower() if " " <= char <= "~" else _appearance(char) for char in set(text)}
    if all(map((1).__eq__, map(len, appearances.values()))):
        looks += map(appearances.__getitem__, text)
        starts += range(at, at + len(text))
        return
    for i, char in enumerate(text, at):
        appearance = appearances[char]
        looks += appearance
        starts += [i] * len(appearance)


@lru_cache(maxsize=4096)
def _appearance(char: str) -> str:
    """The lower-case ASCII character that a character looks like; empty where it is invisible."""
    code = ord(char)
    if 0xE0000 <= code <= 0xE007F:  # tag characters, which spell ASCII invisibly
        return chr(code - 0xE0000).lower() if 0x20 <= code - 0xE0000 < 0x7F else ""
    appearance = ""
    for part in unicodedata.normalize("NFKD", char.casefold()).casefold():
        if part.isascii():
            appearance += part if part >= " " or part in "\t\n\r" else ""
        elif part in _ALIKE:
            appearance += _ALIKE[part]
        elif (kind := unicodedata.category(part))[0] == "L":
            appearance += _ANY
        elif kind[0] == "Z":
            appearance += " "
        elif kind not in ("Cf", "Mn", "Me", "Cc", "Cn", "Co", "Cs"):
            appearance += part
    # A word of another language in one character (U+FDFA has eighteen) looks like no part of a mark.
    return appearance if len(appearance) <= 4 or appearance.strip(f"{_ANY} ") else _ANY


@lru_cache(maxsize=1024)
def _unescaped(escape: str) -> str:
    if escape[0] == "%":
        appearance = chr(int(escape[-2:], 16))
    elif escape[0] == "&":
        appearance = html.unescape(escape.replace("amp;", ""))
    else:
        digits = escape.strip("\\{}uUx")
        appearance = digits if digits in ("/", "<", ">") else chr(min(int(digits, 16), 0x10FFFF))
    return "".join(map(_appearance, appearance))
