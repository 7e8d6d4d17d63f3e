"""Log-probabilities of tokens in the shapes of different servers, as OpenAI's list of tokens."""

from collections.abc import Mapping, Sequence
from typing import Any

from .http import mapping

Token = Mapping[str, Any]


def logged_tokens(logprobs: Any, text: str = "") -> Sequence[Token]:
    """The tokens of a choice, or of a piece of a streamed one, each with ``token``, ``logprob`` and maybe ``top_logprobs``.

    OpenAI has them in ``content``. Together, Fireworks and older servers have ``tokens`` beside ``token_logprobs``,
    with ``top_logprobs`` as objects; Together streams one number beside each token.

    Args:
        logprobs: The field of that name.
        text: The text of the piece, which is the token where there is a number only.

    Raises:
        TypeError, KeyError: It is none of them.
    """
    if logprobs is None:
        return ()
    if isinstance(logprobs, int | float) and not isinstance(logprobs, bool):
        return ({"token": text, "logprob": logprobs},) if text else ()
    content = logprobs.get("content")
    if content:
        tokens: Sequence[Token] = content
        return tokens
    texts, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
    if not isinstance(texts, list) or not isinstance(values, list) or len(texts) != len(values):
        return ()
    tops = logprobs.get("top_logprobs")
    tops = tops if isinstance(tops, list) and len(tops) == len(texts) else [None] * len(texts)
    return [
        {"token": token, "logprob": value, "top_logprobs": _alternatives(top)}
        for token, value, top in zip(texts, values, tops, strict=True)
    ]


def _alternatives(top: Any) -> list[Token]:
    if isinstance(top, list):
        return top
    return [{"token": token, "logprob": value} for token, value in mapping(top).items()]
