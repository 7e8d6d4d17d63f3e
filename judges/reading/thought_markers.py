"""How open models mark their thoughts and answers, and whether a marker in a text is meant as one."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Marker:
    """How a family of models marks its thoughts, in lower case.

    ``closings`` end the thought; of ``boundaries`` one begins what follows it, and is not consumed. ``nests``: an opening
    inside must be closed as well. ``certain``: no ordinary text begins so, and a thought without an end is one.
    One of ``answer_ends`` may follow the answer. ``header_end``: the text before it belongs to the marker.
    """

    opening: str
    closings: tuple[str, ...]
    boundaries: tuple[str, ...] = ()
    nests: bool = False
    certain: bool = True
    answer_ends: tuple[str, ...] = ()
    header_end: str = ""


# DeepSeek, Qwen, GLM, MiniMax, Phi, Nemotron, Hermes ...; Gemini's OpenAI interface, EXAONE Deep; Reka; Seed; LongCat;
# MiniMax M3; K2 Think and Horizon.
_TAGS = (
    *("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "inner_thoughts"),
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
    Marker(opening="<|inner_prefix|>", closings=("<|inner_suffix|>",)),  # Apertus
    Marker(opening="<|open|>think<|sep|>", closings=("<|close|>think<|sep|>",)),  # Kimi K3
    Marker(opening="[unused16]", closings=("[unused17]",)),  # Pangu
    Marker(opening="<|channel>thought", closings=("<channel|>",)),  # Gemma 4
    Marker(opening="<unused94>thought", closings=("<unused95>",)),  # MedGemma
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
)
FINAL_CHANNEL = "<|channel|>final"
# gpt-oss where the template had opened the analysis: its end. The channel of the answer follows, which is read on.
LONE_BOUNDARY = "<|end|><|start|>assistant<|channel|>"
OPENINGS = tuple(marker.opening for marker in MARKERS)
FIRST_CHARACTERS = frozenset(opening[0] for opening in (*OPENINGS, *(wrapper[0] for wrapper in WRAPPERS)))
# Ends that tell by themselves that a thought went before, as the server's template had opened it.
LONE_CLOSINGS = (
    *(closing for marker in MARKERS if marker.nests for closing in marker.closings),
    *("<|end_thinking|>", "<|end_of_thought|>", "<|think_end|>", "<|inner_suffix|>", "<|close|>think<|sep|>", "[unused17]"),
    LONE_BOUNDARY,
)


def _any_of(marks: tuple[str, ...]) -> re.Pattern[str]:
    """Finds one of the marks in ASCII letters of any case, with an apostrophe of any form."""
    return re.compile(_branches(marks).replace("'", "['\u2019]"), re.IGNORECASE | re.ASCII)


def _branches(marks: Iterable[str]) -> str:
    """The marks as a pattern in which no character is compared twice: a text of many first characters costs no more."""
    rests: dict[str, list[str]] = {}
    for mark in marks:
        rests.setdefault(mark[0], []).append(mark[1:])
    parts = []
    for first, rest in rests.items():
        longer = _branches(filter(None, rest)) if any(rest) else ""
        parts.append(re.escape(first) + (f"(?:{longer})?" if longer and "" in rest else longer))
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


LONE = _any_of(LONE_CLOSINGS)
# The beginning of a thought, by its end.
OPENING_OF = {closing: _any_of((marker.opening,)) for marker in MARKERS for closing in marker.closings if marker.certain}
OPENING_OF[LONE_BOUNDARY] = _any_of(("<|channel|>analysis", "<|channel|>commentary"))
LONGEST_LONE = max(map(len, LONE_CLOSINGS))
LONGEST_MARK = 64  # characters of any marker
MOST_CANDIDATES = 64  # ends of thoughts that are examined in one text
# Markers inside thoughts that are examined in one text. No reply has so many: the rest belongs to where it stands.
MOST_MARKERS = 4_000
_SENTENCE_END = tuple(".!?…:;)]}\"'”’。！？")
MOST_HEADER = 200  # characters of a channel's header
ALL_STARTS = (*OPENINGS, *(wrapper[0] for wrapper in WRAPPERS))
PATTERNS = {
    marker.opening: _any_of((*marker.closings, *marker.boundaries, *((marker.opening,) if marker.nests else ())))
    for marker in MARKERS
}
BEGINNINGS = FIRST_CHARACTERS | {"H", " ", "\t", "\r", "\n", "\v", "\f", "\x85", "\xa0", "\ufeff"}
STARTS = re.compile(r"[ \t\r\n\v\f\x85\xa0\ufeff]*+(?:" + "|".join(map(re.escape, ALL_STARTS)) + ")", re.IGNORECASE)


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
