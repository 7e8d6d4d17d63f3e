"""Verdicts -> confidence, in plain Python.

Without a calibration the confidence is the geometric mean of the odds of all scores that could tell, the tier's ``prior``
where none could. It ranks answers; it is not a probability, which is why ``Result.calibrated`` is then False. A missing
score is left out, never read as 0; a veto is not a score and does not enter.
"""

from collections.abc import Iterable
from math import exp, log

from judges import Verdict

# One judge's certainty must not drown all others: odds are bounded to about 1,000 to 1.
_LOW, _HIGH = 0.001, 0.999


def combine(verdicts: Iterable[Verdict], prior: float = 0.5) -> float:
    """The uncalibrated confidence in [0, 1]: the logistic of the mean logit of the scores, clipped to [0.001, 0.999].

    One score alone is returned as it is. ``prior`` is returned where no judge could tell.
    """
    scores = [v.score for v in verdicts if v.score is not None]
    if not scores:
        return prior
    if len(scores) == 1:
        return scores[0]
    total = 0.0
    for score in scores:
        p = _LOW if score < _LOW else _HIGH if score > _HIGH else score
        total += log(p / (1.0 - p))
    return 1.0 / (1.0 + exp(-total / len(scores)))
