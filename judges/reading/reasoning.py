"""Separates a model's reasoning from its answer, in whole texts and in streams.

A thought counts where the reply begins with it: ``<think>...</think>answer``, also several of them, and where only its
end arrives, as the server's template had opened it. Everything else is the answer's own text: a marker quoted in code or in
the middle of an ordinary answer stays where it is.

The whole text is read by the same state machine as a stream, so that any division into chunks gives the same answer.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from judges.types import Answer, TokenLogprob, Usage


class SplitText(NamedTuple):
    """A reply in its parts; ``reasoning`` is None where there is none.

    ``start`` is where the answer begins in the text that was read, in characters.
    """

    answer: str
    reasoning: str | None
    start: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marker:
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


# DeepSeek, Qwen, GLM, MiniMax, Phi, Nemotron, Hermes ...; Gemini's OpenAI interface, EXAONE Deep; Reka; Seed; LongCat.
_TAGS = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "scratchpad", "seed:think", "longcat_think")
_MARKERS = (
    *(_Marker(opening=f"<{tag}>", closings=(f"</{tag}>",), nests=True) for tag in _TAGS),
    _Marker(opening="◁think▷", closings=("◁/think▷",), nests=True),  # Kimi
    _Marker(opening="[think]", closings=("[/think]",), nests=True),  # Magistral
    _Marker(opening="<|start_thinking|>", closings=("<|end_thinking|>",)),  # Cohere
    _Marker(opening="<|begin_of_thought|>", closings=("<|end_of_thought|>",)),  # Sky-T1, OpenThinker
    _Marker(opening="<|think|>", closings=("<|end|>", "<|/think|>")),  # Solar
    _Marker(opening="<|channel>thought", closings=("<channel|>",)),  # Gemma 4
    *(
        _Marker(
            opening=f"{start}<|channel|>{channel}",
            closings=("<|end|>", "<|return|>", "<|call|>"),
            boundaries=("<|start|>assistant", "<|channel|>"),
            header_end="<|message|>",
        )
        for start in ("", "<|start|>assistant")
        for channel in ("analysis", "commentary")
    ),  # gpt-oss
    # gpt-oss behind a server that leaves out special tokens.
    _Marker(opening="analysis", closings=("assistantfinal",), certain=False),
    # Granite 3.2 and Apriel use plain words: without their end they are an ordinary answer.
    *(
        _Marker(
            opening=f"here{verb} my thought process:",
            closings=("here is my response:", "here's my response:"),
            certain=False,
        )
        for verb in (" is", "'s")
    ),
    _Marker(
        opening="here are my reasoning steps:",
        closings=("[begin final response]",),
        certain=False,
        answer_ends=("[end final response]",),
    ),
)
# What may stand around the answer that follows a thought; those with special tokens also without one.
_WRAPPERS: tuple[tuple[str, tuple[str, ...], bool], ...] = (
    *((f"<{tag}>", (f"</{tag}>",), False) for tag in ("answer", "response", "output")),
    ("<|start_response|>", ("<|end_response|>",), True),
    ("<|begin_of_solution|>", ("<|end_of_solution|>",), True),
    ("<|begin|>assistant<|content|>", ("<|end|>",), True),
    *((f"{start}<|channel|>final", ("<|return|>", "<|end|>"), True) for start in ("", "<|start|>assistant")),
)
_FINAL_CHANNEL = "<|channel|>final"
_OPENINGS = tuple(marker.opening for marker in _MARKERS)
_FIRST_CHARACTERS = frozenset(opening[0] for opening in (*_OPENINGS, *(wrapper[0] for wrapper in _WRAPPERS)))
# Ends that tell by themselves that a thought went before, as the server's template had opened it.
_LONE_CLOSINGS = (
    *(closing for marker in _MARKERS if marker.nests for closing in marker.closings),
    "<|end_thinking|>",
    "<|end_of_thought|>",
)
_LONE = re.compile("|".join(map(re.escape, _LONE_CLOSINGS)), re.IGNORECASE)
_OPENING_OF = {closing: marker.opening for marker in _MARKERS for closing in marker.closings if marker.certain}
_LONGEST_LONE = max(map(len, _LONE_CLOSINGS))
_LONGEST_MARK = 40  # characters of any marker
_MOST_CANDIDATES = 64  # ends of thoughts that are examined in one text
_SENTENCE_END = tuple(".!?…:;)]}\"'”’。！？")
_MOST_HEADER = 200  # characters of a channel's header


def _lower(text: str) -> str:
    """ASCII letters in lower case: as long as the text, which ``str.lower`` need not be."""
    return text if text.isascii() and text.islower() else text.translate(_ASCII_LOWER)


_ASCII_LOWER = {code: code + 32 for code in range(65, 91)} | {0x2019: "'"}


_QUOTES = frozenset(('""', "''", "``", "“”", "‘’", "«»", "()"))
_MOST_LINE = 400  # characters of a line that are examined before a marker
_MOST_SPAN = 80  # characters of a code span behind a marker in it


def _is_quoted(text: str, start: int, end: int, *, final: bool) -> bool | None:
    """Whether the marker at [start, end) is between quotes or in a code span of its line; None: what follows decides."""
    before, after = text[start - 1 : start] if start else "", text[end : end + 1]
    if before in ('"', "'", "`", "“", "‘", "«", "(") and before:
        if not after and not final:
            return None
        if before + after in _QUOTES:
            return True
    if _line_before(text, start).count("`") % 2 == 0:
        return False
    line = text[end : end + _MOST_SPAN].partition("\n")
    if "`" in line[0]:
        return True
    return False if line[1] or final or len(text) >= end + _MOST_SPAN else None


def _line_before(text: str, end: int) -> str:
    """The line up to ``end``, of a long one its last characters."""
    return text[max(0, end - _MOST_LINE) : end].rpartition("\n")[2]


class ReasoningStream:
    """Takes a reply piece by piece and gives the answer's text as soon as it is certain to be that.

    Where only the end of a thought arrives, text that was given out before proves to be a thought: then ``retracted`` counts
    one more, and all that was given out before is void.

    Args:
        hold: Give nothing out before the end or the end of a thought: for a model known to send only the ends.
        on_lone_end: Called when a thought ends whose beginning did not arrive.
    """

    __slots__ = (
        "_answer_ends",
        "_candidates",
        "_depth",
        "_emitted",
        "_hold",
        "_last_end",
        "_marker",
        "_on_lone_end",
        "_position",
        "_reported",
        "_scan",
        "_seen",
        "_start",
        "_text",
        "_thoughts",
        "lone_end",
        "retracted",
    )

    def __init__(self, *, hold: bool = False, on_lone_end: Callable[[], None] = lambda: None) -> None:
        self._on_lone_end = on_lone_end
        self._text = ""
        self._hold = hold
        self.lone_end = False
        """Whether a thought ended whose beginning did not arrive."""
        self._marker: _Marker | None = None  # of the thought that is open
        self._position = 0  # how far the text is read: the thought, or the answer, begins there
        self._scan = 0  # how far the text was searched for the end of a thought
        self._depth = 0  # of openings in the open thought
        self._last_end: tuple[int, int] | None = None  # the last end in it, whatever the depth
        self._candidates = 0
        self._start = -1  # where the answer begins; -1: not known yet
        self._emitted = 0  # up to where the answer was given out
        self._answer_ends: tuple[str, ...] = ()
        self._seen = False  # whether a thought has ended
        self._thoughts: list[str] = []
        self._reported = 0  # how many thoughts `new_reasoning` has returned
        self.retracted = 0

    def add(self, piece: str) -> str:
        """Reads a further piece of the reply.

        Returns:
            The text that this adds to the answer.
        """
        if not piece:
            return ""
        text, self._text = self._text, ""  # held by one name alone, the text grows in place
        text += piece
        self._text = text
        self._read(final=False)
        if self._start < 0 or (self._hold and not self.lone_end):
            return ""
        return self._give(self._safe_end())

    def new_reasoning(self, *, continues: bool = False) -> str:
        """The thoughts that ended since the last call, as ``end`` joins them; empty where there are none.

        ``continues``: other reasoning precedes them, from which a blank line separates them.
        """
        if self._reported == len(self._thoughts):
            return ""
        continues = continues or any(thought.strip() for thought in self._thoughts[: self._reported])
        thoughts = [thought.strip() for thought in self._thoughts[self._reported :]]
        self._reported = len(self._thoughts)
        added = "\n\n".join(filter(None, thoughts))
        return f"\n\n{added}" if continues and added else added

    def end(self) -> tuple[str, SplitText]:
        """The reply is over.

        Returns:
            The text that this adds to the answer, and the whole reply in its parts.
        """
        self._read(final=True)
        if self._start < 0:
            if self._marker is not None:
                self._thoughts.append(self._without_header(self._text[self._position :]))
            self._start = self._emitted = len(self._text)
        end = self._final_end()
        rest = self._give(end)
        reasoning = "\n\n".join(filter(None, (thought.strip() for thought in self._thoughts)))
        return rest, SplitText(self._text[self._start : end], reasoning or None, self._start)

    def _give(self, end: int) -> str:
        start, self._emitted = self._emitted, max(self._emitted, end)
        return self._text[start : self._emitted]

    def _read(self, *, final: bool) -> None:
        while True:
            if self._marker is not None:
                if not self._close(self._marker, final=final):
                    return
            elif self._start < 0:
                if not self._open(final=final):
                    return
            elif not self._find_lone(final=final):
                return

    def _open(self, *, final: bool) -> bool:
        """At the start of a thought or of the answer; False where more text is needed."""
        text = self._text
        at = max(self._position, self._scan)
        while at < len(text) and text[at] in " \t\r\n\ufeff":
            at += 1
        self._scan = at
        if at == len(text):
            if final and not self._seen:
                self._begin_answer(0)
            return False
        head = _lower(text[at : at + 64])
        if head[0] in _FIRST_CHARACTERS:
            if (
                not final
                and text[at] != "A"
                and any(len(head) < len(mark) and mark.startswith(head) for mark in _ALL_STARTS)
            ):
                return False
            for marker in _MARKERS:
                if not head.startswith(marker.opening):
                    continue
                after = at + len(marker.opening)
                if marker.opening == "analysis":
                    if text[at] == "A":
                        continue
                    if not final and after == len(text):
                        return False
                    if not text[after : after + 1].isalnum() or text[after : after + 1].islower():
                        continue
                self._marker, self._position, self._scan = marker, after, after
                self._depth, self._last_end = 1, None
                return True
            for opening, endings, always in _WRAPPERS:
                if head.startswith(opening) and (always or self._seen):
                    start = at + len(opening)
                    if opening.endswith(_FINAL_CHANNEL):
                        header = text.find("<|message|>", start, start + _MOST_HEADER)
                        if header < 0 and not final and len(text) < start + _MOST_HEADER:
                            return False
                        start = header + len("<|message|>") if header >= 0 else start
                    while start < len(text) and text[start] in " \t\r\n":
                        start += 1
                    if start == len(text) and not final:
                        return False
                    self._answer_ends = endings
                    self._seen = True
                    self._begin_answer(start)
                    return True
        self._begin_answer(at if self._seen else 0)
        return True

    def _begin_answer(self, start: int) -> None:
        self._start = self._emitted = self._scan = start

    def _close(self, marker: _Marker, *, final: bool) -> bool:
        """Inside a thought; False where its end has not arrived."""
        text, offset = self._text, self._scan
        for match in _patterns[marker.opening].finditer(_lower(text[offset:])):
            start, end = offset + match.start(), offset + match.end()
            quoted = _is_quoted(text, start, end, final=final)
            if quoted is None:
                self._scan = start
                return False
            self._scan = end
            if quoted:
                continue
            if match[0] == marker.opening:
                self._depth += 1
                continue
            after = start if match[0] in marker.boundaries else end
            self._last_end = (start, after)
            self._depth -= 1
            if self._depth == 0 or not marker.nests:
                self._end_thought(start, after)
                return True
        if not final:
            self._scan = max(self._scan, len(text) - _LONGEST_MARK)
            return False
        if self._last_end is not None:  # an opening inside the thought was only mentioned
            self._end_thought(*self._last_end)
            return True
        if not marker.certain:
            self._marker = None
            self._begin_answer(self._position - len(marker.opening) if self._seen else 0)
            self._scan = len(text)
            return True
        return False

    def _end_thought(self, end: int, after: int) -> None:
        assert self._marker is not None
        self._thoughts.append(self._without_header(self._text[self._position : end]))
        if self._marker.answer_ends:
            self._answer_ends = self._marker.answer_ends
        self._marker, self._position, self._seen = None, after, True

    def _without_header(self, thought: str) -> str:
        mark = self._marker.header_end if self._marker is not None else ""
        if not mark:
            return thought
        header = thought.find(mark, 0, _MOST_HEADER)
        return thought[header + len(mark) :] if header >= 0 else thought

    def _find_lone(self, *, final: bool) -> bool:
        """In the answer: whether a thought ends here whose beginning did not arrive."""
        text = self._text
        while not self._seen and self._candidates < _MOST_CANDIDATES:
            match = _LONE.search(text, self._scan)
            if match is None:
                self._scan = max(self._scan, len(text) - _LONGEST_LONE + 1)
                return False
            mentioned = _is_mentioned(text, match, final=final)
            if mentioned is None:
                self._scan = match.start()
                return False
            self._candidates += 1
            self._scan = match.end()
            if not mentioned and text.count("```", 0, match.start()) % 2 == 0:
                self._thoughts.append(text[: match.start()])
                self.retracted += self._emitted > 0
                self.lone_end = self._seen = True
                self._on_lone_end()
                self._position, self._start = match.end(), -1
                return True
        return False

    def _safe_end(self) -> int:
        """Up to where the text is the answer's, whatever follows."""
        text, end = self._text, len(self._text)
        if self._answer_ends:
            tail = _lower(text[self._emitted :])
            for mark in self._answer_ends:
                at = tail.rfind(mark)
                if at >= 0 and not tail[at + len(mark) :].strip():
                    return _end_of_text(text, self._emitted, self._emitted + at)
            return _end_of_text(text, self._emitted, _before_partial(text, end, self._answer_ends))
        if self._seen:
            return end
        if self._candidates < _MOST_CANDIDATES and (match := _LONE.search(text, self._scan)) is not None:
            return match.start()
        return _before_partial(text, end, _LONE_CLOSINGS)

    def _final_end(self) -> int:
        text = self._text
        if self._answer_ends and self._start < len(text):
            stripped = text.rstrip()
            tail = _lower(stripped[-_LONGEST_MARK:])
            for mark in self._answer_ends:
                if tail.endswith(mark):
                    return max(self._start, _end_of_text(text, self._start, len(stripped) - len(mark)))
            if len(self._answer_ends) and text[self._start :].strip():
                return len(stripped)
        return len(text)


