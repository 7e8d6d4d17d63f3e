"""Why an answer ended, in every provider's dialect -> one of four words."""

import logging

_logger = logging.getLogger(__name__)

_COMPLETE = (
    "stop end_turn stop_sequence eos eos_token complete completed done success natural_stop endoftext eot "
    "end_of_turn stop_token stop_criteria_met finish finished"
)
_CUT = (
    "length max_tokens max_output_tokens max_length model_length max_context_length model_context_window_exceeded "
    "context_length_exceeded insufficient_system_resource incomplete pause_turn time_limit max_time timeout abort aborted "
    "cancelled canceled interrupted other unspecified error_limit user_cancel context_length context_limit token_limit "
    "max_new_tokens truncated no_kv_space repetition repetition_truncation compaction load unload "
    "out_of_tokens max_completion_tokens limit"
)
_FILTERED = (
    "content_filter content_filtered safety recitation refusal blocklist prohibited_content spii image_safety "
    "image_prohibited_content image_recitation language guardrail_intervened error_toxic sensitive moderation "
    "model_armor violation"
)
_TOOLS = "tool_calls tool_call tool_use function_call function_calls end_of_message"

FINISH_REASONS: dict[str, str] = {
    **dict.fromkeys(_COMPLETE.split(), "stop"),
    **dict.fromkeys(_CUT.split(), "length"),
    **dict.fromkeys(_FILTERED.split(), "content_filter"),
    **dict.fromkeys(_TOOLS.split(), "tool_calls"),
}
"""The providers' words in lower case, each with the word of this package."""

_FAULTS = (
    "error engine_error malformed_function_call unexpected_tool_call malformed_response failed content_error network_error "
    "malformed_tool_use malformed_model_output too_many_tool_calls missing_thought_signature no_image"
)
ERRORS = frozenset(_FAULTS.split())
"""Words for a provider that broke off: such an answer is a fault."""

_COMPLETE_WORDS = frozenset(("stop", "tool_calls"))
_unknown_words: set[str] = set()
_MOST_UNKNOWN = 100  # a server that invents a word a request must not fill the memory or the log


def read_finish_reason(word: str | None) -> str | None:
    """A provider's finish reason in this package's words.

    Args:
        word: What the provider sent, in any case; None: it sent nothing.

    Returns:
        ``stop``, ``length`` (the answer was cut), ``content_filter`` or ``tool_calls``; an unknown word as it is, after it
        was logged once. An empty word is None.
    """
    if word is None or word in ("stop", "length", "tool_calls"):
        return word
    reason = FINISH_REASONS.get(plain_word(word))
    if reason is not None:
        return reason
    if not word.strip():
        return None
    start = word[:80]
    if start not in _unknown_words and len(_unknown_words) < _MOST_UNKNOWN:
        _unknown_words.add(start)
        _logger.warning("unknown finish reason %r: the answer is not taken for complete", start)
    return word


def plain_word(word: str) -> str:
    """A finish reason without its dress: ``FinishReason.MAX_TOKENS``, ``FINISH_REASON_STOP`` and ``content-filter``."""
    plain = word.strip().lower().rpartition(".")[2].replace("-", "_").replace(" ", "_")
    return plain.removeprefix("finish_reason_")


def is_error(word: str | None) -> bool:
    """Whether a provider's finish reason says that it broke off, so that there is no answer."""
    return word is not None and word not in _KNOWN_GOOD and plain_word(word) in ERRORS


_KNOWN_GOOD = frozenset(("stop", "length", "tool_calls"))


def is_complete(reason: str | None) -> bool:
    """Whether an answer ended by itself; also where the provider sent no reason."""
    return reason is None or reason in _COMPLETE_WORDS
