"""What can be read off a prompt before any model is asked: a few properties, and hashed words and character n-grams.

Plain Python and deterministic on every machine. It reads at most ``MOST_CHARACTERS`` of the last user message, so that its
time is linear up to that cap. What is kept of a text are hashes and scrambled groups of four bytes, never the text.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from struct import unpack_from
from typing import Any
from zlib import crc32

from .quick_init import quick_init
from .types import Prompt

HEAD, TAIL = 600, 200
"""Characters read at the beginning and the end of a message that is longer than both together."""
MOST_CHARACTERS = HEAD + TAIL
WINDOW, WIDE_WINDOW = 12, 120
"""Bytes at each end of the text whose character n-grams are read: how a prompt begins and ends says what it asks for.

The wide window is that of texts that are not ASCII: some scripts write no spaces between words.
"""
GRAM = 4
"""Bytes of a character n-gram."""

OPENING = 500
"""Characters of a system prompt, and of the first message of a conversation, that tell applications apart."""

PROPERTIES = (
    "length", "words", "script", "digits", "code", "form", "turns", "system", "images", "tools", "schema", "opening", "task",
)  # fmt: skip
"""The kinds of a prompt's properties, in the order of ``PromptFeatures.properties``."""
SHAPE = ("turns", "system", "images", "tools", "schema", "opening", "task")
"""The kinds that do not depend on the last message's text: an application's requests share them."""

PROMPT_SCORE = "prompt:right"
"""The name under which a confidence reads what a predictor says of the prompt, beside the judges' scores."""

_DIGITS = bytes(range(48, 58))
_CODE = b"{}[]();=<>_`\\"
# Digits become 0, so that one number stands for all; ASCII that is no letter or digit separates words.
_WORDS = bytes(48 if 48 <= i < 58 else i if 97 <= i < 123 or i >= 128 else 32 for i in range(256))
# The same for n-grams, which keep punctuation; the bytes are permuted, so that a group of four is not plain text.
_SCRAMBLED = bytes((167 * (48 if 48 <= i < 58 else i) + 91) % 256 for i in range(256))
_FORMATS = tuple(f"<{n}I" for n in range(2 * WIDE_WINDOW + 1))
_SCRIPTS = (
    (0x0250, "latin"), (0x0370, "other"), (0x0400, "greek"), (0x0530, "cyrillic"), (0x0590, "armenian"), (0x0600, "hebrew"),
    (0x0780, "arabic"), (0x0900, "other"), (0x0E00, "indic"), (0x0E80, "thai"), (0x1100, "other"), (0x1200, "korean"),
    (0x1E00, "other"), (0x2000, "latin"), (0x3040, "symbols"), (0x3100, "japanese"), (0x3400, "other"), (0xA000, "chinese"),
    (0xAC00, "other"), (0xD7B0, "korean"), (0xF900, "other"), (0xFB00, "chinese"), (0x110000, "symbols"),
)  # fmt: skip
_ENDS, _NAMES = zip(*_SCRIPTS, strict=True)


@quick_init
@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeatures:
    """What a predictor reads of a prompt.

    Attributes:
        length: Characters of the last user message.
        script: The writing system of most of its letters: "latin", "cyrillic", "chinese", ...; "none" without letters.
        ngrams: Distinct whole numbers of 32 bits, one for each word, pair of words and character n-gram, in no fixed order.
        properties: Hashes of its properties, one for each of ``PROPERTIES``.
    """

    length: int
    script: str
    ngrams: frozenset[int]
    properties: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedFeatures(PromptFeatures):
    """The features of a prompt with its embedding.

    Attributes:
        embedding: The vector that an embedding model gave for the prompt's text.
    """

    embedding: Sequence[float]

    @classmethod
    def of(cls, plain: PromptFeatures, embedding: Sequence[float]) -> "EmbeddedFeatures":
        """The features with an embedding beside them."""
        return cls(
            length=plain.length,
            script=plain.script,
            ngrams=plain.ngrams,
            properties=plain.properties,
            embedding=embedding,
        )


EMBEDDED_HEAD, EMBEDDED_TAIL = 3000, 1000
"""Characters of a message that an embedding model is sent, at its beginning and its end, where it is longer than both."""


def embedded_text(prompt: Prompt) -> str:
    """The text of a prompt that an embedding model is sent: its last user message, shortened; empty where it is blank."""
    text = prompt.text.strip()
    if len(text) > EMBEDDED_HEAD + EMBEDDED_TAIL:
        text = f"{text[:EMBEDDED_HEAD]} {text[-EMBEDDED_TAIL:]}"
    return text


