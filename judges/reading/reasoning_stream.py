"""Reads a reply piece by piece: thoughts, answer, and answers that prove to be thoughts."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import NamedTuple

from . import special_tokens
from .special_tokens import HeldTail
from .thought_markers import (
    ALL_STARTS,
    FINAL_CHANNEL,
    FIRST_CHARACTERS,
    LONE,
    LONE_BOUNDARY,
    LONE_CLOSINGS,
    LONGEST_LONE,
    LONGEST_MARK,
    MARKERS,
    MOST_CANDIDATES,
    MOST_HEADER,
    MOST_MARKERS,
    NESTED_CLOSINGS,
    SUFFIXED_CLOSING,
    WRAPPERS,
    Marker,
    is_mentioned,
    is_quoted,
    lower,
    may_begin_suffixed,
    may_begin_variable,
    opening_of,
    pattern_of,
    stray_closing,
    variable_marker,
)


class SplitText(NamedTuple):
    """A reply in its parts; ``reasoning`` is None where there is none.

    ``start`` is where the answer begins in the text that was read, in characters.
    """

    answer: str
    reasoning: str | None
    start: int = 0


@dataclass(slots=True)
class ReasoningStream:
    """Takes a reply piece by piece and gives the answer's text as soon as it is certain to be that.

    Where only the end of a thought arrives, text that was given out before proves to be a thought: then ``retracted`` counts
    one more, and all that was given out before is void.

    Args:
        hold: Give nothing out before the end or the end of a thought: for a model known to send only the ends.
        on_lone_end: Called when a thought ends whose beginning did not arrive.
        text: The reply so far.

    Attributes:
        lone_end: Whether a thought ended whose beginning did not arrive.
        retracted: How often text that was given out before has become void.
    """

    hold: bool = field(default=False, kw_only=True)
    on_lone_end: Callable[[], None] = field(default=lambda: None, kw_only=True)
    text: str = ""
    lone_end: bool = False
    retracted: int = 0
    _marker: Marker | None = None  # of the thought that is open
    _position: int = 0  # how far the text is read: the thought, or the answer, begins there
    _scan: int = 0  # how far the text was searched for the end of a thought
    _depth: int = 0  # of openings in the open thought
    _last_end: tuple[int, int] | None = None  # the last end in it, whatever the depth
    _candidates: int = 0
    _markers: int = 0  # how many were examined inside thoughts
    _openings: dict[str, int] = field(default_factory=dict)  # how far each was searched for; -1: it is there
    _blanks: int = 0  # how far the blanks at the beginning of an answer were read
    _fences: tuple[int, int] = (0, 0)  # how many there are, and how far they were counted
    _start: int = -1  # where the answer begins; -1: not known yet
    _emitted: int = 0  # up to where the answer was given out
    _answer_ends: tuple[str, ...] = ()
    _seen: bool = False  # whether a thought has ended
    _thoughts: list[str] = field(default_factory=list)
    _reported: int = 0  # how many thoughts `new_reasoning` has returned
    _has_reported: bool = False  # whether one of them had text
    _solid_end: int = 0  # of the text without white space at its end
    _trimmed: tuple[int, int] = (0, 0)  # an end, and the end of the text before it
    _tail: HeldTail = field(default_factory=HeldTail)
    _is_wrapped: bool = False  # the answer begins with <s>: a special token or a line through text
    _skipped: int = 0  # special tokens at the beginning
    _is_whole: bool = False  # the text was there from the beginning
    _flows: bool = False  # all text was given out: pieces without a marker's first character are the answer's
    _plain: list[str] = field(default_factory=list)  # such pieces, which are not in the text yet

    def __post_init__(self) -> None:
        self._is_whole = bool(self.text)

    def add(self, piece: str) -> str:
        """Reads a further piece of the reply.

        Returns:
            The text that this adds to the answer.
        """
        if self.passes(piece):
            return piece
        self._take_plain()
        is_marked = "<" in piece or "[" in piece
        if is_marked or self._tail.is_held:
            piece = self._tail.pass_on(piece)
        if not piece:
            return ""
        self._append(piece)
        self._read(final=False)
        if self._start < 0 or self._is_wrapped or (self.hold and not self.lone_end):
            return ""
        added = self._give(self._safe_end())
        self._flows = self._emitted == len(self.text) and not self._answer_ends and not self._tail.is_held
        return added

    def passes(self, piece: str) -> bool:
        """Takes a piece that is the answer's as it is, whatever follows; where it may not be that, it must be added."""
        if not self._flows or "<" in piece or "[" in piece or "◁" in piece:
            return False
        self._plain.append(piece)
        return True

    def _take_plain(self) -> None:
        """Adds the pieces that were passed on unread to the text."""
        self._flows = False
        if self._plain:
            self._append("".join(self._plain))
            self._plain.clear()
            self._emitted = len(self.text)

    def _append(self, piece: str) -> None:
        text, self.text = self.text, ""  # held by one name alone, the text grows in place
        if solid := len(piece.rstrip()):
            self._solid_end = len(text) + solid
        text += piece
        self.text = text

    def new_reasoning(self, *, continues: bool = False) -> str:
        """The thoughts that ended since the last call, as ``end`` joins them; empty where there are none.

        ``continues``: other reasoning precedes them, from which a blank line separates them.
        """
        if self._reported == len(self._thoughts):
            return ""
        continues = continues or self._has_reported
        thoughts = [thought.strip() for thought in self._thoughts[self._reported :]]
        self._reported = len(self._thoughts)
        added = "\n\n".join(filter(None, thoughts))
        self._has_reported = self._has_reported or bool(added)
        return f"\n\n{added}" if continues and added else added

    def end(self) -> tuple[str, SplitText]:
        """The reply is over.

        Returns:
            The text that this adds to the answer, and the whole reply in its parts.
        """
        self._take_plain()
        self._drop_tail()
        self._read(final=True)
        if self._is_wrapped and special_tokens.TOKEN.search(self.text, self._start + len("<s>")) is None:
            self._start += len("<s>")
            self._emitted = self._start
        if self._start < 0:
            if self._marker is not None:
                self._thoughts.append(self._without_header(self.text[self._position :]))
            self._start = self._emitted = len(self.text)
        end = self._final_end()
        rest = self._give(end)
        reasoning = "\n\n".join(filter(None, (thought.strip() for thought in self._thoughts)))
        return rest, SplitText(self.text[self._start : end], reasoning or None, self._start)

    def _drop_tail(self) -> None:
        """Decides whether special tokens at the end belong to the answer."""
        if self._is_whole:
            start = special_tokens.tail_start(self.text)
            tail, self.text = self.text[start:], self.text[:start]
        else:
            tail = "".join(self._tail.tokens)
        if tail and not self._tail.beginning:
            self._read(final=False)
            start = max(self._start, 0)
            if self._is_wrapped and special_tokens.TOKEN.search(self.text, start + len("<s>")) is None:
                return
            if self._marker is not None or not special_tokens.speaks_of_tokens(self.text, start):
                return
        tail += self._tail.beginning
        if tail:
            self._append(tail)

    def _give(self, end: int) -> str:
        start, self._emitted = self._emitted, max(self._emitted, end)
        return self.text[start : self._emitted]

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
        text = self.text
        at = _SPACE.match(text, max(self._position, self._scan)).end()  # type: ignore[union-attr] # it matches nothing, too
        self._scan = at
        if at == len(text):
            if final and not self._seen:
                self._begin_answer(self._position)
            return False
        head = lower(text[at : at + 64])
        if head[0] in FIRST_CHARACTERS and self._markers < MOST_MARKERS:
            if not final and text[at] != "A" and self._is_beginning(head, at):
                return False
            for marker in MARKERS:
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
                self._begin_thought(marker, after)
                return True
            if head[0] == "<" and (variable := variable_marker(text, at)) is not None:
                self._begin_thought(variable, at + len(variable.opening))
                return True
            if self._seen and (stray := stray_closing().match(text, at)) is not None:
                after = text[stray.end() : stray.end() + 1]
                if not after and not final:
                    return False
                if after != " ":  # a sentence may begin with a tag that it speaks of
                    self._position = self._scan = stray.end()
                    self._markers += 1
                    return True
            for opening, endings, always in WRAPPERS:
                if head.startswith(opening) and (always or self._seen):
                    start = at + len(opening)
                    if opening.endswith(FINAL_CHANNEL):
                        header = text.find("<|message|>", start, start + MOST_HEADER)
                        if header < 0 and not final and len(text) < start + MOST_HEADER:
                            return False
                        start = header + len("<|message|>") if header >= 0 else start
                    self._blanks = start = _BLANKS.match(text, max(start, self._blanks)).end()  # type: ignore[union-attr] # it matches nothing, too
                    if start == len(text) and not final:
                        return False
                    self._answer_ends = endings
                    self._seen = True
                    self._begin_answer(start)
                    return True
            if (token := special_tokens.STARTS.match(text, at)) is not None:
                if self._skipped < _MOST_SKIPPED and (
                    token[0] != "<s>" or text[token.end() : token.end() + 1] in _AFTER_BEGINNING
                ):
                    if not final and token.end() == len(text):
                        return False
                    self._position = self._scan = token.end()
                    self._skipped += 1
                    return True
                self._is_wrapped = not self._skipped and token[0] == "<s>"
        self._begin_answer(at if self._seen or self._skipped else 0)
        return True

    def _is_beginning(self, head: str, at: int) -> bool:
        """Whether what follows decides what begins here."""
        if any(len(head) < len(mark) and mark.startswith(head) for mark in (*ALL_STARTS, "<details ")):
            return True
        if may_begin_variable(self.text, at):
            return True
        if self._seen and any(len(head) < len(mark) and mark.startswith(head) for mark in NESTED_CLOSINGS):
            return True
        beginning = self.text[at : at + 64]
        return any(len(beginning) < len(mark) and mark.startswith(beginning) for mark in special_tokens.LEADING)

    def _begin_thought(self, marker: Marker, after: int) -> None:
        self._marker, self._position, self._scan = marker, after, after
        self._depth, self._last_end = 1, None

    def _begin_answer(self, start: int) -> None:
        self._start = self._emitted = self._scan = start

    def _close(self, marker: Marker, *, final: bool) -> bool:
        """Inside a thought; False where its end has not arrived."""
        text = self.text
        for match in pattern_of(marker).finditer(text, self._scan):
            start, end = match.span()
            if self._markers >= MOST_MARKERS:
                self._last_end = None
                break
            quoted = is_quoted(text, start, end, final=final)
            if quoted is None:
                self._scan = start
                return False
            self._scan = end
            self._markers += 1
            if quoted:
                continue
            mark = lower(match[0])
            if mark == (marker.reopening or marker.opening):
                self._depth += 1
                continue
            after = start if mark in marker.boundaries else end
            self._last_end = (start, after)
            self._depth -= 1
            if self._depth == 0 or not marker.nests:
                self._end_thought(start, after)
                return True
        if not final:
            self._scan = max(self._scan, len(text) - LONGEST_MARK)
            return False
        if self._last_end is not None:  # an opening inside the thought was only mentioned
            self._end_thought(*self._last_end)
            return True
        if not marker.certain:
            self._marker = None
            self._begin_answer(self._position - len(marker.opening) if self._seen or self._skipped else 0)
            self._scan = len(text)
            return True
        return False

    def _end_thought(self, end: int, after: int) -> None:
        assert self._marker is not None
        self._thoughts.append(self._without_header(self.text[self._position : end]))
        if self._marker.answer_ends:
            self._answer_ends = self._marker.answer_ends
        self._marker, self._position, self._seen = None, after, True

    def _without_header(self, thought: str) -> str:
        mark = self._marker.header_end if self._marker is not None else ""
        if not mark:
            return thought
        header = thought.find(mark, 0, MOST_HEADER)
        return thought[header + len(mark) :] if header >= 0 else thought

    def _find_lone(self, *, final: bool) -> bool:
        """In the answer: whether a thought ends here whose beginning did not arrive."""
        text = self.text
        while not self._seen and self._candidates < MOST_CANDIDATES:
            match = LONE.search(text, self._scan)
            if match is None:
                self._scan = max(self._scan, len(text) - LONGEST_LONE + 1)
                return False
            mentioned = is_mentioned(text, match, is_opened=partial(self._is_opened, match), final=final)
            if mentioned is None:
                self._scan = match.start()
                return False
            self._candidates += 1
            self._scan = match.end()
            if not mentioned and self._fences_before(match.start()) % 2 == 0:
                self._thoughts.append(text[self._start : match.start()].removeprefix("<|message|>"))
                self.retracted += self._emitted > self._start
                self.lone_end = self._seen = True
                self.on_lone_end()
                self._position, self._start = match.end(), -1
                if lower(match[0]) == LONE_BOUNDARY:
                    self._position = self._scan = match.start() + len("<|end|>")
                return True
        return False

    def _is_opened(self, closing: re.Match[str]) -> bool:
        """Whether the beginning that belongs to the end of a thought is before it; no part of the text is searched twice."""
        mark, start = lower(closing[0]), closing.start()
        if mark.startswith(SUFFIXED_CLOSING):
            mark = SUFFIXED_CLOSING
        searched = self._openings.get(mark, 0)
        if searched >= 0:
            self._openings[mark] = -1 if opening_of(mark).search(self.text, searched, start) else start
        return self._openings[mark] < 0

    def _fences_before(self, end: int) -> int:
        count, counted = self._fences
        self._fences = count + self.text.count("```", counted, end), end
        return self._fences[0]

    def _safe_end(self) -> int:
        """Up to where the text is the answer's, whatever follows."""
        text, end = self.text, len(self.text)
        if self._answer_ends:
            solid = self._solid_end
            tail = lower(text[max(self._emitted, solid - LONGEST_MARK) : solid])
            for mark in self._answer_ends:
                if tail.endswith(mark):
                    return self._trim(solid - len(mark))
            partial_at = _before_partial(text, end, self._answer_ends)
            return self._trim(solid if partial_at == end else partial_at)
        if self._seen:
            return end
        if self._candidates < MOST_CANDIDATES and (match := LONE.search(text, self._scan)) is not None:
            return match.start()
        return _before_partial(text, end, LONE_CLOSINGS)

    def _trim(self, end: int) -> int:
        """The end of the answer's text before ``end``, without blanks, of which a long run is not read again each time."""
        if self._trimmed[0] != end:
            self._trimmed = end, _end_of_text(self.text, self._emitted, end)
        return max(self._emitted, self._trimmed[1])

    def _final_end(self) -> int:
        text = self.text
        if self._answer_ends and self._start < len(text):
            stripped = text.rstrip()
            tail = lower(stripped[-LONGEST_MARK:])
            for mark in self._answer_ends:
                if tail.endswith(mark):
                    return max(self._start, _end_of_text(text, self._start, len(stripped) - len(mark)))
            if len(self._answer_ends) and text[self._start :].strip():
                return len(stripped)
        return len(text)


def _end_of_text(text: str, start: int, end: int) -> int:
    return start + len(text[start:end].rstrip(" \t\r\n"))


def _before_partial(text: str, end: int, marks: tuple[str, ...]) -> int:
    """The position of an incomplete mark at the end of the text, or ``end``."""
    start = max(0, end - LONGEST_MARK)
    beginnings = _beginnings_of(marks)
    for match in _MARK_BEGINNING.finditer(text, start, end):
        beginning = lower(text[match.start() : end])
        if beginning in beginnings or may_begin_suffixed(beginning):
            return match.start()
    return end


@lru_cache(maxsize=64)
def _beginnings_of(marks: tuple[str, ...]) -> frozenset[str]:
    return frozenset(mark[:i] for mark in marks for i in range(1, len(mark)))


_SPACE = re.compile("[ \t\r\n\ufeff]*+")
_MOST_SKIPPED = 16
_AFTER_BEGINNING = ("", " ", "\n", "\r", "\t", "<", "[")  # <s> is a special token before these, and else ambiguous
_BLANKS = re.compile("[ \t\r\n]*+")
_MARK_BEGINNING = re.compile(r"[<\[◁]")
