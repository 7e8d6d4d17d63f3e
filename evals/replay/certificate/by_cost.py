"""Chooses under a budget, or at the price of a wrong answer: no loss is promised beforehand; it is bounded afterwards."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.statistics.certify import METHODS, p_value
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Goal, Tuner

from .guarantee import CertifiedChoice, Guarantee

Array = npt.NDArray[np.float64]


def choose_by_cost(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, guarantee: Guarantee, seed: int, must_end: str | None
) -> CertifiedChoice:
    """The best predicted ladder under a budget, or at a price of an error; what it may lose is then bounded."""
    premium = list(columns)[-1]
    quality = columns[premium][0].quality[:, 0]
    tuner = Tuner(columns, splits.fit, Goal(np.ones(len(quality)), 1.0, None), seed)
    swept = tuner.sweep_all(must_end)
    scored: list[tuple[float, float, Candidate]] = []
    for each in swept:
        if guarantee.kind == "budget":
            within = np.flatnonzero(each.usd <= guarantee.value / 1000)
            if len(within):
                at = int(within[np.argmin(each.loss[within])])
                scored.append((float(each.loss[at]), float(each.usd[at]), each.candidate(at, 1.0)))
        else:
            total = each.usd + guarantee.value * each.loss
            at = int(np.argmin(total))
            scored.append((float(total[at]), float(each.usd[at]), each.candidate(at, 1.0)))
    notes: list[str] = []
    if scored:
        chosen = min(scored, key=lambda item: item[:2])[2]
    else:
        every = [(float(each.usd.min()), each.candidate(int(np.argmin(each.usd)), 1.0)) for each in swept]
        least_usd, chosen = min(every, key=lambda item: item[0])
        notes.append(
            f"no cascade costs {guarantee.value:g} USD per 1,000 or less; the cheapest, about {1000 * least_usd:.4g}"
        )
    rows = splits.certify
    losses = quality[rows] - chosen.outcome(rows).quality
    bound, test_method = upper_bound(losses, guarantee.delta)
    usd = 1000 * chosen.outcome(rows).cost_usd
    error = 1.96 * float(usd.std()) / max(len(rows), 1) ** 0.5
    # What is proved is the loss: the name of a certificate must not cover a budget that the rows say may be passed.
    dear = guarantee.kind == "budget" and float(usd.mean()) + error > guarantee.value
    words = "" if not dear else "The cost on the certification rows may pass the budget, so nothing is certified. "
    words += (
        f"Chosen so that {guarantee.words()}; measured ${usd.mean():.4g} per 1,000, 95 % interval "
        f"[{max(0.0, usd.mean() - error):.4g}, {usd.mean() + error:.4g}]. "
        f"With probability {100 * (1 - guarantee.delta):g} % its mean quality is at most {bound:.3f} below the premium "
        f"tier's ({METHODS[test_method]} on {len(rows):,} rows that did not help to choose it)."
    )
    certificate = {
        "certified": bound < 1.0 and bool(scored) and not dear,
        "max_loss": bound, "delta": guarantee.delta, "method": METHODS[test_method],
        "n": len(rows), "p_value": guarantee.delta, "tests": 1, "needed_n": None, "words": words,
    }  # fmt: skip
    return CertifiedChoice(
        chosen=chosen,
        certificate=certificate,
        method="split",
        fit_rows=splits.fit,
        notes=tuple(notes),
        guarantee=guarantee,
        swept=tuple(swept),
    )


def upper_bound(losses: Array, delta: float) -> tuple[float, str]:
    """A bound on the mean loss that holds with probability 1 - ``delta``: the least limit whose test passes.

    Args:
        losses: (n,), the premium tier's quality less the cascade's, in [-1, 1]. The rows must not have helped to choose it.
        delta: The probability that the mean loss is larger.

    Returns:
        The bound, to 1e-3 and from above (1 where no limit passes), and the test's name.
    """
    low, high = max(0.0, float(losses.mean())), 1.0
    test_method = "paired"
    while high - low > 1e-3:
        middle = (low + high) / 2
        p, test_method = p_value(losses, middle)
        low, high = (low, middle) if p <= delta else (middle, high)
    return high, test_method
