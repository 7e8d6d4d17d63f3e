"""What people said of some sampled runs, beside the grader's verdicts on all: the loss by people, and the grader's bias."""

from dataclasses import dataclass, field
from math import sqrt

import numpy as np

from cascade.journal.review import Review, review_of

from .aggregates import Period
from .people import LEAST_LABELS, PeopleEstimate, chances_of_draws, estimate_by_people

_GRADED = "l.state IN ('done', 'undecided')"


@dataclass(slots=True)
class ReviewedRuns:
    """The graded runs of one policy whose two answers differ, in the order of the runs.

    Attributes:
        all_weight: The sum of the weights of all graded runs: 1 / the probability with which each was sampled.
        verdicts: The grader's losses; 0 where it could not decide.
        weights: The weights of the runs.
        confidences: Those of the answers returned; NaN where unknown.
        reviews: What people said; None where nobody looked.
        places: Whose reviews came earlier: those of the smaller number.
    """

    all_weight: float = 0.0
    verdicts: list[float] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    reviews: list[Review | None] = field(default_factory=list)
    places: list[int] = field(default_factory=list)

    def estimate(self) -> PeopleEstimate | None:
        """The mean loss over all runs; None where people looked at fewer than LEAST_LABELS runs that were shown at random.

        Runs whose answers agree, or that premium answered, lose nothing. Of the others, those that were shown because they
        were hard stand for themselves; those shown by chance stand for all that are left, by their recorded probabilities.
        """
        sample = [i for i, review in enumerate(self.reviews) if review is not None and review.chance is not None]
        chosen = sum(review is not None and review.chance is None for review in self.reviews)
        if len(sample) < LEAST_LABELS:
            return None
        sample.sort(key=lambda i: self.places[i])
        shares = np.array([review.chance for i in sample if (review := self.reviews[i]) is not None], dtype=float)
        chances = np.ones(len(self.reviews))
        chances[sample] = chances_of_draws(shares, len(self.reviews) - chosen)
        weights = np.array(self.weights)
        one = estimate_by_people(
            np.array([float("nan") if review is None else review.loss for review in self.reviews]),
            np.array(self.verdicts),
            confidences=np.array(self.confidences),
            chances=chances,
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
    notes: dict[str, tuple[int, str]] = {
        run_id: (number, note)
        for number, run_id, note in store.execute(
            "SELECT f.id, f.run_id, f.note FROM cascade_feedback f JOIN cascade_runs r ON r.run_id = f.run_id "
            f"WHERE {period.where} AND substr(f.note, 1, 7) = 'review:' ORDER BY f.id",
            period.values,
        )
    }
    if not notes:
        return {}
    rows = store.execute(
        f"SELECT r.policy, SUM(1.0 / l.probability) FROM {joined} WHERE {period.where} AND {_GRADED} GROUP BY r.policy",
        period.values,
    )
    result = {policy: ReviewedRuns(all_weight=float(weight)) for policy, weight in rows}
    differing = store.stream(
        f"SELECT r.policy, l.run_id, l.loss, l.probability, r.confidence FROM {joined} "
        f"WHERE {period.where} AND {_GRADED} AND COALESCE(l.grader, '') <> 'same' ORDER BY r.id",
        period.values,
    )
    for policy, run_id, loss, probability, confidence in differing:
        place, note = notes.get(run_id, (0, None))
        runs = result[policy]
        runs.verdicts.append(0.0 if loss is None else float(loss))
        runs.weights.append(1.0 / probability)
        runs.confidences.append(float("nan") if confidence is None else float(confidence))
        runs.reviews.append(review_of(note))
        runs.places.append(place)
    return result
