"""Token log-probability of the answer: how sure the model was of its own words."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, isnan
from typing import ClassVar, Literal

from .protocol import JudgeInput
from .types import TokenLogprob, Verdict

_SPECIAL = frozenset(("</s>", "<s>", "<eos>", "<bos>", "<pad>", "<end_of_turn>", "<start_of_turn>", "<|return|>"))


def own_logprobs(tokens: Sequence[TokenLogprob]) -> list[float]:
    """The log-probabilities of the answer's own tokens, in nats: what is not a number is left out, what is above 0 is 0.

    Not its own are special tokens (end of sequence), fences of three backticks with the language after an opening one, and
    whitespace next to either. Where no token has a text, as in a recording without them, all are taken as its own.
    """
    if not any(token for token, _ in tokens):
        return [min(value, 0.0) for _, value in tokens if not isnan(value)]
    own: list[float] = []
    spaces: list[float] = []  # since the last token of the answer's own: own only if another one follows
    inside = language = False  # inside: of a fenced block; language: what follows on this line names its language
    after_mark = False
    for token, logprob in tokens:
        text = token.strip()
        value = logprob if not logprob > 0.0 else 0.0
        if text and not language and text[0] not in "<`" and text[-1] != "`":  # nearly every token
            own += spaces
            after_mark, spaces = False, []
            if not isnan(value):
                own.append(value)
        elif text.startswith("```") or text.endswith("```"):
            inside = not inside if text.count("```") % 2 else inside
            language = inside and text == "```" and "\n" not in token
            after_mark = True
        elif text in _SPECIAL or (text.startswith("<|") and text.endswith("|>")):
            language, after_mark = False, True
        elif language and text:
            language = "\n" not in token
        elif not text:
            language = language and "\n" not in token
            if not after_mark and not isnan(value):
                spaces.append(value)
            continue
        else:
            own += spaces
            after_mark = False
            if not isnan(value):
                own.append(value)
        spaces = []
    return own + spaces if own else own


@dataclass(frozen=True)
class LogprobJudge:
    """Scores an answer by exp of its ``mean`` (or ``min``) token log-probability, in [0, 1].

    None where the provider gives none. ``details``: mean and min (nats), tokens (how many counted); where only the mean is
    known, that alone. A mean says nothing of the minimum: ``min`` needs tokens.
    """

    statistic: Literal["mean", "min"] = "mean"
    name: str = "logprob"
    only_vetoes: bool = False
    only_scores: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.statistic not in ("mean", "min"):
            raise ValueError(f"statistic must be mean or min, got {self.statistic!r}")

    def judge(self, case: JudgeInput) -> Verdict:
        """Reads what the model gave; asks nothing."""
        answer = case.answer
        if answer.logprobs:
            own = own_logprobs(answer.logprobs)
            if not own:
                return Verdict(self.name, reason="no token of the answer's own has a log-probability")
            mean, low = sum(own) / len(own), min(own)
            score = exp(mean if self.statistic == "mean" else low)
            return Verdict(self.name, score, details={"mean": mean, "min": low, "tokens": len(own)})
        if answer.mean_logprob is None or isnan(answer.mean_logprob):
            return Verdict(self.name, reason="the provider gave no log-probabilities")
        if self.statistic == "min":
            return Verdict(self.name, reason="the provider gave only the mean log-probability")
        mean = min(answer.mean_logprob, 0.0)
        return Verdict(self.name, exp(mean), details={"mean": mean})
