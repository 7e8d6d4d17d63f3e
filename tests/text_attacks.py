"""Texts that cost a reader as much as possible, made from the reader's own patterns and constants.

A reader that is quick on ordinary text can take quadratic time on one word of its own repeated. Which word that is depends
on its code, so the words come from the code: a pattern's literals and samples of its parts, and a module's short strings.
"""

import random
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from re import _constants as codes  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from time import thread_time
from types import ModuleType
from typing import Any, NamedTuple

from tests.machine import slowness

_LONGEST_UNIT = 80  # characters
_COMMON = (
    *("a", "A", "1", " ", "\n", "\t", ".", ",", ":", "-", "/", "\\", '"', "'", "`", "```", "```\n", "*", "_", "#", "|"),
    *("{", "}", "[", "]", "(", ")", "<", ">", "{}", "[]", '{"', '{"a":', '{"a":1}', "[1,", "[[1", '\\"', "\\u0041", "1e9"),
    *("\u0301\u0316", "é", "ß", "İ", "ﷺ", "ﬃ", "①", "½", "²", "中", "😀", "\u0301", "\u0345", "\u200b", "\u2028", "\u0000"),
    *("\ud83d", "\ude00", "\ufeff", "\ufffd", "a\u0301", "\u1100\u1161", "&amp;", "&lt;", "%25", "I can't ", "Answer: "),
)  # fmt: skip
_CATEGORIES = {
    codes.CATEGORY_DIGIT: "1",
    codes.CATEGORY_SPACE: " ",
    codes.CATEGORY_WORD: "a",
    codes.CATEGORY_NOT_DIGIT: "a",
    codes.CATEGORY_NOT_SPACE: "a",
    codes.CATEGORY_NOT_WORD: "-",
}


def units(*modules: ModuleType) -> list[str]:
    """The words of modules: from their patterns and from their short strings, with common marks, in a fixed order."""
    words = dict.fromkeys(_COMMON)
    for module in modules:
        for name, value in vars(module).items():
            if not name.startswith("__"):
                words.update(dict.fromkeys(_words(value)))
    return [unit for unit in words if 0 < len(unit) <= _LONGEST_UNIT]


def patterns(module: ModuleType) -> list[str]:
    """The names of the module's compiled patterns."""
    return [name for name, value in vars(module).items() if any(True for _ in _patterns(value))]


def _patterns(value: Any) -> Iterator[Any]:
    if hasattr(value, "pattern") and hasattr(value, "finditer"):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _patterns(inner)
    elif isinstance(value, list | tuple | set | frozenset):
        for inner in value:
            yield from _patterns(inner)


def _words(value: Any) -> Iterator[str]:
    for pattern in _patterns(value):
        yield from pattern_words(pattern.pattern, pattern.flags)
    for text in _strings(value):
        if "(?" in text:  # a pattern that is compiled when it is first needed
            yield from pattern_words(text, re.IGNORECASE)
        else:
            yield text


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _strings(name)
            yield from _strings(inner)
    elif isinstance(value, list | tuple | set | frozenset) and not isinstance(value, str):
        for inner in sorted(value, key=repr) if isinstance(value, set | frozenset) else value:
            yield from _strings(inner)


def pattern_words(pattern: str | bytes, flags: int) -> Iterator[str]:
    """A pattern's literals, and a sample of every part of it: what brings a matcher far before it fails."""
    try:
        tree = _parser.parse(pattern, flags & ~(re.UNICODE if isinstance(pattern, bytes) else 0))
    except re.error:
        return
    yield from _parts(tree)


def _parts(tree: Any) -> Iterator[str]:
    yield _sample(tree)
    run = ""
    for op, argument in tree:
        if op is codes.LITERAL:
            run += chr(argument)
            continue
        if run:
            yield run
            run = ""
        for inner in _inner(op, argument):
            yield from _parts(inner)
        yield _sample([(op, argument)])
    if run:
        yield run


def _inner(op: Any, argument: Any) -> list[Any]:
    if op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
        return [argument[2]]
    if op is codes.SUBPATTERN:
        return [argument[3]]
    if op is codes.ATOMIC_GROUP:
        return [argument]
    if op is codes.BRANCH:
        return list(argument[1])
    if op in (codes.ASSERT, codes.ASSERT_NOT):
        return [argument[1]]
    if op is codes.GROUPREF_EXISTS:
        return [tree for tree in argument[1:] if tree is not None]
    return []


