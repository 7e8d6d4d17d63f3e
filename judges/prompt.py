"""What can be read off a prompt before any model is asked: a few properties, and hashed words and character n-grams.

Plain Python and deterministic on every machine. It reads at most ``MOST_CHARACTERS`` of the last user message, so that its
time is linear up to that cap. Words are stored as hashes: whoever reads a predictor's file cannot read prompts in it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import repeat
from typing import Any
from zlib import crc32

from .types import Prompt

HEAD, TAIL = 600, 200
"""Characters read at the beginning and the end of a message that is longer than both together."""
MOST_CHARACTERS = HEAD + TAIL
WINDOW = 20
"""Bytes at each end of the text whose character n-grams are read: how a prompt begins and ends says what it asks for."""
NGRAMS = (3, 4, 5)

PROMPT_SCORE = "prompt:right"
"""The name under which a confidence reads what a predictor says of the prompt, beside the judges' scores."""

_DIGITS = bytes(range(48, 58))
_CODE = b"{}[]();=<>_`\\"
# Digits become 0, so that one number stands for all; ASCII that is no letter or digit separates words.
_FLAT = bytes(48 if 48 <= i < 58 else i for i in range(256))
_WORDS = bytes(48 if 48 <= i < 58 else i if 97 <= i < 123 or i >= 128 else 32 for i in range(256))
_SCRIPTS = (
    (0x0250, "latin"), (0x0370, "other"), (0x0400, "greek"), (0x0530, "cyrillic"), (0x0590, "armenian"), (0x0600, "hebrew"),
    (0x0780, "arabic"), (0x0900, "other"), (0x0E00, "indic"), (0x0E80, "thai"), (0x1100, "other"), (0x1200, "korean"),
    (0x1E00, "other"), (0x2000, "latin"), (0x3040, "symbols"), (0x3100, "japanese"), (0x3400, "other"), (0xA000, "chinese"),
    (0xAC00, "other"), (0xD7B0, "korean"), (0xF900, "other"), (0xFB00, "chinese"), (0x110000, "symbols"),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFeatures:
    """What a predictor reads of a prompt.

    Attributes:
        length: Characters of the last user message.
        script: The writing system of most of its letters: "latin", "cyrillic", "chinese", ...; "none" without letters.
        ngrams: Distinct 32-bit hashes of its words, pairs of words and character n-grams, in no fixed order.
        properties: Hashes of its properties, one for each kind, such as the number of turns.
    """

    length: int
    script: str
    ngrams: frozenset[int]
    properties: tuple[int, ...]


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
    grams = set(hashes)
    # A pair of words: the hash of the first continues that of the second.
    grams.update(map(crc32, words, hashes[1:]))
    flat = raw.translate(_FLAT)
    ends = (flat,) if len(flat) <= 2 * WINDOW else (flat[:WINDOW], flat[-WINDOW:])
    for end in ends:
        for size in NGRAMS:
            grams.update(map(crc32, [end[i : i + size] for i in range(len(end) - size + 1)], repeat(size)))
    script = "latin" if raw.isascii() else script_of(lower)
    if script == "latin" and not words:
        script = "none"
    size = max(len(raw), 1)
    n_digits, n_code = size - len(raw.translate(None, _DIGITS)), size - len(raw.translate(None, _CODE))
    end = raw.rstrip()[-1:]
    form = "question" if end == b"?" else "asks" if b"?" in raw else "statement"
    names = (
        f"length {length.bit_length()}",
        f"words {len(words).bit_length()}",
        f"script {script}",
        f"digits {n_digits.bit_length() if raw else 0} {8 * n_digits // size}",
        f"code {16 * n_code // size if '```' not in text else 'fence'}",
        f"form {form} {end!r}",
        *_request(prompt),
        f"task {task}",
    )
    return PromptFeatures(
        length=length,
        script=script,
        ngrams=frozenset(grams),
        properties=tuple([crc32(name.encode("utf-8", "replace"), 1) for name in names]),
    )


def script_of(text: str) -> str:
    """The writing system of most letters among the first and last characters of a text; "none" where it has no letter."""
    counts: dict[str, int] = {}
    for character in (*text[:100], *text[100:][-50:]):
        if character.isalpha():
            code = ord(character)
            name = next(name for end, name in _SCRIPTS if code < end)
            counts[name] = counts.get(name, 0) + 1
    # Of equal counts the first name by the alphabet, so that the order of letters does not matter.
    return max(sorted(counts), key=counts.__getitem__) if counts else "none"


def _request(prompt: Prompt) -> tuple[str, str, str, str, str]:
    """The properties of the request around the text: turns, system prompt, images, tools, schema."""
    turns, system, images = 0, 0, 0
    for message in prompt.messages:
        content = message.get("content")
        if message.get("role") == "user":
            turns += 1
        elif isinstance(content, str) and message.get("role") in ("system", "developer"):
            # Applications differ by their system prompt; its beginning tells them apart.
            system = crc32(content[:500].encode("utf-8", "replace"), system)
        if isinstance(content, list | tuple):
            images += sum(isinstance(part, Mapping) and "image" in str(part.get("type")) for part in content[:100])
    return (
        f"turns {min(turns, 8)}",
        f"system {system}",
        f"images {min(images, 4)}",
        f"tools {len(prompt.tools).bit_length()}",
        f"schema {_fields(prompt.schema).bit_length()}",
    )


def _fields(schema: Any) -> int:
    """How many fields a schema has at its top level, plus one; 0 without a schema."""
    if schema is None:
        return 0
    properties = schema.get("properties") if isinstance(schema, Mapping) else getattr(schema, "model_fields", None)
    return 1 + (len(properties) if isinstance(properties, Mapping) else 0)
