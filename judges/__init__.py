"""Judges of answers, a package of cascade-gate. Usable alone: nothing here depends on tiers, policies or thresholds."""

from .protocol import Ask, AskOptions, FunctionJudge, Judge, JudgeInput
from .registry import UnknownJudgeError, judge, make, names, register
from .types import Answer, Message, Prompt, TokenLogprob, Usage, Verdict

__all__ = [
    "Answer",
    "Ask",
    "AskOptions",
    "FunctionJudge",
    "Judge",
    "JudgeInput",
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
