"""How open models mark their thoughts and answers, and whether a marker in a text is meant as one."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from . import special_tokens
from .special_tokens import branches


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """How a family of models marks its thoughts, in lower case.

    ``closings`` end the thought; of ``boundaries`` one begins what follows it, and is not consumed. ``nests``: an opening
    inside must be closed as well. ``certain``: no ordinary text begins so, and a thought without an end is one.
    One of ``answer_ends`` may follow the answer. ``header_end``: the text before it belongs to the marker. ``reopening`` is
    how an opening inside begins, where that is not the whole of it.
    """

    opening: str
    closings: tuple[str, ...]
    boundaries: tuple[str, ...] = ()
    nests: bool = False
    certain: bool = True
    answer_ends: tuple[str, ...] = ()
    header_end: str = ""
    reopening: str = ""


# DeepSeek, Qwen, GLM, MiniMax, Phi, Nemotron, Hermes ...; Gemini's OpenAI interface, EXAONE Deep; Reka; Seed; LongCat;
# MiniMax M3; K2 Think and Horizon; Claude with artifacts.
_TAGS = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "inner_thoughts"),
    *("inner_monologue", "antthinking"),
    *("seed:think", "longcat_think", "mm:think", "think_fast", "think_faster"),
    *("ifm|think", "ifm|think_fast", "ifm|think_faster"),
)
MARKERS = (
    *(Marker(opening=f"<{tag}>", closings=(f"</{tag}>",), nests=True) for tag in _TAGS),
    Marker(opening="◁think▷", closings=("◁/think▷",), nests=True),  # Kimi
    Marker(opening="[think]", closings=("[/think]",), nests=True),  # Magistral
    Marker(opening="<|start_thinking|>", closings=("<|end_thinking|>",)),  # Cohere
    Marker(opening="<|begin_of_thought|>", closings=("<|end_of_thought|>",)),  # Sky-T1, OpenThinker
    Marker(opening="<|think|>", closings=("<|end|>", "<|/think|>")),  # Solar
    Marker(opening="<|think_start|>", closings=("<|think_end|>",)),  # Step-Audio
    Marker(opening="<|think:start|>", closings=("<|think:end|>",)),  # Solar Open 2
    Marker(opening="<|plamo:begin_think:plamo|>", closings=("<|plamo:end_think:plamo|>",)),  # PLaMo 3
    Marker(opening="<|im_start|>think", closings=("<|im_start|>answer",), answer_ends=("<|im_end|>",)),  # s1
    Marker(opening="/think\n", closings=("<|im_end|>\n<|im_start|>assistant",), certain=False),  # HyperCLOVA X
    Marker(opening=":::thinking\n", closings=("\n:::\n",)),  # LibreChat
    *(
        Marker(opening=f"{start}to=self<|message|>", closings=("<|eom|>", "<|eot|>"), boundaries=("<|start|>assistant to=",))
        for start in ("", "<|start|>assistant ")
    ),  # Muse
    *(
        Marker(opening=f"{start}<|content_thinking|>", closings=("<|end_message|>",), boundaries=("<|message_model|>",))
        for start in ("", "<|message_model|>")
    ),  # Inkling
    Marker(opening="<|inner_prefix|>", closings=("<|inner_suffix|>",)),  # Apertus
    Marker(opening="<|open|>think<|sep|>", closings=("<|close|>think<|sep|>",)),  # Kimi K3
    Marker(opening="[unused16]", closings=("[unused17]",)),  # Pangu
    Marker(opening="<|channel>thought", closings=("<channel|>",)),  # Gemma 4
    Marker(opening="<unused94>thought", closings=("<unused95>",)),  # MedGemma
    Marker(opening="<ctrl94>thought", closings=("<ctrl95>",)),  # Gemini
    *(
        Marker(
            opening=f"{start}<|channel|>{channel}",
            closings=("<|end|>", "<|return|>", "<|call|>"),
            boundaries=("<|start|>assistant", "<|channel|>"),
            header_end="<|message|>",
        )
        for start in ("", "<|start|>assistant")
        for channel in ("analysis", "commentary")
    ),  # gpt-oss
    # gpt-oss behind a server that leaves out special tokens.
    Marker(opening="analysis", closings=("assistantfinal",), certain=False),
    # Granite 3.2 and Apriel use plain words: without their end they are an ordinary answer.
    *(
        Marker(
            opening=f"here{verb} my thought process:",
            closings=("here is my response:", "here's my response:"),
            certain=False,
        )
        for verb in (" is", "'s")
    ),
    Marker(
        opening="here are my reasoning steps:",
        closings=("[begin final response]",),
        certain=False,
        answer_ends=("[end final response]", "<|end|>"),
    ),
)
# Markers around an answer that follows a thought; those with special tokens count without a thought, too.
WRAPPERS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    *((f"<{tag}>", (f"</{tag}>",), False) for tag in ("answer", "response", "output")),
    ("<|start_response|>", ("<|end_response|>",), True),
    ("<|start_text|>", ("<|end_text|>",), True),
    ("<|begin_of_box|>", ("<|end_of_box|>",), True),  # GLM with images
    ("<|open|>response<|sep|>", ("<|close|>response<|sep|><|close|>message<|sep|>", "<|close|>response<|sep|>"), True),
    ("<|begin_of_solution|>", ("<|end_of_solution|>",), True),
    ("<|begin|>assistant<|content|>", ("<|end|>",), True),
    *((f"{start}<|channel|>final", ("<|return|>", "<|end|>"), True) for start in ("", "<|start|>assistant")),
    *((f"{start}<|content_text|>", ("<|end_message|>",), True) for start in ("", "<|message_model|>")),
    *((f"{start}to=user<|message|>", ("<|eot|>", "<|eom|>"), True) for start in ("", "<|start|>assistant ")),
)
FINAL_CHANNEL = "<|channel|>final"
# Tags with a number of their checkpoint (Hunyuan: <think:6124c78e>) or attributes, and the folded block in which Open WebUI
# keeps a thought: <details type="reasoning" done="true" duration="3">.
_VARIABLE = re.compile(
    r"<(?:(?P<tag>think|thinking|thought|reasoning)(?P<suffix>:[\w.-]{1,40})?(?: [\w-]{1,20}=[^<>\n]{0,200})?"
    r"|(?P<details>details)\s[^<>]{0,200}?\btype=[\"']?reasoning\b[^<>]{0,200})>",
    re.IGNORECASE | re.ASCII,
)
_VARIABLE_BEGINNING = re.compile(
    r"<(?:(?:think|thinking|thought|reasoning)(?::[\w.-]{0,40})?(?: [\w-]{0,20}(?:=[^<>\n]{0,200})?)?"
    r"|details\s[^<>]{0,400})\Z",
    re.IGNORECASE | re.ASCII,
)
_SUFFIXED = r"/think:[\w.-]{1,40}>"
_SUFFIXED_BEGINNING = re.compile(r"</think:[\w.-]{0,40}\Z", re.ASCII)
SUFFIXED_CLOSING = "</think:"
# gpt-oss where the template had opened the analysis: its end. The channel of the answer follows, which is read on.
LONE_BOUNDARY = "<|end|><|start|>assistant<|channel|>"
OPENINGS = tuple(marker.opening for marker in MARKERS)
FIRST_CHARACTERS = frozenset(
    opening[0] for opening in (*OPENINGS, *special_tokens.LEADING, *(wrapper[0] for wrapper in WRAPPERS))
)
# Ends that tell by themselves that a thought went before, as the server's template had opened it.
NESTED_CLOSINGS = tuple(closing for marker in MARKERS if marker.nests for closing in marker.closings)
LONE_CLOSINGS = (
    *NESTED_CLOSINGS,
    *("<|end_thinking|>", "<|end_of_thought|>", "<|think_end|>", "<|inner_suffix|>", "<|close|>think<|sep|>", "[unused17]"),
    *("<|think:end|>", "<|plamo:end_think:plamo|>", "<channel|>", "<unused95>", "<|im_start|>answer", "<ctrl95>"),
    LONE_BOUNDARY,
)


def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    """Finds one of the marks in ASCII letters of any case, with an apostrophe of any form."""
    return re.compile(branches(marks).replace("'", "['\u2019]"), re.IGNORECASE | re.ASCII)


def _lone_pattern() -> re.Pattern[str]:
    """Every alternative begins with a letter of its own: most texts have none of these letters."""
    parts = []
    for first in sorted({mark[0] for mark in LONE_CLOSINGS}):
        rest = branches(mark[1:] for mark in LONE_CLOSINGS if mark[0] == first)
        parts.append(re.escape(first) + (f"(?:{rest}|{_SUFFIXED})" if first == "<" else rest))
    return re.compile("|".join(parts), re.IGNORECASE | re.ASCII)


LONE = _lone_pattern()
_OPENINGS_OF: dict[str, tuple[str, ...]] = {
    closing: (marker.opening,) for marker in MARKERS for closing in marker.closings if marker.certain
}
_OPENINGS_OF[LONE_BOUNDARY] = ("<|channel|>analysis", "<|channel|>commentary")
_OPENINGS_OF[SUFFIXED_CLOSING] = ("<think:",)
LONGEST_LONE = max(*map(len, LONE_CLOSINGS), len(SUFFIXED_CLOSING) + 41)
LONGEST_MARK = 64  # characters of any marker
MOST_CANDIDATES = 64  # ends of thoughts that are examined in one text
# Markers inside thoughts that are examined in one text. No reply has so many: the rest belongs to where it stands.
MOST_MARKERS = 4_000
_SENTENCE_END = tuple(".!?…:;)]}\"'”’。！？")
MOST_HEADER = 200  # characters of a channel's header
ALL_STARTS = (*OPENINGS, *(wrapper[0] for wrapper in WRAPPERS))
_PATTERNS: dict[str, re.Pattern[str]] = {}
_VARIABLE_MARKERS: dict[str, Marker] = {}
_MOST_REMEMBERED = 64
_LONGEST_VARIABLE = 460
BEGINNINGS = FIRST_CHARACTERS | {"H", " ", "\t", "\r", "\n", "\v", "\f", "\x85", "\xa0", "\ufeff"}
STARTS = re.compile(
    r"[ \t\r\n\v\f\x85\xa0\ufeff]*+(?:"
    + "|".join(map(re.escape, (*ALL_STARTS, "<think", "<thought", "<reasoning", "<details")))
    + f"|{special_tokens.STARTS.pattern})",
    re.IGNORECASE,
)


@cache
def opening_of(closing: str) -> re.Pattern[str]:
    """Finds the beginning of a thought that ends so; compiled on first use, since a text has one kind of marker at most."""
    return _any_of(_OPENINGS_OF[closing])


@cache
def stray_closing() -> re.Pattern[str]:
    """Finds the end of a thought that has ended before: small models close one twice. Compiled on first use."""
    return _any_of(NESTED_CLOSINGS)


def pattern_of(marker: Marker) -> re.Pattern[str]:
    """Finds what can end a thought of this marker, or open one inside it."""
    pattern = _PATTERNS.get(marker.opening)
    if pattern is None:
        opening = (marker.reopening or marker.opening,) if marker.nests else ()
        if len(_PATTERNS) >= len(MARKERS) + _MOST_REMEMBERED:
            _PATTERNS.clear()
        pattern = _PATTERNS[marker.opening] = _any_of((*marker.closings, *marker.boundaries, *opening))
    return pattern


def variable_marker(text: str, start: int) -> Marker | None:
    """The marker of an opening that carries a number or attributes, where one stands at ``start``."""
    match = _VARIABLE.match(text, start)
    if match is None:
        return None
    opening = lower(match[0])
    if (marker := _VARIABLE_MARKERS.get(opening)) is None:
        if match["details"]:
            marker = Marker(
                opening=opening, closings=("</details>",), nests=True, header_end="</summary>", reopening="<details"
            )
        else:
            closing = f"</{lower(match['tag'])}{lower(match['suffix'] or '')}>"
            plain = f"</{lower(match['tag'])}>"
            marker = Marker(opening=opening, closings=tuple({closing: None, plain: None}), nests=True)
        if len(_VARIABLE_MARKERS) >= _MOST_REMEMBERED:
            _VARIABLE_MARKERS.clear()
        _VARIABLE_MARKERS[opening] = marker
    return marker


def may_begin_variable(text: str, start: int) -> bool:
    """Whether such an opening stands unfinished at the end of the text."""
    return len(text) - start <= _LONGEST_VARIABLE and _VARIABLE_BEGINNING.match(text, start) is not None


def may_begin_suffixed(beginning: str) -> bool:
    """Whether a text is an unfinished ``</think:6124c78e>``."""
    return _SUFFIXED_BEGINNING.match(beginning) is not None


def lower(text: str) -> str:
    """ASCII letters in lower case: as long as the text, which ``str.lower`` need not be."""
    return text if text.isascii() and text.islower() else text.translate(_ASCII_LOWER)


_ASCII_LOWER = {code: code + 32 for code in range(65, 91)} | {0x2019: "'"}


_QUOTES = frozenset(('""', "''", "``", "“”", "‘’", "«»", "()"))
_MOST_LINE = 400  # characters of a line that are examined before a marker
_MOST_SPAN = 80  # characters of a code span behind a marker in it


def is_quoted(text: str, start: int, end: int, *, final: bool) -> bool | None:
    """Whether the marker at [start, end) is between quotes or in a code span of its line; None: what follows decides."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if before in ('"', "'", "`", "“", "‘", "«", "(") and before:
        if not after and not final:
            return None
        if before + after in _QUOTES:
            return True
    if text.rfind("`", max(0, start - _MOST_LINE), start) < 0 or _line_before(text, start).count("`") % 2 == 0:
        return False
    line = text[end : end + _MOST_SPAN].partition("\n")
    if "`" in line[0]:
        return True
    return False if line[1] or final or len(text) >= end + _MOST_SPAN else None


def _line_before(text: str, end: int) -> str:
    """The line up to ``end``, of a long one its last characters."""
    return text[max(0, end - _MOST_LINE) : end].rpartition("\n")[2]


def is_mentioned(text: str, match: re.Match[str], *, is_opened: Callable[[], bool], final: bool) -> bool | None:
    """Whether an end of a thought is only spoken of: quoted, in the midst of a sentence, or with its beginning before it.

    None: what follows decides. ``is_opened`` says whether its beginning is before it.
    """
    start, end = match.span()
    after = text[end : end + 1]
    if not after and not final:
        return None
    quoted = is_quoted(text, start, end, final=final)
    if quoted is not False:
        return quoted
    if is_opened():
        return True
    line = _line_before(text, start)
    if not line.strip():
        return False
    if after and after in ".,;:!?)\"'`”’":
        return True
    return line[-1] in " \t" and not line.rstrip().endswith(_SENTENCE_END) and after not in ("", "\r", "\n")