def _end_of_text(text: str, start: int, end: int) -> int:
    while end > start and text[end - 1] in " \t\r\n":
        end -= 1
    return end


def _before_partial(text: str, end: int, marks: Sequence[str]) -> int:
    """The position of an incomplete mark at the end of the text, or ``end``."""
    start = max(0, end - _LONGEST_MARK)
    for match in _MARK_BEGINNING.finditer(text, start, end):
        beginning = _lower(text[match.start() : end])
        if any(len(beginning) < len(mark) and mark.startswith(beginning) for mark in marks):
            return match.start()
    return end


_MARK_BEGINNING = re.compile(r"[<\[◁]")


def _is_mentioned(text: str, match: re.Match[str], *, final: bool) -> bool | None:
    """Whether an end of a thought is only spoken of: quoted, in the midst of a sentence, or with its beginning before it.

    None: what follows decides.
    """
    start, end = match.span()
    after = text[end : end + 1]
    if not after and not final:
        return None
    quoted = _is_quoted(text, start, end, final=final)
    if quoted is not False:
        return quoted
    if _lower(text[:start]).rfind(_OPENING_OF[_lower(match[0])]) >= 0:
        return True
    line = _line_before(text, start)
    if not line.strip():
        return False
    if after and after in ".,;:!?)\"'`”’":
        return True
    return line[-1] in " \t" and not line.rstrip().endswith(_SENTENCE_END) and after not in ("", "\r", "\n")


