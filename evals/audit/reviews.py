"""What people said of some sampled runs, beside the grader's verdicts on all: the loss by people, and the grader's bias."""

from dataclasses import dataclass, field
from math import sqrt
from typing import Any

import numpy as np

from cascade.journal.review import Review, review_of

from .aggregates import Period
from .people import LEAST_LABELS, PeopleEstimate, estimate_by_people

_GRADED = "l.state IN ('done', 'undecided')"


@dataclass(slots=True)
class ReviewedRuns:
    """The graded runs of one policy whose two answers differ, in the order of the runs.

    Attributes:
        all_weight: The sum of the weights of all graded runs: 1 / the probability with which each was sampled.
        verdicts: The grader's losses; 0 where it could not decide.
        weights: The weights of the runs.
        reviews: What people said; None where nobody looked.
    """

    all_weight: float = 0.0
    verdicts: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    reviews: list[Review | None] = field(default_factory=list)

    def estimate(self) -> PeopleEstimate | None:
        """The mean loss over all runs; None where people looked at fewer than LEAST_LABELS runs that were shown at random.

        Runs whose answers agree, or that premium answered, lose nothing. Of the others, those that were shown because they
        were hard stand for themselves; those shown at random stand for all that are left.
        """
        at_random = sum(review is not None and review.at_random for review in self.reviews)
        chosen = sum(review is not None and not review.at_random for review in self.reviews)
        if at_random < LEAST_LABELS:
            return None
        chance = at_random / (len(self.reviews) - chosen)
        weights = np.array(self.weights)
        one = estimate_by_people(
            np.array([float("nan") if review is None else review.loss for review in self.reviews]),
            np.array(self.verdicts),
            chances=np.array([1.0 if review is not None and not review.at_random else chance for review in self.reviews]),
            weights=weights,
        )
        # The share of runs whose answers differ is a sample's too.
        share = min(1.0, float(weights.sum()) / self.all_weight)
        error = sqrt(share * (1.0 - share) * float((weights**2).sum()) / weights.sum() / self.all_weight)
        further = (2.0 * error * one.mean) ** 2

        def limit(edge: float) -> float:
            return sqrt((share * (edge - one.mean)) ** 2 + further)

        return PeopleEstimate(
            mean=share * one.mean,
            lower=max(-1.0, share * one.mean - limit(one.lower)),
            upper=min(1.0, share * one.mean + limit(one.upper)),
            labels=one.labels,
            verdicts=one.verdicts,
            bias=share * one.bias,
            narrower=one.narrower,
        )


def reviewed_runs(period: Period) -> dict[str, ReviewedRuns]:
    """The graded runs by policy, where people looked at any run of the period.

    Args:
        period: The runs.
    """
    store = period.store
    if not period.dialect.has_reviews:
        return {}
    joined = "cascade_labels l JOIN cascade_runs r ON r.run_id = l.run_id"
    notes: dict[str, Any] = dict(
        store.execute(
            "SELECT f.run_id, f.note FROM cascade_feedback f JOIN cascade_runs r ON r.run_id = f.run_id "
            f"WHERE {period.where} AND substr(f.note, 1, 7) = 'review:' ORDER BY f.id",
            period.values,
        )
    )
    if not notes:
        return {}
    rows = store.execute(
        f"SELECT r.policy, SUM(1.0 / l.probability) FROM {joined} WHERE {period.where} AND {_GRADED} GROUP BY r.policy",
        period.values,
    )
    result = {policy: ReviewedRuns(all_weight=float(weight)) for policy, weight in rows}
    differing = store.stream(
        f"SELECT r.policy, l.run_id, l.loss, l.probability FROM {joined} "
        f"WHERE {period.where} AND {_GRADED} AND COALESCE(l.grader, '') <> 'same' ORDER BY r.id",
        period.values,
    )
    for policy, run_id, loss, probability in differing:
        runs = result[policy]
        runs.verdicts.append(0.0 if loss is None else float(loss))
        runs.weights.append(1.0 / probability)
        runs.reviews.append(review_of(notes.get(run_id)))
    return result
