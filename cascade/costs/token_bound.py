"""How many tokens a prompt can have at most: one for each byte of UTF-8 that the request's body gives the model to read.

No count of characters is an upper bound for every model. English has a token for about four bytes, but numbers have one for
each digit in many vocabularies, and scripts that a vocabulary does not know have one for each byte. What holds for all of
them is how they are built: a token of byte-level BPE, or of SentencePiece with byte fallback, represents at least one byte.
A tighter figure for ordinary text would need the model's own vocabulary, since whoever writes a prompt chooses what is
ordinary. The price of safety: until the response says what a request did cost, a budget reserves about four times what its
English input costs. The output is reserved to the token and has the higher price, so that it dominates most reservations.
"""

import json
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from itertools import repeat
from typing import Any
from unicodedata import combining, normalize

from judges import Prompt

IMAGE_TOKENS = 5000
"""More than an image costs at most models' highest detail; ``image_tokens`` of a model replaces it."""
_REQUEST = 64  # tokens that a chat template or provider puts before the first message, such as a date
_MESSAGE = 8  # tokens around a message
_STRUCTURE = 600  # tokens that providers put before tools or a schema, about twice what they say
_NODE = 48  # bytes that a client library adds to each object of a schema: "additionalProperties", a description of a keyword
_IMAGES = {"image_url": "image_url", "image": "source"}  # a part's type -> its field with the image
_PIECE = 64  # characters that are normalised together: sorting a long run of combining marks takes quadratic time
_LARGE = re.compile("[\u3300-\u33ff\ufdf0-\ufdff]")  # what expands most: units of Japanese, words of Arabic
_LARGE_BYTES = 33
_MARK_BYTES = 8
# What has another form and two bytes, so that a megabyte has most of it: in a long text it counts a flat number of bytes.
_SHORT = re.compile(
    "[\u00a0\u00a8\u00aa\u00af\u00b2-\u00b5\u00b8-\u00ba\u00bc-\u00be\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc"
    "\u01f1-\u01f3\u02b0-\u02b8\u02d8-\u02e4\u0340-\u0345\u0374\u037a\u037e\u0384-\u0387\u03d0-\u03f9\u0587\u0675-\u0678]"
)
_SHORT_BYTES = 7
_LONG = 20_000  # characters
_EXPONENT = re.compile(r"[eE](?<=\d.)")


def prompt_tokens(prompt: Prompt, image_tokens: int = IMAGE_TOKENS) -> int:
    """The most tokens that a prompt can have.

    Every byte counts of every field of every message, of tools and of the schema, whatever the field's name: providers read
    more fields than we could list. Images count ``image_tokens`` each, other files every byte.

    Args:
        prompt: The prompt.
        image_tokens: The most tokens of an image.
    """
    total = _REQUEST
    for message in prompt.messages:
        total += _MESSAGE
        for name, value in message.items():
            if isinstance(value, str):
                total += text_tokens(value) + (0 if name == "content" else len(name))
            elif name == "content":
                total += sum(_part(part, image_tokens) for part in value) if _is_list(value) else json_tokens(value)
            elif value is not None:
                total += _field(name, value)
    if prompt.tools:
        total += _STRUCTURE + json_tokens(prompt.tools)
    if prompt.schema is not None:
        total += _STRUCTURE + _schema_tokens(prompt.schema)
    return total


def text_tokens(text: str) -> int:
    """The most tokens of a text: its bytes in UTF-8, or those of its compatibility form, which some vocabularies read."""
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    rest, large = _LARGE.subn(" ", text)
    short = 0
    if len(rest) > _LONG:
        rest, short = _SHORT.subn(" ", rest)
    return max(
        size,
        _LARGE_BYTES * large + _SHORT_BYTES * short + sum(map(_normal_bytes, range(0, len(rest), _PIECE), repeat(rest))),
    )


def _normal_bytes(start: int, text: str) -> int:
    """The bytes of a piece of a text in its compatibility form; all pieces together have at least those of the whole."""
    piece = normalize("NFKC", text[start : start + _PIECE])
    if piece.isascii():
        return len(piece)
    # A mark at its beginning, or what becomes one (U+FF9E), may take another one's place in the piece before, which then is
    # longer.
    return len(piece.encode("utf-8", "surrogatepass")) + (_MARK_BYTES if combining(piece[0]) else 0)


def json_tokens(value: Any) -> int:
    """The most tokens of JSON, in the longest of the forms in which servers write it for a model: escaped, with spaces."""
    return len(_dumped(value))


def options_tokens(options: Mapping[str, Any]) -> int:
    """The most tokens of further parameters of a request, some of which are read by the model."""
    return json_tokens(options) if options else 0


def _field(name: str, value: Any) -> int:
    """The tokens of a message's field that is not text. The JSON of a tool call's arguments may be serialised again:
    numbers in their longest form, a space behind every comma and colon."""
    text = _dumped(value)
    return (
        len(name) + len(text) + text.count(",") + text.count(":") + 4 * text.count(".") + 18 * len(_EXPONENT.findall(text))
    )


def _part(part: Any, image_tokens: int) -> int:
    if not isinstance(part, Mapping):
        return text_tokens(part) if isinstance(part, str) else json_tokens(part)
    kind = part.get("type")
    if kind == "text" and len(part) == 2 and isinstance(text := part.get("text"), str):
        return 1 + text_tokens(text)
    image = _IMAGES.get(kind) if isinstance(kind, str) else None
    if image is not None:
        others = {name: value for name, value in part.items() if name not in ("type", image)}
        return image_tokens + options_tokens(others)
    if kind in ("tool_result", "tool_use"):
        content = part.get("content")
        nested = _is_list(content)
        rest = {name: value for name, value in part.items() if name != "content"} if nested else part
        return _field("", rest) + (sum(_part(inner, image_tokens) for inner in content or ()) if nested else 0)
    return json_tokens(part)


def _is_list(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping)


def _dumped(value: Any) -> str:
    return json.dumps(value, default=str, skipkeys=True)


def _schema_tokens(schema: Any) -> int:
    if isinstance(schema, Mapping):
        text = _dumped(schema)
        return len(text) + _NODE * text.count("{")
    return _model_tokens(schema)


@lru_cache(maxsize=256)
def _model_tokens(schema: Any) -> int:
    """The tokens of a pydantic model's schema, which takes far longer to make than the rest of a run."""
    return _schema_tokens(schema.model_json_schema())