def features(prompt: Prompt, task: str | None = None) -> PromptFeatures:
    """Reads the features of a prompt.

    Args:
        prompt: The prompt.
        task: The task that the caller names; None: none.

    Example:
        ```python
        features(Prompt.of("What is 17 * 3?")).script
        ```
    """
    text = prompt.text
    length = len(text)
    if length > MOST_CHARACTERS:
        text = f"{text[:HEAD]} {text[-TAIL:]}"
    lower = text.lower()
    raw = lower.encode("utf-8", "replace")
    words = raw.translate(_WORDS).split()
    hashes = list(map(crc32, words))
    plain = raw.isascii()
    window, size = WINDOW if plain else WIDE_WINDOW, len(raw)
    flat = raw.translate(_SCRAMBLED)
    grams = _groups(flat[:window]) + _groups(flat[-window:]) if size > 2 * window else _groups(flat)
    script = writing_system(lower) if not plain else "latin" if words else "none"
    digits, code = size - len(raw.translate(None, _DIGITS)), size - len(raw.translate(None, _CODE))
    end = raw.rstrip()[-1:]
    end = b"0" if end.isdigit() else end
    form = "question" if end == b"?" else "asks" if b"?" in raw else "statement"
    turns, system, images, opening = _turns(prompt)
    schema = prompt.schema
    return PromptFeatures(
        length=length,
        script=script,
        # A pair of words: the hash of the second continues that of the first.
        ngrams=frozenset([*hashes, *map(crc32, words[1:], hashes), *grams]),
        properties=(
            *_of_size(length.bit_length(), len(words).bit_length(), script),
            _property("digits", digits.bit_length(), 8 * digits // size if digits else 0),
            _property("code", "fence" if "```" in text else 16 * code // size if code else 0),
            _property("form", form, end),
            *_of_request(turns, system, images, len(prompt.tools), 0 if schema is None else _fields(schema)),
            _property("opening", opening),
            _property("task", task),
        ),
    )


def _groups(flat: bytes) -> tuple[int, ...]:
    """All groups of ``GRAM`` bytes, each as one whole number."""
    n = len(flat)
    # As long as a multiple of GRAM from each place on; a negative end leaves nothing.
    joined = flat[: n & ~3] + flat[1 : 1 + (n - 1 & ~3)] + flat[2 : 2 + (n - 2 & ~3)] + flat[3 : 3 + (n - 3 & ~3)]
    return unpack_from(_FORMATS[len(joined) // GRAM], joined)


@lru_cache(maxsize=1024)
def _property(*parts: object) -> int:
    """The hash of a property's name and value; its values are few, and those of one kind share no hash with another."""
    return crc32(" ".join(map(str, parts)).encode("utf-8", "replace"), 1)


@lru_cache(maxsize=1024)
def _of_size(length_bits: int, word_bits: int, script: str) -> tuple[int, int, int]:
    """The properties of length, in powers of two, and script."""
    return _property("length", length_bits), _property("words", word_bits), _property("script", script)


@lru_cache(maxsize=1024)
def _of_request(turns: int, system: int, images: int, tools: int, fields: int) -> tuple[int, int, int, int, int]:
    """The properties of the request around the text."""
    return (
        _property("turns", min(turns, 8)),
        _property("system", system),
        _property("images", min(images, 4)),
        _property("tools", tools.bit_length()),
        _property("schema", fields.bit_length()),
    )


NO_TASK = _property("task", None)
"""The property of a prompt whose task is not named."""


def writing_system(text: str) -> str:
    """The writing system of most letters among the first and last characters of a text; "none" where it has no letter."""
    counts = Counter([_NAMES[bisect_right(_ENDS, ord(c))] for c in (text[:100] + text[100:][-50:]) if c.isalpha()])
    # Of equal counts the first name by the alphabet, so that the order of letters does not matter.
    return max(sorted(counts), key=counts.__getitem__) if counts else "none"


def _turns(prompt: Prompt) -> tuple[int, int, int, int]:
    """How many messages the user wrote, hashes of the system prompt and of the first message, and how many images there are.

    The hashes are 0 where there is no system prompt, or no message before the last.
    """
    messages = prompt.messages
    if len(messages) == 1 and messages[0].get("role") == "user" and isinstance(messages[0].get("content"), str):
        return 1, 0, 0, 0
    turns, system, images, opening, n = 0, 0, 0, 0, 0
    for message in messages:
        content, role = message.get("content"), message.get("role")
        if role in ("system", "developer"):
            if isinstance(content, str):
                # Applications differ by their system prompt; its beginning tells them apart.
                system = crc32(content[:OPENING].encode("utf-8", "replace"), system)
        else:
            n += 1
            turns += role == "user"
            if n == 1 and isinstance(content, str):
                # So do those that give examples as turns: the first one is the same in all of their requests.
                opening = crc32(content[:OPENING].encode("utf-8", "replace"), 1)
        if isinstance(content, (list, tuple)):
            images += sum(isinstance(part, Mapping) and "image" in str(part.get("type")) for part in content[:100])
    return turns, system, images, opening if n > 1 else 0


def _fields(schema: Any) -> int:
    """How many fields a schema has at its top level, plus one."""
    properties = schema.get("properties") if isinstance(schema, (dict, Mapping)) else getattr(schema, "model_fields", None)
    return 1 + (len(properties) if isinstance(properties, (dict, Mapping)) else 0)
