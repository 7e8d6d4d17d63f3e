"""Tuning that looks at prompts: ladders with the prompt as evidence, and with tiers that the prompt rules out.

Both are compared with the best ladder that looks at no prompt, by cross-validation on the fit rows: in each fold all
thresholds are chosen on the other folds. Skips are kept where they save more than the standard error at the promise, and the
prompt as evidence where it saves with 95 % confidence.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from evals.replay.calibration.calibrate import SURE
from evals.replay.latency import is_in_time
from evals.replay.score_table import TierScores
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate, SweepResult
from evals.replay.threshold_sweep import cut_points

from .skips import CUTS, SkipSweep, can_skip, skip_cut_points, sweep_with_skips
from .tune import GRADED_SHARE, Goal, SweepOption, Tuner

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

# How many ladders are swept with skip thresholds: of two tiers, and longer ones.
PAIRS, LONGER = 24, 6
# Ladders are compared at these margins, in standard errors of the certificate's rows.
SAFETY = (1.0, 1.5, 2.0, 2.5, 3.0)
FOLDS = 5
# Skips are kept where they save more than this many standard errors; the prompt as evidence, which may lower a threshold
# for the wrong answers, where it surely saves.
LEAST_GAIN = 1.0
_STREAM = 11


class Saving(NamedTuple):
    """USD a row that one ladder costs less than another at the same promise, and the standard error."""

    mean: float
    error: float

    def __str__(self) -> str:
        return f"${1000 * self.mean:.4g} per 1,000 prompts in cross-validation, standard error {1000 * self.error:.2g}"


class PromptTuner(Tuner):
    """A tuner whose columns may have prompts; without a predictor it is a ``Tuner`` that looks at none.

    With ``skips=False`` no tier is skipped: a run that asks two tiers at once does not wait for the first.
    """

    def __init__(
        self,
        columns: Mapping[str, Sequence[TierScores]],
        fit_rows: Rows,
        goal: Goal,
        seed: int,
        *,
        max_latency_s: float | None = None,
        skips: bool = True,
    ) -> None:
        super().__init__(without_prompts(columns), fit_rows, goal, seed, max_latency_s=max_latency_s)
        self.prompted: Tuner | None = None
        self.skips = skips
        self._skip_sweeps: dict[int, SkipSweep] = {}
        self._costs: dict[tuple[int, float, int], Array] = {}
        scores = {
            model: of_model[0].prompts.fit(of_model[0].quality[:, 0], fit_rows, seed)
            for model, of_model in columns.items()
            if of_model[0].prompts is not None
        }
        if any(of_model.predictor is not None for of_model in scores.values()):
            # What the prompt says may also decide whether two tiers are asked at once.
            for model, tiers in self.tiers.items():
                self.tiers[model] = [replace(tier, prompt=scores.get(model)) for tier in tiers]
            self.prompted = Tuner(columns, fit_rows, goal, seed, max_latency_s=max_latency_s)

    def choose_sweep(self, n: int, *, must_end: str | None, limit: float) -> tuple[SweepResult, list[str]]:
        """The best cascade that looks at no prompt, or in its place one that does and shows a gain; and notes."""
        swept, notes, _ = self.sweep_options(n, must_end=must_end, limit=limit)[0]
        return swept, notes

    def sweep_options(self, n: int, *, must_end: str | None, limit: float) -> list[SweepOption]:
        """The best cascade that looks at prompts, where it shows a gain, and those that look at none.

        The first costs more than its sweep says by as much as it saves less in cross-validation.
        """
        plain = super().sweep_options(n, must_end=must_end, limit=limit)
        (chosen, notes, _), prompted = plain[0], self.prompted
        if prompted is None:
            return plain
        options = [prompted.best_sweep(n, must_end=must_end, limit=limit)]
        if self.skips and (skipping := self._best_with_skips(n, must_end, limit)) is not None:
            options.append((skipping, []))
        for swept, of_swept in sorted(options, key=lambda option: prompted.rank(option[0], n, limit)):
            if not _reads_prompts(swept) or prompted.rank(swept, n, limit) >= self.rank(chosen, n, limit):
                continue
            if self.max_latency_s is not None and not self._some_in_time(swept, n, limit):
                continue
            saving = self.saving(swept, chosen, n, limit)
            how = "a tier is not asked where the prompt says that it would be wrong"
            how = how if isinstance(swept, SkipSweep) else "the prompt is evidence of the confidence"
            if saving.mean > (LEAST_GAIN if isinstance(swept, SkipSweep) else SURE) * saving.error:
                self.refined.append(swept)
                promised = self.rank(chosen, n, limit)[0] - prompted.rank(swept, n, limit)[0]
                extra_usd = max(0.0, promised - saving.mean)
                return [SweepOption(swept, [*of_swept, f"{how}: saves {saving}"], extra_usd), *plain]
            notes = [*notes, f"not used: {how}; it would save {saving}"]
        return [SweepOption(chosen, notes), *plain[1:]]

    def _some_in_time(self, swept: SweepResult, n: int, limit: float) -> bool:
        """Whether some of the vectors that keep the limit answer in time."""
        assert self.max_latency_s is not None
        candidates = [_cheapest(swept, level, n, limit) for level in SAFETY]
        return any(is_in_time(each, self.rows, self.max_latency_s) for each in candidates if each is not None)

    def _best_with_skips(self, n: int, must_end: str | None, limit: float) -> SkipSweep | None:
        """The most promising cascade with skip thresholds."""
        assert self.prompted is not None
        able = [each for each in self.prompted.sweep_all(must_end) if can_skip(each.cascade)]
        able.sort(key=lambda each: self.rank(each, n, limit))
        pairs = [each for each in able if len(each.cascade.tiers) == 2][:PAIRS]
        longer = [each for each in able if len(each.cascade.tiers) > 2][:LONGER]
        for each in (*pairs, *longer):
            if id(each) not in self._skip_sweeps:
                self._skip_sweeps[id(each)] = sweep_skips(self.prompted, each.cascade)
        tried = [self._skip_sweeps[id(each)] for each in (*pairs, *longer)]
        return min(tried, key=lambda each: self.rank(each, n, limit), default=None)

    def saving(self, swept: SweepResult, chosen: SweepResult, n: int, limit: float) -> Saving:
        """What ``swept``, which looks at prompts, saves against ``chosen``, which does not.

        Both are taken at the same predicted margins. A ladder that loses more on the held-out rows than was predicted would
        have to be more careful to keep the promise: that excess costs as much as its own thresholds would pay to avoid it.
        """
        assert self.prompted is not None
        new, old = self._at_promise(self.prompted, swept, n, limit), self._at_promise(self, chosen, n, limit)
        price = self._price_of_loss(swept, n, limit)
        rows = old[:, 0] - new[:, 0] + price * (old[:, 1] - new[:, 1])
        return Saving(float(rows.mean()), float(rows.std(ddof=1)) / len(rows) ** 0.5)

    def _at_promise(self, tuner: Tuner, swept: SweepResult, n: int, limit: float) -> Array:
        """(fit rows, 2): USD and excess loss of each row, the mean over ``SAFETY``; its thresholds are of other folds."""
        key = (id(swept), limit, n)
        if key not in self._costs:
            figures = np.zeros((len(self.rows), 2))
            fold = np.random.default_rng((self.seed, _STREAM)).permutation(len(self.rows)) % FOLDS
            losses = [1.0 - 2.0 * blend for blend in tuner.losses(swept.cascade, GRADED_SHARE)[0]]
            for k in range(FOLDS):
                training, held_out = self.rows[fold != k], self.rows[fold == k]
                again = (
                    sweep_skips(tuner, swept.cascade, training)
                    if isinstance(swept, SkipSweep)
                    else tuner.sweep(swept.cascade, rows=training)
                )
                for level in SAFETY:
                    figures[fold == k] += self._figures(_cheapest(again, level, n, limit), losses, held_out)
            self._costs[key] = figures / len(SAFETY)
        return self._costs[key]

    def _figures(self, candidate: Candidate | None, losses: Sequence[Array], rows: Rows) -> Array:
        """(m, 2): USD of a candidate, or of the premium tier alone, and the loss beyond what its own rows predicted."""
        if candidate is None:
            return np.stack([self.premium_cost[rows], np.zeros(len(rows))], axis=1)
        outcome = candidate.outcome(rows)
        excess = np.choose(outcome.tier, [loss[rows] for loss in losses]) - candidate.loss
        return np.stack([outcome.cost_usd, excess], axis=1)

    def _price_of_loss(self, swept: SweepResult, n: int, limit: float) -> float:
        """USD that a loss of 1 is worth: what the ladder saves for it between the widest margin and the least."""
        safe, bold = (_cheapest(swept, level, n, limit) for level in (SAFETY[-1], SAFETY[0]))
        if bold is None:
            return self.premium_usd / limit
        usd, loss = (safe.usd, safe.loss) if safe is not None else (self.premium_usd, 0.0)
        most = self.premium_usd / limit
        return min(most, max(0.0, usd - bold.usd) / max(bold.loss - loss, 1e-9)) if bold.loss > loss else most


def sweep_skips(tuner: Tuner, cascade: SimulatedCascade, rows: Rows | None = None) -> SkipSweep:
    """Predicted loss, variance and cost of every vector of skip and accept thresholds of a cascade.

    Args:
        tuner: The tuner of the cascade's tiers.
        cascade: The cascade, whose tiers skip nothing yet.
        rows: Some of the fit rows; by default all.
    """
    n_skip, n_accept = CUTS[len(cascade.tiers) - 1]
    rows = tuner.rows if rows is None else rows
    skip_cuts = [skip_cut_points(tier, rows, n_skip) for tier in cascade.tiers[:-1]]
    cuts = [
        cut_points(np.clip(outcome.effective_confidence[rows], 0.0, 1.0), n_accept) for outcome in cascade.tier_outcomes[:-1]
    ]
    cuts = [values[values <= 1.0] for values in cuts]
    blend, squares = tuner.losses(cascade, GRADED_SHARE)
    mean, usd = sweep_with_skips(cascade, rows, blend, skip_cuts, cuts)
    square, _ = sweep_with_skips(cascade, rows, squares, skip_cuts, cuts)
    loss, second = tuner.moments(mean, square, len(rows))
    usd = usd.ravel() + float(replace(cascade, tiers=tiers_that_skip(cascade)).before_tiers(rows)[0].mean())
    return SkipSweep(cascade, tuple(cuts), loss, second, usd, tuple(skip_cuts))


def tiers_that_skip(cascade: SimulatedCascade) -> tuple[CandidateTier, ...]:
    """The tiers as those of a vector with skip thresholds, whose predictors are read."""
    return (*(replace(tier, skip_below=0.5) for tier in cascade.tiers[:-1]), cascade.tiers[-1])


def _cheapest(swept: SweepResult, level: float, n: int, limit: float) -> Candidate | None:
    """The cheapest vector that is predicted to keep the limit with a margin of ``level``; None where there is none."""
    safe = np.flatnonzero(swept.margin(limit, n) >= level)
    return swept.candidate(int(safe[np.argmin(swept.usd[safe])]), limit) if len(safe) else None


def _reads_prompts(swept: SweepResult) -> bool:
    """Whether a tier is skipped by the prompt, or a confidence reads it."""
    tiers = swept.cascade.tiers
    return isinstance(swept, SkipSweep) or any(c.reads_prompt for tier in tiers for c in tier.calibrators)


def without_prompts(columns: Mapping[str, Sequence[TierScores]]) -> dict[str, list[TierScores]]:
    """The columns without the features of prompts."""
    return {model: [replace(column, prompts=None) for column in of_model] for model, of_model in columns.items()}
