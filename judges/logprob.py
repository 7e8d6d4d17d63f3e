"""Token log-probability of the answer: how sure the model was of its own words."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import exp, isnan
from typing import Literal

from .answer import TokenLogprob, Verdict
from .judge import Case

_SPECIAL = frozenset(("</s>", "<s>", "<eos>", "<bos>", "<pad>", "<end_of_turn>"))


def own_logprobs(tokens: Iterable[TokenLogprob]) -> list[float]:
    """The log-probabilities of the answer's own tokens: no end-of-sequence, no special tokens, no markdown fences."""
    kept: list[float] = []
    language = False
    for token, logprob in tokens:
        text = token.strip()
        if "```" in text:
            language = not language and text == "```"
            continue
        if language:
            # The word after an opening fence names its language; the line break ends it.
            language = "\n" not in token
            if text.isalnum() or not text:
                continue
        if text in _SPECIAL or (text.startswith("<|") and text.endswith("|>")):
            continue
        if not isnan(logprob):
            kept.append(min(logprob, 0.0))
    return kept


@dataclass(frozen=True)
class LogprobJudge:
    """Scores an answer by exp of its ``mean`` (or ``min``) token log-probability, in [0, 1].

    None where the provider gives none. ``details``: mean and min (nats), tokens (how many counted).
    """

    statistic: Literal["mean", "min"] = "mean"
    name: str = "logprob"
    only_vetoes: bool = False

    def __post_init__(self) -> None:
        if self.statistic not in ("mean", "min"):
            raise ValueError(f"statistic must be mean or min, got {self.statistic!r}")

    def judge(self, case: Case) -> Verdict:
        """Reads what the model gave; asks nothing."""
        answer = case.answer
        if answer.logprobs is not None:
            own = own_logprobs(answer.logprobs)
            if own:
                mean, low = sum(own) / len(own), min(own)
                score = exp(mean if self.statistic == "mean" else low)
                return Verdict(self.name, score, details={"mean": mean, "min": low, "tokens": len(own)})
        mean_only = answer.mean_logprob
        if mean_only is None or isnan(mean_only) or self.statistic == "min":
            return Verdict(self.name, reason="the provider gave no log-probabilities")
        return Verdict(self.name, exp(min(mean_only, 0.0)), details={"mean": mean_only})
