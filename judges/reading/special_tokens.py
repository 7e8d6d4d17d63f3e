"""Special tokens that servers leave in a reply's text: at its beginning, after a thought and at its end.

Chat templates write them between turns; a server that decodes them, or a model that spells them out, leaves
``51<|im_end|>``.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

# What opens the assistant's turn. A bare ``<|im_start|>`` is not among them: an answer that is a conversation begins so.
LEADING = (
    *("<bos>", "<BOS_TOKEN>", "<|begin_of_text|>", "<|startoftext|>", "<|begin_of_sentence|>", "<seed:bos>", "<|bos|>"),
    *("<｜begin▁of▁sentence｜>", "<|hy_begin▁of▁sentence|>", "<｜hy_begin▁of▁sentence｜>", "<|im_start|>assistant"),
    *("<|im_start|>bot", "<|im_start|>ai", "<|im_assistant|>assistant<|im_middle|>", "<|im_start|>assistant<|im_sep|>"),
    *("<|assistant|>", "[|assistant|]", "<|Assistant|>", "<｜Assistant｜>", "<｜hy_Assistant｜>", "<|hy_Assistant|>"),
    *("<|ASSISTANT|>", "<|bot|>", "<_bot>", "<start_of_turn>model", "<|turn>model"),
    *("<|start_header_id|>assistant<|end_header_id|>", "<|header_start|>assistant<|header_end|>"),
    *("<|start_of_role|>assistant<|end_of_role|>", "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>", "<seed:bos>assistant"),
    *("<role>ASSISTANT</role>", "<|message_model|><|content_text|>", "<|role_start|>assistant<|role_end|>"),
    *("<|begin|>assistant", "[/INST]", "<|message|>", "<|start|>assistant<|message|>"),
    *("<|start|>assistant to=user<|message|>", "to=user<|message|>", "<extra_id_1>Assistant", "]~b]ai", "]~!b[]~b]ai"),
    *("<SPECIAL_11>Assistant", "<|dummy_86|>", "<|eom|>", "<|eot|>", "<|im_end|>", "<｜end▁of▁sentence｜>"),
)  # fmt: skip
# What ends a turn, and the beginning of the next one.
TRAILING = (
    *("</s>", "<eos>", "<EOS_TOKEN>", "<|eos|>", "<|endoftext|>", "<|end_of_text|>", "<|end_of_sentence|>"),
    *("<|eot_id|>", "<|eom_id|>", "<|eot|>", "<|eom|>", "<|im_end|>", "<|end|>", "<|return|>", "<end_of_turn>"),
    *("<turn|>", "<|end_of_turn|>", "[|endofturn|]", "<|END_OF_TURN_TOKEN|>", "<｜end▁of▁sentence｜>"),
    *("<|hy_place▁holder▁no▁2|>", "<｜hy_place▁holder▁no▁2｜>", "<seed:eos>", "<|role_end|>", "<|user|>"),
    *("<|observation|>", "<|end_message|>", "<|content_model_end_sampling|>", "<|plamo:tag|>", "<eop>", "<|eod|>"),
    *("<_end>", "[e~[", "[/INST]", "[INST]", "<|fim_end|>", "<|end_of_role|>", "<SPECIAL_12>", "<｜User｜>", "<|EOT|>"),
    *("<pad>", "<|pad|>", "<|start_header_id|>", "<|end_header_id|>", "<|im_start|>", "<|end_of_msg|>"),
    *("<|close|>message<|sep|>",),
)  # fmt: skip
_LONGEST = max(map(len, TRAILING))


def branches(marks: Iterable[str]) -> str:
    """The marks as a pattern in which no character is compared twice: a text of many first characters costs no more."""
    rests: dict[str, list[str]] = {}
    for mark in marks:
        rests.setdefault(mark[0], []).append(mark[1:])
    parts = []
    for first, rest in rests.items():
        longer = branches(filter(None, rest)) if any(rest) else ""
        parts.append(re.escape(first) + (f"(?:{longer})?" if longer and "" in rest else longer))
    return parts[0] if len(parts) == 1 else f"(?:{'|'.join(parts)})"


TOKEN = re.compile(branches(("<s>", *TRAILING)))
_BEGINNINGS = frozenset(token[:i] for token in TRAILING for i in range(1, len(token)))
_REVERSED_RUN = re.compile(rf"(?:\s*+(?:{branches(tuple(token[::-1] for token in TRAILING))}))*+")
_RUN = re.compile(rf"(?:\s*+(?:{branches(TRAILING)}))*+\s*+")
_LAST = re.compile(rf"{branches(TRAILING)}\Z")
# "The end token is </s>" speaks of it; "51 </s>" ends with it.
_SPEAKS_OF = re.compile(
    r"(?:\b(?:is|are|be|was|tokens?|tags?|markers?|sequences?|strings?|symbols?|elements?|with|by|the|a|an|or|and|called|named|as|of|to|like"
    r"|use|using|emits?|type|write|add|append|insert|in|before|after|until|this|that)\s+|[:=,(\"'`«“‘]\s*)\Z",
    re.IGNORECASE,
)
STARTS = re.compile(branches(("<s>", *LEADING)))


def has_tail(text: str) -> bool:
    """Whether a text ends with a special token."""
    return _LAST.search(text.rstrip()[-_LONGEST:]) is not None


def tail_start(text: str) -> int:
    """Where the special tokens at the end of a text begin; its length where there are none. White space may divide them."""
    if not has_tail(text):
        return len(text)
    return len(text) - len(_REVERSED_RUN.match(text[::-1])[0])  # type: ignore[index] # the end was found


@dataclass(slots=True)
class HeldTail:
    """What may be special tokens at the end of a growing reply: held back until more text shows that they are not.

    Attributes:
        tokens: Whole tokens with the white space between them.
        beginning: Of one more token.
    """

    tokens: list[str] = field(default_factory=list)
    beginning: str = ""

    @property
    def is_held(self) -> bool:
        """Whether anything is held back."""
        return bool(self.tokens or self.beginning)

    def pass_on(self, piece: str) -> str:
        """The next piece of the reply, after what was held back, without what may be its tail now."""
        piece, self.beginning = self.beginning + piece, ""
        before = ""
        if self.tokens:
            length = _RUN.match(piece).end()  # type: ignore[union-attr] # it matches nothing, too
            self.tokens.append(piece[:length])
            piece = piece[length:]
            if not piece or piece in _BEGINNINGS:
                self.beginning = piece
                return ""
            before = "".join(self.tokens)
            self.tokens = []
        start = _tail_in(piece)
        tail = piece[start:]
        if tail:
            length = _RUN.match(tail).end()  # type: ignore[union-attr] # it matches nothing, too
            self.beginning = tail[length:]
            if length:
                self.tokens.append(tail[:length])
        return before + piece[:start]


def _tail_in(text: str) -> int:
    """Where whole tokens at the text's end begin, or the beginning of one."""
    start = end = -1
    for match in TOKEN.finditer(text):
        if match[0] != "<s>":
            start = match.start() if start < 0 or text[end : match.start()].strip() else start
            end = match.end()
    if start >= 0 and (not (rest := text[end:].lstrip()) or rest in _BEGINNINGS):
        return start
    for i in range(max(0, len(text) - _LONGEST), len(text)):
        if text[i] in "<[" and text[i:] in _BEGINNINGS:
            return i
    return len(text)


def speaks_of_tokens(text: str, start: int) -> bool:
    """Whether an answer, which begins at ``start``, means the special tokens that follow it as its text."""
    return _SPEAKS_OF.search(text[max(start, len(text) - 40) :]) is not None or TOKEN.search(text, start) is not None
