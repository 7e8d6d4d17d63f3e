"""Separates a model's reasoning from its answer, in whole texts and in streams.

A thought counts where the reply begins with it: ``<think>...</think>answer``, also several of them, and where only its
end arrives, as the server's template had opened it. Everything else is the answer's own text: a marker quoted in code or in
the middle of an ordinary answer stays where it is.

The whole text is read by the same state machine as a stream, so that any division into chunks gives the same answer.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from judges.types import Answer, TokenLogprob, Usage

from . import special_tokens
from .reasoning_stream import ReasoningStream, SplitText
from .thought_markers import BEGINNINGS, LONE, STARTS


def split_reasoning(text: str) -> SplitText:
    """A whole reply in its parts, by the markers of open models.

    Args:
        text: What the model sent as its text.

    Returns:
        The answer's text and the reasoning. A reply that ends inside its thought has no answer: its text is empty.
    """
    if not _may_hold_reasoning(text):
        return SplitText(text, None)
    return ReasoningStream(text=text).end()[1]


def _may_hold_reasoning(text: str) -> bool:
    """Whether a marker is where it counts: nearly every answer is finished here, in less than a microsecond."""
    if text[:1] in BEGINNINGS and STARTS.match(text):
        return True
    if "<" in text or "[" in text or "◁" in text:
        return LONE.search(text) is not None or special_tokens.has_tail(text)
    return False


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
