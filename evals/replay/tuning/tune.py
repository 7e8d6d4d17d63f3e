"""Chooses a cascade, its thresholds and the order in which they are tested, on the fit rows alone.

Every subset of the models in order, with and without their expensive judges, is swept exactly (``threshold_sweep``). The
outcome is a sequence of candidates from the safest to the cheapest, which ``certify`` tests in that order on rows that
tuning never saw.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evals.replay.calibration.apply_mapping import apply
from evals.replay.calibration.calibrate import SURE, fit
from evals.replay.candidate_tiers import add_agreement, first_judges_only, fit_all_tiers, fit_consensus_tiers, fit_end
from evals.replay.evidence.consensus import has_consensus, without_consensus
from evals.replay.latency import SHARE, fastest, is_in_time, late_shares, safe_share
from evals.replay.rows.input_rows import ReplayError
from evals.replay.score_table import TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.threshold_sweep import cut_points, pareto, sweep_surface
from evals.replay.voting import vote_if_better

from .candidate_cascades import candidate_cascades, consensus_cascades, is_constant
from .fallback import CandidateSequence, Conditions, begins_safe, with_shares

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# Cut points a threshold, by the number of thresholds: the sweep stays under about 20,000 vectors a ladder.
CUTS = {1: 200, 2: 60, 3: 20, 4: 12}
# The fit rows are few: their graded qualities are noisy, the fitted confidences smooth but possibly off. This much of the
# former in the blend did best among 0, 0.25, 0.5 and 1 on recordings of real models.
GRADED_SHARE = 0.25
# Pseudo-rows with a loss, so that no variance is estimated as 0.
PRIOR_ROWS = 2.0
# A ladder is ranked by its cost where its predicted margin is this many standard errors of the certificate's rows; one that
# does not end in the premium tier has no safe end to begin the walk at, and must be predicted to pass more surely.
MARGIN = 1.2
UNSAFE_MARGIN = 2.5
PRICE_ROWS = 300
MAX_SEQUENCE = 80
# The ladder that is best on the fit rows of many is in truth less good: by a standard error of its figures on those rows,
# which is 0.84 of all the noise of a test, since 70 % of the calibration rows certify.
BEST_OF_MANY = 0.84
# A test at level 0.1 passes where the mean loss is this many standard errors below the limit.
LEVEL_Z = 1.2816
NORMAL = NormalDist()
# How many ladders are tried with agreement between tiers as evidence, and with the best answer so far.
REFINED = 3


@dataclass(frozen=True, slots=True, eq=False)
class Goal:
    """What is promised of the mean loss: at most ``limit``, where a row's loss is ``reference`` minus the quality returned.

    ``reference`` (n,): the premium tier's quality for a promise on the loss, 1 for a promise on the quality itself.
    ``premium``: the model that the loss is against, whose own signals make the prediction sharper.
    """

    reference: Array
    limit: float
    premium: str | None


class SweepOption(NamedTuple):
    """A swept cascade, notes on how it was chosen, and USD a row that it is expected to cost more than its sweep says."""

    swept: SweepResult
    notes: list[str]
    extra_usd: float = 0.0


class Tuner:
    """Sweeps ladders on the fit rows.

    Args:
        columns: Each model's columns, one for each list of judges to be tried.
        fit_rows: The rows to learn from.
        goal: The promise.
        seed: Of folds.
        max_latency_s: The seconds that 95 % of the runs may take; None: any.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[TierScores]],
        fit_rows: Rows,
        goal: Goal,
        seed: int,
        *,
        max_latency_s: float | None = None,
    ) -> None:
        self.max_latency_s = max_latency_s
        self.rows, self.goal, self.seed = fit_rows, goal, seed
        own = without_consensus(columns)
        self.tiers = fit_all_tiers(own, fit_rows, seed)
        self.voters = fit_consensus_tiers(columns, fit_rows, seed)
        self.order = list(columns)
        self.ends = {model: first_judges_only(tiers[0], tiers[0].column.n_last) for model, tiers in self.tiers.items()}
        """Each model's step as the last tier of a ladder."""
        if goal.premium is not None:  # the loss is against it: its own confidence predicts nothing
            self.ends[goal.premium] = fit_end(own[goal.premium][0], fit_rows, seed)
        self.premium_usd = float(columns[self.order[-1]][0].cost_usd[fit_rows, 0].mean())
        self.refined: list[SweepResult] = []
        self._sweeps: dict[str | None, list[SweepResult]] = {}
        self._refinements: dict[int, list[tuple[SweepResult, list[str]]]] = {}
        self.premium_cost = columns[self.order[-1]][0].cost_usd[:, 0]
        self._expected: dict[int, Array] = {}
        self._cached_tiers: list[CandidateTier] = []  # ids are keys only while the steps live

    def allows(self, candidate: Candidate, rows: Rows) -> bool:
        """Whether 95 % of ``rows`` are answered in time; always where no latency was asked for."""
        if self.max_latency_s is None:
            return True
        return float((candidate.outcome(rows).latency_s > self.max_latency_s).mean()) <= 1.0 - SHARE

    def sweep(
        self,
        cascade: SimulatedCascade,
        *,
        rows: Rows | None = None,
        graded_share: float = GRADED_SHARE,
        harms_only: bool = False,
    ) -> SweepResult:
        """Predicted loss, variance and cost of every threshold vector of a cascade.

        Args:
            cascade: The cascade.
            rows: Some of the fit rows; by default all.
            graded_share: What the rows' grades weigh against the fitted confidences.
            harms_only: Whether answers that are better than the premium tier's count for nothing.
        """
        rows = self.rows if rows is None else rows
        # A tier that accepts nothing only costs, and the cascade without it is swept as well; but where later tiers read
        # their agreement with it, it may be worth asking as a witness.
        grid = CUTS.get(len(cascade.tiers) - 1, 2)
        cuts = []
        for tier_outcomes in cascade.tier_outcomes[:-1]:
            values = cut_points(np.clip(tier_outcomes.effective_confidence[rows], 0.0, 1.0), grid)
            values = values[values <= 1.0]
            cuts.append(np.union1d(values, [1.0]) if any(tier.uses_agreement for tier in cascade.tiers) else values)
        blend, squares = self.losses(cascade, graded_share, harms_only=harms_only)
        # An answer that others support is better than its own confidence says: there the grades alone count.
        at_end = [(1.0 - self.goal.reference + s.quality) / 2.0 for s in cascade.tier_outcomes] if cascade.vote else None
        mean = sweep_surface(cascade.sweep_columns(rows, blend, at_end), cuts)
        square = sweep_surface(cascade.sweep_columns(rows, squares), cuts)
        loss, second = self.moments(mean.quality, square.quality, len(rows))
        if self.max_latency_s is not None:
            late = late_shares(cascade, cuts, rows, self.max_latency_s)
            loss = np.where(late <= safe_share(len(rows)), loss, np.inf)  # too slow: never promising, however good
        usd = mean.cost.ravel() + float(cascade.before_tiers(rows)[0].mean())
        return SweepResult(cascade, tuple(cuts), loss, second, usd)

    def losses(
        self, cascade: SimulatedCascade, graded_share: float, *, harms_only: bool = False
    ) -> tuple[list[Array], list[Array]]:
        """(n,) for each tier: the loss where it answers, moved to [0, 1] as a quality, and the square of the graded loss."""
        qualities = [s.quality for s in cascade.tier_outcomes]
        losses = [self.goal.reference - q for q in qualities]
        expected = [self._loss_at(tier, i == len(qualities) - 1) for i, tier in enumerate(cascade.tiers)]
        smooth = [np.clip(loss, -1.0, 1.0) for loss in expected]
        if harms_only:  # the premium tier right and this one wrong, as if independent; never impossible (rule of succession)
            losses = [np.maximum(loss, 0.0) for loss in losses]
            own, least = [tier.confidence[:, -1] for tier in cascade.tiers], 1.0 / (len(self.rows) + 2)
            smooth = [np.clip((x + p) * (1.0 - p), least, 1.0) for x, p in zip(expected, own, strict=True)]
            smooth[-1] = np.maximum(expected[-1], 0.0)
        # Where a tier has no evidence of its own, its mean over all rows says nothing of the rows that others gave up: they
        # are the hard ones. Then the graded qualities alone count.
        shares = [
            1.0 if i and is_constant(tier) and tier.model != self.order[-1] else graded_share
            for i, tier in enumerate(cascade.tiers)
        ]
        blend = [share * g + (1 - share) * s for share, g, s in zip(shares, losses, smooth, strict=True)]
        # The kernel takes qualities in [0, 1]: losses in [-1, 1] are moved there and back.
        return [(1.0 - x) / 2.0 for x in blend], [x**2 for x in losses]

    @staticmethod
    def moments(mean: Array, square: Array, m: int) -> tuple[Array, Array]:
        """Mean loss and mean squared loss of every vector, from the surfaces over m rows."""
        return 1.0 - 2.0 * mean.ravel(), (square.ravel() * m + PRIOR_ROWS) / (m + 2 * PRIOR_ROWS)

    def _loss_at(self, tier: CandidateTier, last: bool) -> Array:
        """(n,): the loss to be expected where this step answers, given its confidence (and the premium's own signals)."""
        own = tier.confidence[:, -1]
        if self.goal.premium is None:
            return 1.0 - own
        if last and tier.model == self.goal.premium and not tier.rules:
            return np.zeros(len(own))
        expected = self._expected.get(id(tier))
        if expected is None:
            scores = {"own": own}
            reference = fit({"own": own[self.rows]}, self.goal.reference[self.rows], seed=self.seed)
            premium = apply(reference.mapping, scores)
            premium[self.rows] = reference.out_of_fold
            expected = self._expected[id(tier)] = premium - own
            self._cached_tiers.append(tier)
        if last and tier.model == self.goal.premium:
            return np.zeros(len(own))
        return expected

    def _price(self, cascade: SimulatedCascade) -> float:
        """The least USD at which the cascade is predicted to keep the limit, with a margin on ``PRICE_ROWS`` rows."""
        swept = self.sweep(cascade)
        keeps_limit = swept.margin(self.goal.limit, PRICE_ROWS) >= (MARGIN if self._ends_safe(swept) else UNSAFE_MARGIN)
        return float(swept.usd[keeps_limit].min()) if keeps_limit.any() else float("inf")

    def sweep_all(self, must_end: str | None = None) -> list[SweepResult]:
        """Every candidate cascade, swept once; the result is kept, because all promises are tuned on the same sweeps."""
        if must_end not in self._sweeps:
            cascades = [
                *candidate_cascades(self.tiers, self.ends, self._price, must_end),
                *consensus_cascades(self.tiers, self.voters, self.ends[self.order[-1]]),
            ]
            self._sweeps[must_end] = [self.sweep(cascade) for cascade in cascades]
        return self._sweeps[must_end]

    def test_sequence(
        self, n: int, *, must_end: str | None = None, limit: float | None = None, longest: int = MAX_SEQUENCE
    ) -> tuple[list[Candidate], list[str]]:
        """Candidates of the most promising cascade, from the safest to the cheapest, to be tested on ``n`` rows.

        The cascade is the one that is predicted to be cheapest where it keeps the limit with a margin. One cascade only: the
        test results of neighbouring thresholds rise and fall together, so that the sequence seldom stops by chance; mixing
        cascades, or splitting the level between several, did worse on recordings of real models.

        Args:
            n: How many rows will certify.
            must_end: The model that every cascade must end with, or None.
            limit: The largest mean loss; by default the goal's.
            longest: The most candidates.

        Returns:
            The candidates, and notes on what was chosen.
        """
        limit = self.goal.limit if limit is None else limit
        chosen, notes = self.choose_sweep(n, must_end=must_end, limit=limit)
        return self._sequence_of(chosen, n, limit, longest), notes

    def test_sequences(self, n: int, delta: float, *, must_end: str | None = None) -> list[CandidateSequence]:
        """Sequences of candidates, each of one cascade, to be tested side by side on ``n`` rows; see ``fallback``.

        Args:
            n: How many rows will certify.
            delta: The probability that what passes breaks the promise.
            must_end: The model that every cascade must end with, or None.

        Returns:
            At least one sequence, the most promising one first.
        """
        limit, sequences = self.goal.limit, list[CandidateSequence]()
        conditions = Conditions(limit=limit, delta=delta, n=n, n_fit=len(self.rows), premium_usd=self.premium_usd)
        for swept, notes, extra_usd in self.sweep_options(n, must_end=must_end, limit=limit):
            try:
                candidates = self._sequence_of(swept, n, limit, MAX_SEQUENCE)
            except ReplayError:  # no ladder of these answers in time
                if not sequences:
                    raise
                continue
            doubt = 0.0 if self._ends_safe(swept) else UNSAFE_MARGIN - MARGIN
            sequences.append(
                CandidateSequence(candidates=tuple(candidates), notes=tuple(notes), doubt=doubt, extra_usd=extra_usd)
            )
        if not any(begins_safe(replace(each, doubt=each.doubt + BEST_OF_MANY), conditions) for each in sequences):
            cautious = self._cautious_sweep(n, limit)
            if cautious is not None:
                candidates = self._sequence_of(cautious, n, limit, MAX_SEQUENCE)
                sequences = [replace(each, doubt=each.doubt + BEST_OF_MANY) for each in sequences]
                sequences.append(CandidateSequence(candidates=tuple(candidates)))
        return with_shares(sequences, conditions) if len(sequences) > 1 else sequences

    def sweep_options(self, n: int, *, must_end: str | None, limit: float) -> list[SweepOption]:
        """The most promising cascade, and safer ones to be tested beside it."""
        options = [SweepOption(*self.best_sweep(n, must_end=must_end, limit=limit))]
        if not self._ends_safe(options[0].swept):
            options.append(SweepOption(*self.best_sweep(n, must_end=self.goal.premium, limit=limit)))
        return options

    def _cautious_sweep(self, n: int, limit: float) -> SweepResult | None:
        """The best cascade that ends in the premium tier, if what it does better than that tier counts for nothing.

        From few fit rows a cheap tier may seem better than the premium one. Then the thresholds that are predicted to be the
        safest are not those that change the fewest answers.
        """
        if self.goal.premium is None or self.max_latency_s is not None:
            return None
        several = [each for each in self.sweep_all(self.goal.premium) if len(each.cascade.tiers) > 1]
        ranked = sorted(several, key=lambda each: self.rank(each, n, limit))[:REFINED]
        swept = [self.sweep(each.cascade, harms_only=True) for each in ranked]
        return min(swept, key=lambda each: self.rank(each, n, limit), default=None)

    def _ends_safe(self, swept: SweepResult) -> bool:
        """Whether a promise on the loss against the premium tier is kept where no other tier accepts."""
        return self.goal.premium in (None, swept.cascade.models[-1])

    def _sequence_of(self, chosen: SweepResult, n: int, limit: float, longest: int) -> list[Candidate]:
        """The candidates of one cascade, from the safest to the cheapest."""
        margin = chosen.margin(limit, n)
        # Pareto in (margin, cost): ``pareto`` wants a quality, and any rising number will do.
        front = pareto(margin, chosen.usd)[::-1]
        if len(front) > longest:
            front = front[np.unique(np.linspace(0, len(front) - 1, longest).round().astype(np.int64))]
        candidates = [chosen.candidate(int(i), limit) for i in front if np.isfinite(margin[i])]
        if self.max_latency_s is not None:
            candidates = [each for each in candidates if is_in_time(each, self.rows, self.max_latency_s)]
            if not candidates:
                raise ReplayError(
                    f"--max-latency {self.max_latency_s:g}: no cascade answers 95 % of the fit rows in time; the fastest "
                    f"model alone is {fastest(self.ends, self.rows)}; allow more, or offer a faster model"
                )
        return candidates

    def choose_sweep(self, n: int, *, must_end: str | None, limit: float) -> tuple[SweepResult, list[str]]:
        """The cascade whose candidates are tested, and notes on what was chosen."""
        return self.best_sweep(n, must_end=must_end, limit=limit)

    def best_sweep(self, n: int, *, must_end: str | None, limit: float) -> tuple[SweepResult, list[str]]:
        """The cascade that is expected to cost least once it is tested on ``n`` rows, and notes on what was chosen."""
        swept = self.sweep_all(must_end)
        options: list[tuple[SweepResult, list[str]]] = [(each, []) for each in swept]
        options += self._refined(swept, n, limit)
        self.refined += [each for each, _ in options[len(swept) :]]
        return min(options, key=lambda item: self.rank(item[0], n, limit))

    def rank(self, swept: SweepResult, n: int, limit: float) -> tuple[float, float, int]:
        """What is preferred: the least expected cost, then the widest margin, then the shorter cascade."""
        return self._expected_usd(swept, n, limit), -float(swept.margin(limit, n).max()), len(swept.cascade.tiers)

    def _expected_usd(self, swept: SweepResult, n: int, limit: float) -> float:
        """The mean USD to expect of a cascade once it is tested on ``n`` rows; see ``expected_usd``."""
        return self.expected_usd(swept.loss, swept.variance(limit), swept.usd, n, limit, ends_safe=self._ends_safe(swept))

    def expected_usd(
        self, loss: Array, variance: Array, usd: Array, n: int, limit: float, *, ends_safe: bool = True
    ) -> float:
        """The mean USD to expect of candidates once they are tested on ``n`` rows: the premium tier's, where none passes.

        Whether a candidate passes depends on the losses of the ``n`` rows and on the error of the prediction, which the fit
        rows are as few for. Neighbouring candidates pass or fail together.

        Args:
            loss: (candidates,), the predicted mean loss of each.
            variance: (candidates,), of a row's loss where the mean loss is ``limit``.
            usd: (candidates,), the predicted mean USD of each.
            n: How many rows will certify.
            limit: The largest mean loss.
            ends_safe: Whether the candidates end in the premium tier, so that one of them is safe.
        """
        error = np.sqrt(variance * (1 / max(n, 1) + 1 / len(self.rows)))
        z = (limit - loss - LEVEL_Z * np.sqrt(variance / max(n, 1))) / error
        if not ends_safe:
            z -= UNSAFE_MARGIN - MARGIN  # no candidate is safe, and what the fit rows predict of its end is rough
        front = pareto(z, usd)[::-1]
        passes = np.minimum.accumulate([NORMAL.cdf(float(x)) for x in z[front]])
        return float(np.append(self.premium_usd, usd[front]) @ np.append(1 - passes[0], -np.diff(passes, append=0.0)))

    def _refined(self, swept: Sequence[SweepResult], n: int, limit: float) -> list[tuple[SweepResult, list[str]]]:
        """The most promising cascades with agreement as evidence, and with the best answer so far, where that shows a gain.

        Agreement is tried on the longest cascades too: where no judge gives a score it may be all the evidence there is.
        """
        several = [each for each in swept if len(each.cascade.tiers) > 1 and not _asks_others(each.cascade)]
        ranked = sorted(several, key=lambda each: self.rank(each, n, limit))[:REFINED]
        longest = sorted(several, key=lambda each: -len(each.cascade.tiers))[:REFINED]
        refined: list[tuple[SweepResult, list[str]]] = []
        for each in {id(x): x for x in (*ranked, *longest)}.values():
            if id(each) not in self._refinements:
                self._refinements[id(each)] = self._refine(each)
            refined += self._refinements[id(each)]
        return refined

    def _refine(self, swept: SweepResult) -> list[tuple[SweepResult, list[str]]]:
        """The cascade with agreement as evidence, and each with the best answer so far, where the fit rows show a gain."""
        errors = SURE if swept.cascade.models[-1] == self.goal.premium else 1.0
        tiers, notes = add_agreement(swept.cascade.tiers, self.rows, self.seed, errors_at_end=errors)
        options: list[tuple[SweepResult, list[str]]] = [(swept, [])]
        if notes:
            options.append((self.sweep(SimulatedCascade.from_tiers(tiers)), notes))
        refined = options[1:]
        for option, option_notes in options:
            best = option.cascade.with_final("best")
            qualities = [s.quality for s in best.tier_outcomes]
            gain = np.choose(best.fallback_tier(), qualities) - np.choose(option.cascade.fallback_tier(), qualities)
            difference = gain[self.rows]
            if difference.mean() > difference.std() / np.sqrt(len(difference)):
                why = "the most confident answer of all tiers is returned, not the last one: better on the fit rows"
                refined.append((self.sweep(best), [*option_notes, why]))
            refined += [(self.sweep(each), [*option_notes, why]) for each, why in vote_if_better(option.cascade, self.rows)]
        return refined


def _asks_others(cascade: SimulatedCascade) -> bool:
    """Whether a tier's judges ask other models: they are evidence of agreement already."""
    return any(has_consensus(tier.column) for tier in cascade.tiers)
