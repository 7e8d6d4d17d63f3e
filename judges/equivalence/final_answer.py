"""The part of a reply that is its answer."""

import re
from collections import deque
from operator import itemgetter

from .canonical import json_container
from .plain_text import last_match

_MARKER = re.compile(r"(?<!\w)answer[*_]{0,2}[ \t]{0,4}(?::|is\b:?)|####", re.IGNORECASE)
_BOXED = re.compile(r"\\(?:boxed|fbox)[ \t]{0,4}\{")


def final_answer(text: str) -> str:
    r"""The part of a reply that is its answer, stripped.

    A reply that is JSON as a whole is its own answer. Otherwise it is what follows the last of ``Answer:``, ``The answer
    is`` and ``####`` (to the end of the line, or all the rest where a block begins there), or what the last ``\boxed{}``
    or the last ``<answer>`` holds, whichever comes later; without any of them the whole reply.
    """
    whole = text.strip()
    if whole[:1] in ("{", "[") and json_container(whole) is not None:
        return whole
    rest, at = _after_marker(whole)
    content, box_at = max(_in_box(whole), _in_tag(whole), key=itemgetter(1))
    if content is not None and box_at >= at:
        return content
    if rest is None:
        return whole
    inner, _ = _in_box(rest)
    return rest if inner is None else inner


def _after_marker(text: str) -> tuple[str | None, int]:
    for match in reversed(deque(_MARKER.finditer(text), 2)):  # behind the last one there may be nothing
        rest = text[match.end() :].lstrip("*_: \t\r\n")
        if rest:
            block = rest.startswith(("{", "[", "```"))
            return (rest if block else rest.split("\n", 1)[0]).strip().removesuffix("**"), match.start()
    return None, -1


def _in_tag(text: str) -> tuple[str | None, int]:
    """What the last ``<answer>...</answer>`` holds, which prompts often ask for."""
    end = text.rfind("</answer>")
    start = text.rfind("<answer>", 0, end) if end >= 0 else -1
    begins_line = start >= 0 and (start == 0 or text[start - 1] == "\n" or not text[end + len("</answer>") :].strip())
    content = text[start + len("<answer>") : end].strip() if begins_line else ""
    return (content, start) if content else (None, -1)


def _in_box(text: str) -> tuple[str | None, int]:
    start = last_match(_BOXED, text)
    if start is None:
        return None, -1
    depth = 1
    for i in range(start.end(), len(text)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start.end() : i].strip(), start.start()
    return None, -1
