"""How good does this answer look? Usable alone: nothing here knows of tiers, policies or thresholds."""

from .answer import Answer, Message, Prompt, TokenLogprob, Usage, Verdict
from .judge import Ask, Case, FunctionJudge, Judge
from .registry import UnknownJudgeError, judge, make, names, register

__all__ = [
    "Answer",
    "Ask",
    "Case",
    "FunctionJudge",
    "Judge",
    "Message",
    "Prompt",
    "TokenLogprob",
    "UnknownJudgeError",
    "Usage",
    "Verdict",
    "judge",
    "make",
    "names",
    "register",
]
