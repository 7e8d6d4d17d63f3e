"""A promise, the score table and the splits -> the ladder to use, and the certificate of what was proved of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evals.replay.by_prompt import PromptTuner, without_prompts
from evals.replay.calibrate import SURE
from evals.replay.candidate_tiers import fit_end, fit_tier
from evals.replay.fallback import CandidateSequence
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import SimulatedCascade
from evals.replay.statistics.certify import METHODS, Certificate, least_rows, p_value
from evals.replay.statistics.side_by_side import as_certificate, check_side_by_side
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.tune import Goal, Tuner

from . import fixed_grid
from .menu import MenuLine, certify_menu, rows_in_all, saves

Array = npt.NDArray[np.float64]
Kind = Literal["max_loss", "min_quality", "min_accepted_quality", "budget", "error_price"]
Method = Literal["auto", "split", "preset"]


TunerFactory = Callable[[Mapping[str, Sequence[TierScores]], npt.NDArray[np.int64], Goal, int], Tuner]
"""Makes a tuner from columns, fit rows, goal and seed."""


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
    """The chosen candidate and how it was found.

    ``guarantee`` is the promise that ``certificate`` is about. ``fit_rows``: rows whose labels the confidences were fitted
    on. ``swept``: every cascade that tuning considered, empty where nothing was tuned. ``menu``: one line for each promise
    where several were tested together. ``last_fit_rows``: those of the last tier, where they are others.
    """

    chosen: Candidate
    certificate: Mapping[str, Any]
    guarantee: Guarantee
    method: str
    fit_rows: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()
    swept: tuple[SweepResult, ...] = ()
    menu: tuple[MenuLine, ...] = ()
    last_fit_rows: npt.NDArray[np.int64] | None = None


def choose_certified(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    guarantee: Guarantee,
    *,
    seed: int = 0,
    method: Method = "auto",
    must_end: str | None = None,
    tuner_class: TunerFactory = PromptTuner,
) -> CertifiedChoice:
    """The cheapest cascade that can be proved to keep one promise, or the premium tier alone where there is none.

    Tunes on ``splits.fit`` and certifies on ``splits.certify``, or tests a fixed grid on both parts where that is possible.

    Args:
        columns: Each model's scores, one entry for each list of judges to try; cheapest model first, the premium tier last.
        splits: The rows; ``test`` is never read.
        guarantee: The promise.
        seed: Of folds.
        method: "preset" tests a grid fixed beforehand, "split" tunes first; "auto" takes the grid for two models and a
            single score.
        must_end: The model that every cascade must end with.
        tuner_class: Makes what tunes: by default a tuner that looks at prompts where the columns have them.
    """
    if guarantee.kind not in ("max_loss", "min_quality"):
        columns = without_prompts(columns)
    if guarantee.kind in ("budget", "error_price"):
        return _choose_by_cost(columns, splits, guarantee, seed, must_end)
    if guarantee.kind == "min_accepted_quality":
        return _choose_level(columns, splits, guarantee, seed)
    premium = list(columns)[-1]
    quality, premium_usd = columns[premium][0].quality[:, 0], columns[premium][0].cost_usd[:, 0]
    against_premium = guarantee.kind == "max_loss"
    reference = quality if against_premium else np.ones(len(quality))
    limit = guarantee.value if against_premium else 1.0 - guarantee.value
    swept: tuple[SweepResult, ...] = ()
    fixed, tuner = None, None
    if method != "split" and tuner_class is PromptTuner and all(len(c) == 1 for c in columns.values()):
        fixed = fixed_grid.candidate_sequence([c[0] for c in columns.values()], splits.calibration)
    if fixed is not None:
        rows, tuned_on, how = splits.calibration, splits.calibration, "preset"
        sequences = [CandidateSequence(candidates=tuple(fixed))]
    else:
        goal = Goal(reference, limit, premium if against_premium else None)
        tuner = tuner_class(columns, splits.fit, goal, seed)
        rows, tuned_on, how = splits.certify, splits.fit, "split"
        sequences = tuner.test_sequences(len(rows), guarantee.delta, must_end=must_end)
        swept = (*tuner.sweep_all(must_end), *tuner.refined)
    losses = [[reference[rows] - c.outcome(rows).quality for c in each.candidates] for each in sequences]
    proofs = check_side_by_side(losses, [s.share for s in sequences], limit, guarantee.delta, paired=against_premium)
    # Which of the proved ones is used may depend on any rows.
    passed: list[tuple[float, int, int]] = []
    for i, (sequence, tested) in enumerate(zip(sequences, proofs, strict=True)):
        usable = [
            (float(candidate.outcome(splits.calibration).cost_usd.mean()), i, position)
            for position, candidate in enumerate(sequence.candidates[: tested.n_passed])
            if tuner is None or tuner.allows(candidate, splits.calibration)
        ]
        passed += sorted(usable)[:1]
    for _, i, position in sorted(passed):
        chosen = sequences[i].candidates[position]
        if against_premium and not saves(chosen, premium_usd, tuned_on):
            continue
        proof = as_certificate(proofs, losses, limit, guarantee.delta, at=(i, position), paired=against_premium)
        if how == "preset":
            chosen = fixed_grid.with_confidence(chosen, rows, seed)
        chosen, last_fit_rows = (chosen, None) if how == "preset" else refit_last(chosen, splits, seed)
        return CertifiedChoice(
            chosen=chosen,
            certificate=proof.to_json() | {"words": _success_words(guarantee, proof)},
            guarantee=guarantee,
            method=how,
            fit_rows=rows if how == "preset" else splits.fit,
            notes=sequences[i].notes,
            swept=swept,
            last_fit_rows=last_fit_rows,
        )
    at = (len(proofs) - 1, proofs[-1].n_passed - 1) if proofs[-1].n_passed else None
    proof = as_certificate(proofs, losses, limit, guarantee.delta, at=at, paired=against_premium)
    certificate, premium_alone = proof.to_json(), _premium_alone(columns[premium][0], splits, seed)
    if len(columns) == 1 and against_premium:
        words = "There is one tier, so there is nothing to prove: it answers every prompt, and loses nothing to itself."
        certificate |= {"certified": True, "method": "a single tier: nothing is lost", "needed_n": None, "words": words}
    elif passed:
        words = (
            "Cascades keep the promise, but none costs less than the premium tier alone by more than the standard error of "
            "the saving; the premium tier alone is used."
        )
        certificate |= {"certified": True, "method": "the premium tier alone: nothing is lost", "words": words}
    else:
        certificate |= _refusal(proof, guarantee, splits, len(rows), reference[rows] - premium_alone.outcome(rows).quality)
    return CertifiedChoice(
        chosen=premium_alone,
        certificate=certificate,
        guarantee=guarantee,
        method=how,
        fit_rows=splits.calibration,
        swept=swept,
    )


def choose_from_menu(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    promises: Sequence[float],
    delta: float,
    *,
    choose: float | None = None,
    seed: int = 0,
    must_end: str | None = None,
    tuner_class: TunerFactory = PromptTuner,
) -> CertifiedChoice:
    """Tests several promises on the loss against the premium tier in one procedure, and takes one line of the menu.

    Args:
        columns: As for ``choose_certified``.
        splits: The rows; ``test`` is never read.
        promises: The largest mean losses, each in (0, 1).
        delta: The probability that any line of the menu is broken.
        choose: The promise to use, one of ``promises``; by default the strictest that was proved with a saving.
        seed: Of folds.
        must_end: The model that every cascade must end with.
    """
    premium = list(columns)[-1]
    quality, premium_usd = columns[premium][0].quality[:, 0], columns[premium][0].cost_usd[:, 0]
    tuner = tuner_class(columns, splits.fit, Goal(quality, min(promises), premium), seed)
    menu = certify_menu(tuner, splits, premium_usd, promises, delta, must_end)
    proved = [line for line in menu if line.candidate is not None]
    wanted = [line for line in menu if line.max_loss == choose] if choose is not None else proved[:1] or menu[:1]
    line = wanted[0]
    guarantee = Guarantee("max_loss", line.max_loss, delta)
    common: dict[str, Any] = {
        "guarantee": guarantee,
        "method": "split",
        "menu": tuple(menu),
        "swept": (*tuner.sweep_all(must_end), *tuner.refined),
    }
    if line.candidate is not None:
        certificate = line.certificate.to_json() | {"p_value": line.p_value}
        certificate["words"] = (
            f"With {100 * (1 - delta):g} % confidence {guarantee.words()}: loss {line.loss:+z.4f} on the "
            f"{len(splits.certify):,} certification rows, p = {line.p_value:.4f} ({certificate['method']} over "
            f"{len(menu)} promises). It holds for prompts like those recorded."
        )
        chosen, last_fit_rows = refit_last(line.candidate, splits, seed)
        return CertifiedChoice(
            chosen=chosen,
            certificate=certificate,
            fit_rows=splits.fit,
            last_fit_rows=last_fit_rows,
            notes=line.notes,
            **common,
        )
    premium_alone = _premium_alone(columns[premium][0], splits, seed)
    certificate = line.certificate.to_json() | {"rows_in_all": line.rows_in_all}
    certificate["words"] = (
        f"Not proved on {len(splits.certify):,} certification rows: that {guarantee.words()} at a lower cost. "
        f"{_rows_words(line.rows_in_all)} The premium tier alone is used."
    )
    return CertifiedChoice(chosen=premium_alone, certificate=certificate, fit_rows=splits.calibration, **common)


def _rows_words(rows: int | None) -> str:
    """How many rows a proof would need."""
    if rows is None:
        return "More rows like these would not help."
    return f"A recording of about {rows:,} graded rows in all would be needed."


def refit_last(candidate: Candidate, splits: Splits, seed: int) -> tuple[Candidate, npt.NDArray[np.int64] | None]:
    """The same decisions with the last tier's confidence fitted on all calibration rows, and those rows.

    No threshold reads the last tier's confidence, so that the certification rows may improve it, and it is calibrated only
    where that surely helps. Where a decision on any row would change, the candidate stays as it is.
    """
    cascade, last = candidate.cascade, candidate.cascade.tiers[-1]
    if type(candidate) is not Candidate or cascade.final != "last" or candidate.last_accept_at > 0.0:
        return candidate, None
    earlier = cascade.tier_outcomes[:-1] if last.uses_agreement else ()
    whole = fit_tier(last.column, splits.calibration, seed, earlier, errors=SURE)
    whole = replace(whole, accept_at=last.accept_at, reject_below=last.reject_below)
    # Vetoed answers are ranked by the confidence before the veto: where that would change a row, those mappings stay.
    at_end = replace(
        whole,
        calibrators=(*last.calibrators[:-1], whole.calibrators[-1]),
        confidence=np.column_stack([last.confidence[:, :-1], whole.confidence[:, -1]]),
        uses_agreement=last.uses_agreement or whole.uses_agreement,
    )
    every = np.arange(len(last.column.vetoed))
    old = candidate.outcome(every)
    for refit in (whole, at_end):
        changed = replace(candidate, cascade=SimulatedCascade.from_tiers([*cascade.tiers[:-1], refit]))
        new = changed.outcome(every)
        same = np.array_equal(old.tier, new.tier) and np.array_equal(old.quality, new.quality)
        if same and np.array_equal(old.cost_usd, new.cost_usd, equal_nan=True):
            return changed, splits.calibration
    return candidate, None


def _premium_alone(column: TierScores, splits: Splits, seed: int) -> Candidate:
    return Candidate(
        cascade=SimulatedCascade.from_tiers([fit_end(column, splits.calibration, seed)]),
        thresholds=(),
        loss=0.0,
        variance=0.0,
        usd=0.0,
    )


def _refusal(proof: Certificate, guarantee: Guarantee, splits: Splits, n: int, premium_losses: Array) -> dict[str, Any]:
    """What the certificate says where no candidate passed: why, and how many rows it would take.

    Args:
        proof: The tests.
        guarantee: The promise.
        splits: The rows.
        n: How many of them certified.
        premium_losses: (n,), the loss of the premium tier alone against the promise, which may keep a least quality.
    """
    paired = guarantee.kind == "max_loss"
    in_all = rows_in_all(proof.needed_n, splits, n)
    words = f"Not proved: on {n:,} rows no cascade could be shown to keep the promise that {guarantee.words()}. "
    if proof.tests:
        words += (
            f"The safest one lost {proof.tests[0].loss:+z.4f} on average, which may be chance (p = {proof.p_value:.3f}, "
            f"needed: {proof.delta:g} or less). "
        )
    least = least_rows(proof.limit, proof.delta, paired=paired)
    if n < least:
        words += f"A cascade that differs from the premium tier on no row needs {least:,} certification rows. "
    words += f"{_rows_words(in_all)} The premium tier alone is used."
    certificate = {"certified": False, "words": words, "rows_in_all": in_all}
    if guarantee.kind == "min_quality":
        p, method = p_value(premium_losses, proof.limit, paired=False)
        if p <= guarantee.delta:
            words = f"Only the premium tier alone could be shown to keep the promise that {guarantee.words()}."
            certificate |= {"certified": True, "p_value": p, "method": METHODS[method], "words": words}
    return certificate


def _success_words(guarantee: Guarantee, proof: Certificate) -> str:
    test = proof.tests[proof.position]
    return (
        f"With {100 * (1 - guarantee.delta):g} % confidence {guarantee.words()}: loss {test.loss:+z.4f} on the {proof.n:,} "
        f"certification rows, p = {test.p_value:.4f} ({proof.method_words}, {len(proof.tests)} tests). "
        "It holds for prompts like those recorded."
    )


def _choose_by_cost(
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


def _choose_level(
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
