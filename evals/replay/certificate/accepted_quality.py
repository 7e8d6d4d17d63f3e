"""Chooses the lowest confidence at which accepted answers are right often enough."""

from collections.abc import Mapping, Sequence

import numpy as np

from evals.replay.candidate_tiers import fit_tier
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import SimulatedCascade
from evals.replay.statistics.certify import METHODS, least_rows, p_value
from evals.replay.sweep_result import Candidate

from .guarantee import CertifiedChoice, Guarantee


def choose_accepted_quality(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, guarantee: Guarantee, seed: int
) -> CertifiedChoice:
    """One level of calibrated confidence for every tier, as low as accepted answers stay right often enough."""
    models = list(columns)
    tiers = [fit_tier(columns[m][-1], splits.fit, seed) for m in models[:-1]]
    last = columns[models[-1]][-1]
    tiers.append(fit_tier(last.first_judges(last.n_last), splits.fit, seed))
    cascade = SimulatedCascade.from_tiers(tiers)
    levels = [float(x) for x in np.round(np.concatenate([1 - np.logspace(-4, -1, 31), np.linspace(0.89, 0.0, 90)]), 6)]
    sequence = [
        Candidate(cascade=cascade, thresholds=(t,) * (len(tiers) - 1), loss=0.0, variance=0.0, usd=0.0, last_accept_at=t)
        for t in levels
    ]
    rows = splits.certify
    passed: Candidate | None = None
    p, test_method, n, tests = 1.0, "binomial", 0, 0
    shortest = 0
    for candidate in sequence:
        outcome = candidate.outcome(rows)
        losses = 1.0 - outcome.quality[outcome.accepted]
        # Levels that accept too few rows to prove anything say nothing, whatever their answers: they are not tested. Which
        # they are depends on the scores alone, never on the answers' quality.
        if len(losses) < least_rows(1.0 - guarantee.value, guarantee.delta, paired=False):
            continue
        shortest = shortest or len(losses)
        tests += 1
        proof, method = p_value(losses, 1.0 - guarantee.value, paired=False)
        if proof > guarantee.delta:
            break
        passed, p, test_method, n = candidate, proof, method, len(losses)
    base = {"max_loss": None, "min_accepted_quality": guarantee.value, "delta": guarantee.delta, "tests": tests}
    if passed is None:
        fewest = least_rows(1.0 - guarantee.value, guarantee.delta, paired=False)
        words = (
            f"Refused: on {len(rows):,} rows no level of confidence could be shown to keep the promise that "
            f"{guarantee.words()}. It takes at least {fewest:,} accepted rows without a single mistake. Nothing is accepted "
            "below confidence 1."
        )
        chosen = Candidate(
            cascade=cascade, thresholds=(1.0,) * (len(tiers) - 1), loss=0.0, variance=0.0, usd=0.0, last_accept_at=1.0
        )
        certificate = base | {
            "certified": False, "method": METHODS["binomial"], "n": len(rows), "p_value": 1.0, "needed_n": fewest,
            "words": words,
        }  # fmt: skip
        return CertifiedChoice(
            chosen=chosen, certificate=certificate, method="split", fit_rows=splits.fit, guarantee=guarantee
        )
    share = float(passed.outcome(rows).accepted.mean())
    words = (
        f"With probability {100 * (1 - guarantee.delta):g} % over the draw of the rows that certified it, "
        f"{guarantee.words()}: at confidence {passed.last_accept_at:g} or more, {100 * share:.0f} % of answers are "
        f"accepted (n = {n:,}, p = {p:.4f}, {METHODS[test_method]})."
    )
    certificate = base | {
        "certified": True, "method": METHODS[test_method], "n": n, "p_value": p, "needed_n": None, "words": words,
        "accepted": share,
    }  # fmt: skip
    return CertifiedChoice(chosen=passed, certificate=certificate, method="split", fit_rows=splits.fit, guarantee=guarantee)
