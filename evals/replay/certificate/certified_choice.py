"""A promise, the score table and the splits -> the ladder to use, and the certificate of what was proved of it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evals.replay.calibration.calibrate import SURE
from evals.replay.candidate_tiers import fit_end, fit_tier
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import SimulatedCascade
from evals.replay.statistics.certify import METHODS, Certificate, least_rows, p_value
from evals.replay.statistics.side_by_side import as_certificate, check_side_by_side
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.tuning.by_prompt import PromptTuner, without_prompts
from evals.replay.tuning.tune import Goal, Tuner

from . import fixed_grid
from .accepted_quality import choose_accepted_quality
from .by_cost import choose_by_cost
from .guarantee import CertifiedChoice, Guarantee
from .menu import certify_menu, rows_in_all, saves
from .proof_sequences import ProofSequence, preset_sequences, side_by_side, too_few_to_tune

Array = npt.NDArray[np.float64]
Method = Literal["auto", "split", "preset"]


TunerFactory = Callable[[Mapping[str, Sequence[TierScores]], npt.NDArray[np.int64], Goal, int], Tuner]
"""Makes a tuner from columns, fit rows, goal and seed."""


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
            single score, and tests grids beside tuned ladders where rows are too few to tune on.
        must_end: The model that every cascade must end with.
        tuner_class: Makes what tunes: by default a tuner that looks at prompts where the columns have them.
    """
    if guarantee.kind not in ("max_loss", "min_quality"):
        columns = without_prompts(columns)
    if guarantee.kind in ("budget", "error_price"):
        return choose_by_cost(columns, splits, guarantee, seed, must_end)
    if guarantee.kind == "min_accepted_quality":
        return choose_accepted_quality(columns, splits, guarantee, seed)
    premium = list(columns)[-1]
    quality, premium_usd = columns[premium][0].quality[:, 0], columns[premium][0].cost_usd[:, 0]
    against_premium = guarantee.kind == "max_loss"
    reference = quality if against_premium else np.ones(len(quality))
    limit = guarantee.value if against_premium else 1.0 - guarantee.value
    of_preset: list[ProofSequence] = []
    if method != "split" and tuner_class is PromptTuner:
        of_preset = preset_sequences(columns, splits, must_end if len(columns) > 2 else None)
    swept: tuple[SweepResult, ...] = ()
    tuner: Tuner | None = None
    if of_preset and len(columns) == 2 and all(len(of_model) == 1 for of_model in columns.values()):
        sequences = of_preset
    else:
        goal = Goal(reference, limit, premium if against_premium else None)
        tuner = tuner_class(columns, splits.fit, goal, seed)
        tuned = tuner.test_sequences(len(splits.certify), guarantee.delta, must_end=must_end)
        beside = of_preset if method == "auto" and too_few_to_tune(len(splits.certify), limit) else []
        sequences = side_by_side(tuned, beside, splits)
        swept = (*tuner.sweep_all(must_end), *tuner.refined)
    losses = [[reference[each.rows] - c.outcome(each.rows).quality for c in each.candidates] for each in sequences]
    proofs = check_side_by_side(
        losses,
        [each.share for each in sequences],
        limit,
        guarantee.delta,
        paired=against_premium,
        fixed=[each.preset for each in sequences],
    )
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
        sequence = sequences[i]
        chosen = sequence.candidates[position]
        if against_premium and not saves(chosen, premium_usd, sequence.chosen_on):
            continue
        proof = as_certificate(proofs, losses, limit, guarantee.delta, at=(i, position), paired=against_premium)
        last_fit_rows = None
        if sequence.preset:
            chosen = fixed_grid.with_confidence(chosen, sequence.rows, seed)
        else:
            chosen, last_fit_rows = refit_last(chosen, splits, seed)
        return CertifiedChoice(
            chosen=chosen,
            certificate=proof.to_json() | {"words": _success_words(guarantee, proof)},
            guarantee=guarantee,
            method="preset" if sequence.preset else "split",
            fit_rows=sequence.chosen_on,
            notes=sequence.notes,
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
        rows = sequences[-1].rows
        certificate |= _refusal(proof, guarantee, splits, len(rows), reference[rows] - premium_alone.outcome(rows).quality)
    return CertifiedChoice(
        chosen=premium_alone,
        certificate=certificate,
        guarantee=guarantee,
        method="preset" if sequences[-1].preset else "split",
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
    lines = [line for line in menu if line.max_loss == choose] if choose is not None else proved[:1] or menu[:1]
    line = lines[0]
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
