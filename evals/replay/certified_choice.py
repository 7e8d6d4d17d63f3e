"""A promise, the score table and the splits -> the ladder to use, and the certificate of what was proved of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import fixed_grid
from .certify import METHODS, Certificate, fixed_sequence, least_rows, p_value
from .score_table import TierScores
from .simulate import SimulatedCascade
from .splits import Splits
from .tune import Candidate, Goal, Tuner

Array = npt.NDArray[np.float64]
Kind = Literal["max_loss", "min_quality", "min_accepted_quality", "budget", "error_price"]
Method = Literal["auto", "split", "preset"]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is wanted. ``value`` by ``kind``: the mean quality that may be lost against the premium tier; the least mean
    quality; the least quality of accepted answers; USD per 1,000 prompts; USD that one wrong answer costs.

    ``delta``: the probability, over the draw of the calibration rows, that a certified promise is broken.
    """

    kind: Kind
    value: float
    delta: float = 0.1

    def words(self) -> str:
        """The promise as a clause."""
        return {
            "max_loss": f"the mean quality is at most {self.value:g} below the premium tier's",
            "min_quality": f"the mean quality is at least {self.value:g}",
            "min_accepted_quality": f"accepted answers are right with probability at least {self.value:g}",
            "budget": f"1,000 prompts cost at most ${self.value:g} on average",
            "error_price": f"cost plus ${self.value:g} for each wrong answer is least",
        }[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CertifiedChoice:
    """The chosen candidate and how it was found. ``fit_rows``: rows of which the mappings know the labels."""

    chosen: Candidate
    certificate: Mapping[str, Any]
    method: str
    fit_rows: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def choose_certified(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    guarantee: Guarantee,
    *,
    seed: int = 0,
    method: Method = "auto",
    must_end: str | None = None,
) -> CertifiedChoice:
    """Tunes on ``splits.fit`` and certifies on ``splits.certify``, or walks a fixed grid on both where that is possible.

    ``columns``: each model's columns, cheapest model first, the premium tier last. ``must_end``: the model that every ladder
    ends with. "auto" takes the fixed grid for two models and a single score.
    """
    if guarantee.kind in ("budget", "error_price"):
        return _choose_by_cost(columns, splits, guarantee, seed, must_end)
    if guarantee.kind == "min_accepted_quality":
        return _choose_level(columns, splits, guarantee, seed)
    premium = list(columns)[-1]
    quality = columns[premium][0].quality[:, 0]
    against_premium = guarantee.kind == "max_loss"
    reference = quality if against_premium else np.ones(len(quality))
    limit = guarantee.value if against_premium else 1.0 - guarantee.value
    notes: list[str] = []
    how: str
    fixed = (
        fixed_grid.candidate_sequence([c[0] for c in columns.values()], splits.calibration) if method != "split" else None
    )
    if fixed is not None and all(len(c) == 1 for c in columns.values()):
        rows, sequence, how = splits.calibration, fixed, "preset"
    else:
        goal = Goal(reference, limit, premium if against_premium else None)
        tuner = Tuner(columns, splits.fit, goal, seed)
        rows, how = splits.certify, "split"
        sequence, notes = tuner.test_sequence(len(rows), must_end=must_end)
    proof = fixed_sequence([reference[rows] - c.outcome(rows).quality for c in sequence], limit, guarantee.delta)
    premium_alone = _premium_alone(columns[premium][0], splits, seed)
    alone_usd = float(premium_alone.outcome(splits.calibration).cost_usd.mean())
    passed = sequence[: proof.position + 1]
    chosen = min(passed, key=lambda c: float(c.outcome(splits.calibration).cost_usd.mean()), default=None)
    usd = np.inf if chosen is None else float(chosen.outcome(splits.calibration).cost_usd.mean())
    if chosen is not None and (usd < alone_usd or not against_premium):
        position = sequence.index(chosen)
        if how == "preset":
            chosen = fixed_grid.with_confidence(chosen, rows, seed)
        certificate = replace(proof, position=position).to_json() | {"words": _success_words(guarantee, proof, chosen)}
        return CertifiedChoice(
            chosen=chosen,
            certificate=certificate,
            method=how,
            fit_rows=rows if how == "preset" else splits.fit,
            notes=tuple(notes),
        )
    if len(columns) == 1 and against_premium:
        words = "There is one tier, so there is nothing to prove: it answers every prompt, and loses nothing to itself."
        one = {"certified": True, "method": "a single tier: nothing is lost", "needed_n": None, "words": words}
        return CertifiedChoice(
            chosen=premium_alone, certificate=proof.to_json() | one, method=how, fit_rows=splits.calibration, notes=()
        )
    return _fall_back_to_premium(premium_alone, proof, guarantee, passed, how, splits, reference)


def _premium_alone(column: TierScores, splits: Splits, seed: int) -> Candidate:
    from .candidate_tiers import first_judges_only, fit_tier

    tier = fit_tier(column.first_judges(column.n_free), splits.calibration, seed)
    return Candidate(
        cascade=SimulatedCascade.from_tiers([first_judges_only(tier, column.n_free)]),
        thresholds=(),
        loss=0.0,
        variance=0.0,
        usd=0.0,
    )


def _fall_back_to_premium(
    premium_alone: Candidate,
    proof: Certificate,
    guarantee: Guarantee,
    passed: Sequence[Candidate],
    how: str,
    splits: Splits,
    reference: Array,
) -> CertifiedChoice:
    """The premium tier by itself: where no cascade was certified, or none that was certified costs less."""
    certificate = proof.to_json()
    if passed:
        words = "Cascades keep the promise, but none costs less than the premium tier alone, which is therefore used."
        certificate |= {"certified": True, "method": "the premium tier alone: nothing is lost", "words": words}
        return CertifiedChoice(
            chosen=premium_alone, certificate=certificate, method=how, fit_rows=splits.calibration, notes=()
        )
    loss, p = (proof.tests[0].loss, proof.tests[0].p_value) if proof.tests else (float("nan"), 1.0)
    least_n = least_rows(proof.limit, proof.delta)
    words = (
        f"Refused: on {proof.n} rows no cascade could be shown to keep the promise that {guarantee.words()}. The safest one "
        f"tested lost {loss:+.4f} on average, which may be chance (p = {p:.3f}, needed: {proof.delta:g} or less). "
    )
    if proof.needed_n is not None:
        words += f"About {proof.needed_n:,} certification rows like these would be needed. "
    else:
        words += f"More rows like these would not help; even a cascade without any loss needs {least_n:,}. "
    words += "The premium tier alone is used."
    certificate |= {"certified": False, "words": words, "needed_n": proof.needed_n}
    if guarantee.kind == "min_quality":
        rows = splits.certify
        p, method = p_value(reference[rows] - premium_alone.outcome(rows).quality, proof.limit)
        if p <= guarantee.delta:
            certificate |= {"certified": True, "p_value": p, "method": METHODS[method]}
            certificate["words"] = (
                f"Only the premium tier alone could be shown to keep the promise that {guarantee.words()}."
            )
    return CertifiedChoice(chosen=premium_alone, certificate=certificate, method=how, fit_rows=splits.calibration, notes=())


def _success_words(guarantee: Guarantee, proof: Certificate, chosen: Candidate) -> str:
    tested = proof.tests[proof.position]
    return (
        f"With probability {100 * (1 - guarantee.delta):g} % over the draw of the {proof.n:,} rows that certified it, "
        f"{guarantee.words()}: measured loss {tested.loss:+.4f} at the last step that passed, p = {tested.p_value:.4f} "
        f"({METHODS.get(proof.method, proof.method)}, {len(proof.tests)} tests). It holds for prompts like those recorded."
    )


def _choose_by_cost(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, guarantee: Guarantee, seed: int, must_end: str | None
) -> CertifiedChoice:
    """The best predicted ladder under a budget, or at a price of an error; what it may lose is then bounded."""
    premium = list(columns)[-1]
    quality = columns[premium][0].quality[:, 0]
    tuner = Tuner(columns, splits.fit, Goal(np.ones(len(quality)), 1.0, None), seed)
    swept = [tuner.sweep(cascade) for cascade in tuner.cascades(must_end)]
    scored: list[tuple[float, float, Candidate]] = []
    for each in swept:
        if guarantee.kind == "budget":
            within = np.flatnonzero(each.usd <= guarantee.value / 1000)
            if len(within):
                at = int(within[np.argmin(each.loss[within])])
                scored.append((float(each.loss[at]), float(each.usd[at]), each.candidate(at)))
        else:
            total = each.usd + guarantee.value * each.loss
            at = int(np.argmin(total))
            scored.append((float(total[at]), float(each.usd[at]), each.candidate(at)))
    notes: list[str] = []
    if scored:
        chosen = min(scored, key=lambda item: item[:2])[2]
    else:
        every = [(float(each.usd.min()), each.candidate(int(np.argmin(each.usd)))) for each in swept]
        least_usd, chosen = min(every, key=lambda item: item[0])
        notes.append(
            f"no ladder costs {guarantee.value:g} USD per 1,000 or less; the cheapest, about {1000 * least_usd:.4g}"
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
    return CertifiedChoice(chosen=chosen, certificate=certificate, method="split", fit_rows=splits.fit, notes=tuple(notes))


def upper_bound(losses: Array, delta: float) -> tuple[float, str]:
    """The least limit, to 1e-3 and from above, at which the mean loss is certified at ``delta``; 1 where none is."""
    low, high = max(0.0, float(losses.mean())), 1.0
    test_method = "paired"
    while high - low > 1e-3:
        middle = (low + high) / 2
        p, test_method = p_value(losses, middle)
        low, high = (low, middle) if p <= delta else (middle, high)
    return high, test_method


def _choose_level(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, guarantee: Guarantee, seed: int
) -> CertifiedChoice:
    """One level of calibrated confidence for every tier, as low as accepted answers stay right often enough."""
    from .candidate_tiers import fit_tier

    models = list(columns)
    tiers = [fit_tier(columns[m][-1], splits.fit, seed) for m in models[:-1]]
    last = columns[models[-1]][-1]
    tiers.append(fit_tier(last.first_judges(last.n_free), splits.fit, seed))
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
        if len(losses) < least_rows(1.0 - guarantee.value, guarantee.delta):
            continue
        shortest = shortest or len(losses)
        tests += 1
        proof, method = p_value(losses, 1.0 - guarantee.value)
        if proof > guarantee.delta:
            break
        passed, p, test_method, n = candidate, proof, method, len(losses)
    base = {"max_loss": None, "min_accepted_quality": guarantee.value, "delta": guarantee.delta, "tests": tests}
    if passed is None:
        fewest = least_rows(1.0 - guarantee.value, guarantee.delta)
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
        return CertifiedChoice(chosen=chosen, certificate=certificate, method="split", fit_rows=splits.fit, notes=())
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
    return CertifiedChoice(chosen=passed, certificate=certificate, method="split", fit_rows=splits.fit, notes=())