def _sample(tree: Any) -> str:
    """A short text that the tree matches, as far as no assertion forbids it: optional parts are there once."""
    text = ""
    for op, argument in tree:
        if op is codes.LITERAL:
            text += chr(argument)
        elif op is codes.NOT_LITERAL:
            text += "a" if argument != ord("a") else "b"
        elif op is codes.ANY:
            text += "a"
        elif op is codes.IN:
            text += _member(argument)
        elif op in (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT):
            text += _sample(argument[2]) * min(max(1, argument[0]), _LONGEST_UNIT)
        elif op is codes.BRANCH:
            text += _sample(argument[1][0])
        elif op in (codes.SUBPATTERN, codes.ATOMIC_GROUP):
            text += _sample(argument[3] if op is codes.SUBPATTERN else argument)
        if len(text) > _LONGEST_UNIT:
            return text[:_LONGEST_UNIT]
    return text


def _member(items: Any) -> str:
    if items[0][0] is codes.NEGATE:
        named = {argument for op, argument in items if op is codes.LITERAL}
        return next(char for char in "a1 -\u00e9" if ord(char) not in named)
    op, argument = items[0]
    if op is codes.LITERAL:
        return chr(argument)
    if op is codes.RANGE:
        return chr(argument[0])
    return _CATEGORIES.get(argument, "a")


class Shape(NamedTuple):
    """A way to make a long text of two words."""

    name: str
    build: Callable[[str, str, int], str]


def _repeat(unit: str, size: int) -> str:
    """A text of so many bytes in UTF-8."""
    return unit * max(1, size // len(unit.encode("utf-8", "surrogatepass")))


SINGLE = (
    Shape("repeated", lambda u, _, size: _repeat(u, size)),
    Shape("lines", lambda u, _, size: _repeat(u + "\n", size)),
    Shape("words", lambda u, _, size: _repeat(u + " ", size)),
    Shape("before prose", lambda u, _, size: u + _repeat("word ", size)),
    Shape("after prose", lambda u, _, size: _repeat("word ", size) + u),
    Shape("after one line", lambda u, _, size: "Well.\n" + _repeat(u, size)),
)
PAIRS = (
    Shape("in turn", lambda u, v, size: _repeat(u + v, size)),
    Shape("one, then the other", lambda u, v, size: _repeat(u, size // 2) + _repeat(v, size // 2)),
    Shape("one in front", lambda u, v, size: u + _repeat(v, size)),
    Shape("one at the end", lambda u, v, size: _repeat(u, size) + v),
)
Reader = Callable[[str], object]


class Slow(NamedTuple):
    """A text on which a reader took too long."""

    reader: str
    shape: str
    units: tuple[str, str]
    size: int
    seconds: float


def cases(words: list[str], pairs: int, seed: int) -> list[tuple[Shape, str, str]]:
    """Every word in every shape of one, and so many pairs of words, each in a shape of two."""
    chance = random.Random(seed)
    alone = [(shape, unit, "") for unit in words for shape in SINGLE]
    return alone + [(chance.choice(PAIRS), chance.choice(words), chance.choice(words)) for _ in range(pairs)]


def slow(
    readers: Mapping[str, Reader], attacks: Collection[tuple[Shape, str, str]], limit_s: float, size: int = 1_000_000
) -> list[Slow]:
    """The attacks on which a reader takes more CPU time than ``limit_s`` for ``size`` bytes.

    A sixteenth of the size goes first: what is slow there is not tried on all of it. What is too slow is tried three times.
    """
    result = []
    for shape, u, v in attacks:
        small, whole = shape.build(u, v, size // 16), ""
        for name, reader in readers.items():
            if (seconds := _seconds(reader, small, limit_s)) > limit_s:
                result.append(Slow(name, shape.name, (u, v), len(small), round(seconds, 3)))
                continue
            whole = whole or shape.build(u, v, size)
            if (seconds := _seconds(reader, whole, limit_s)) > limit_s:
                result.append(Slow(name, shape.name, (u, v), len(whole), round(seconds, 3)))
    return result


def _seconds(reader: Reader, text: str, limit_s: float) -> float:
    """The least CPU time of up to three tries, on a machine as fast as the reference."""
    least = float("inf")
    for _ in range(3):
        began = thread_time()
        reader(text)
        seconds = thread_time() - began
        least = min(least, seconds if seconds <= limit_s else seconds / slowness())
        if least <= limit_s:
            break
    return least