_ALL_STARTS = (*_OPENINGS, *(wrapper[0] for wrapper in _WRAPPERS))
_patterns = {
    marker.opening: re.compile(
        "|".join(map(re.escape, (*marker.closings, *marker.boundaries, *((marker.opening,) if marker.nests else ()))))
    )
    for marker in _MARKERS
}
_BEGINNINGS = _FIRST_CHARACTERS | {"H", " ", "\t", "\r", "\n", "\v", "\f", "\x85", "\xa0", "\ufeff"}
_STARTS = re.compile(r"[ \t\r\n\v\f\x85\xa0\ufeff]*+(?:" + "|".join(map(re.escape, _ALL_STARTS)) + ")", re.IGNORECASE)


def split_reasoning(text: str) -> SplitText:
    """A whole reply in its parts, by the markers of open models.

    Args:
        text: What the model sent as its text.

    Returns:
        The answer's text and the reasoning. A reply that ends inside its thought has no answer: its text is empty.
    """
    if not _may_hold_reasoning(text):
        return SplitText(text, None)
    stream = ReasoningStream()
    stream._text = text
    return stream.end()[1]


def _may_hold_reasoning(text: str) -> bool:
    """Whether a marker is where it counts: nearly every answer is finished here, in less than a microsecond."""
    if text[:1] in _BEGINNINGS and _STARTS.match(text):
        return True
    return ("<" in text or "[" in text or "◁" in text) and _LONE.search(text) is not None


