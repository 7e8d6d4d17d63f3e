"""Verdicts -> confidence, in plain Python.

With a calibration the confidence is P(the answer is right), by the mapping fitted for exactly the judges that have scored.
Without one it is the geometric mean of the odds of all scores, or the tier's ``prior`` where there is none: that ranks
answers, but is not a probability, which is why ``Result.calibrated`` is then False. A missing score is left out, never read
as 0; a veto is not a score and does not enter.
"""

from collections.abc import Iterable, Sequence
from math import exp, log

from cascade.policy.calibrators import Calibrator, agreement_name
from judges import Answer, Verdict
from judges.votes import cluster_key

# One judge's certainty must not outweigh all others: odds are bounded to about 1,000 to 1.
_LOW, _HIGH = 0.001, 0.999


def combine(verdicts: Iterable[Verdict], prior: float = 0.5) -> float:
    """The uncalibrated confidence in [0, 1]: the logistic of the mean logit of the scores, clipped to [0.001, 0.999].

    One score alone is returned as it is. ``prior`` is returned where no judge gave a score.
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


def calibrated(
    calibrator: Calibrator, verdicts: Iterable[Verdict], compared: dict[str, float | None] | None = None
) -> float:
    """P(the answer is right) in [0, 1]; ``compared`` is the agreement with earlier answers, where a mapping reads it."""
    scores: dict[str, float | None] = {} if compared is None else compared
    for verdict in verdicts:
        scores[verdict.judge] = verdict.score
    return calibrator.probability(scores)


def agreement(answer: Answer, earlier: Sequence[Answer | None]) -> dict[str, float | None]:
    """``{"agrees:0": 1.0, ...}``: whether the answer agrees with that of each earlier tier; None: that tier gave none."""
    own = cluster_key(answer)
    return {
        agreement_name(i): None if other is None else float(cluster_key(other) == own) for i, other in enumerate(earlier)
    }