def separate_reasoning(answer: Answer, top_of: Callable[[int], Mapping[str, float] | None] | None = None) -> Answer:
    """The answer without the reasoning in its text, which goes to ``reasoning``; its tokens leave ``logprobs``.

    Args:
        answer: An answer as it arrived. One whose ``reasoning`` the provider sent in a field of its own keeps that.
        top_of: The alternatives at a token of ``logprobs``, by its number, for ``first_token_top``.

    Returns:
        The answer, unchanged where there is no reasoning. ``usage.reasoning_tokens`` is the number of tokens that left
        where the provider did not count them.
    """
    if answer.reasoning is None and not _may_hold_reasoning(answer.text):
        return answer
    split = split_reasoning(answer.text)
    if split.reasoning is None and answer.reasoning is None and split.answer == answer.text:
        return answer
    reasoning = "\n\n".join(filter(None, (answer.reasoning, split.reasoning))) or None
    usage, logprobs, top = answer.usage, answer.logprobs, answer.first_token_top
    if logprobs is not None:
        first = _first_token(logprobs, answer.text, split)
        if first is None or first > 0:
            top = top_of(first) if first is not None and first < len(logprobs) and top_of is not None else None
        if first is None:
            logprobs = None
        elif first:
            logprobs = logprobs[first:] or None
            if usage is not None and not usage.reasoning_tokens:
                usage = _with_reasoning_tokens(usage, first)
    return replace(
        answer,
        text=split.answer,
        reasoning=reasoning,
        logprobs=logprobs,
        # A mean over thought and answer says nothing of the answer.
        mean_logprob=answer.mean_logprob if split.reasoning is None else None,
        first_token_top=top,
        usage=usage,
    )


def _with_reasoning_tokens(usage: Usage, tokens: int) -> Usage:
    return replace(usage, reasoning_tokens=min(tokens, usage.output_tokens)) if usage.output_tokens else usage


def _first_token(tokens: Sequence[TokenLogprob], text: str, split: SplitText) -> int | None:
    """The number of the answer's first token; None where it is unknown."""
    joined = "".join(token for token, _ in tokens)
    if not split.answer:
        return len(tokens)
    if joined == text:
        start = split.start
    else:
        start = joined.rfind(split.answer)  # servers log the reasoning's tokens, too, or leave out special ones
        if start < 0:
            return None
    position = 0
    for i, (token, _) in enumerate(tokens):
        position += len(token)
        if position > start:
            return i
    return len(tokens)
