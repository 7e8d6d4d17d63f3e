"""A ladder over the score table: what would be returned and paid, row by row, as ``cascade.engine.decide`` decides it.

This is the numpy twin of the engine; a property test holds the two equal on random tables with ties, vetoes and missing
scores, and every chosen policy is run through the engine itself before it is written.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from cascade.engine.decide import decide_vote
from cascade.policy.calibrators import Calibrator
from cascade.policy.vote_spec import VoteSpec

from .prompt_predictor import PromptScores
from .score_table import NO_MEANING, TierScores
from .threshold_sweep import TierColumns

Array = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Rows = npt.NDArray[np.int64]
NOT_ASKED = -1.0
"""Below every confidence, so that a tier that was not asked is never the best answer so far."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CandidateTier:
    """A candidate tier of a ladder: a model's column, the fitted mappings, the thresholds of all stages but the last.

    ``calibrators`` (S + 1, for each judge prefix) gave ``confidence`` (n, S + 1). ``accept_at`` and ``reject_below`` (S)
    decide before a more expensive judge is called; their last entries are None, since the cascade's threshold decides at
    the last stage. ``uses_agreement``: whether a mapping reads agreement with an earlier tier. ``prompt``: a predictor's
    value for every row; the tier is not asked where that is below ``skip_below``, and the next one is asked at the same time
    where it is below ``speculate_below`` (1: always). ``p95_s``: the 95th percentile of its latency, where it is stated.
    """

    column: TierScores
    calibrators: tuple[Calibrator, ...]
    confidence: Array
    accept_at: tuple[float | None, ...]
    reject_below: tuple[float | None, ...]
    uses_agreement: bool = False
    prompt: PromptScores | None = None
    skip_below: float | None = None
    speculate_below: float | None = None
    p95_s: float | None = None

    @property
    def skipped(self) -> Flags:
        """(n,): the rows that do not ask the tier."""
        if self.prompt is None or self.skip_below is None:
            return np.zeros(len(self.column.vetoed), dtype=bool)
        return np.nan_to_num(self.prompt.probability, nan=0.0) < self.skip_below  # as ``decide_before``

    @property
    def speculates(self) -> Flags:
        """(n,): the rows that ask the next tier at the same time."""
        n = len(self.column.vetoed)
        if self.speculate_below is None:
            return np.zeros(n, dtype=bool)
        if self.speculate_below >= 1.0:
            return np.ones(n, dtype=bool)
        return np.zeros(n, dtype=bool) if self.prompt is None else self.prompt.probability < self.speculate_below

    @property
    def reads_prompt(self) -> bool:
        """Whether anything reads what the predictor says."""
        speculates = self.speculate_below is not None and self.speculate_below < 1.0
        return self.skip_below is not None or speculates or any(each.reads_prompt for each in self.calibrators)

    @property
    def model(self) -> str:
        """The model's name in the recording."""
        return self.column.model

    @property
    def rules(self) -> list[dict[str, Any]]:
        """The judges as a policy writes them, with the stages' thresholds."""
        return [
            {**rule, **{k: v for k, v in (("accept_at", a), ("reject_below", r)) if v is not None}}
            for rule, a, r in zip(self.column.rules, self.accept_at, self.reject_below, strict=True)
        ]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TierOutcome:
    """How a step's judging ends, row by row (n,): at the last stage, or where a veto or a stage's thresholds end it before.

    ``early`` is 1 where a stage accepted early, -1 where one gave up early or a veto fell, else 0: the threshold decides.
    ``scored``: whether any judge so far could score the answer, or the mapping reads its agreement with earlier tiers.
    """

    confidence: Array
    early: npt.NDArray[np.int8]
    vetoed: Flags
    scored: Flags
    quality: Array
    cost_usd: Array
    latency_s: Array
    meaning: Ints

    @property
    def effective_confidence(self) -> Array:
        """The confidence that a threshold in [0, 1] meets: 1 where accepted early, -inf where given up."""
        return np.where(self.early > 0, 1.0, np.where(self.early < 0, -np.inf, self.confidence))


def simulate_tier(tier: CandidateTier) -> TierOutcome:
    """Walks the stages as ``cascade.engine.decide`` does."""
    column = tier.column
    n, last = len(column.vetoed), column.scores.shape[1]
    at, early = np.full(n, last), np.zeros(n, dtype=np.int8)
    # A wrong tool call is vetoed before the first judge.
    undecided = ~column.vetoed[:, 0]
    at[~undecided], early[~undecided] = 0, -1
    for stage in range(last):
        here = stage + 1
        vetoed_now = undecided & column.vetoed[:, here]
        at[vetoed_now], early[vetoed_now] = here, -1
        undecided &= ~vetoed_now
        if here == last:
            break
        p, up, low = tier.confidence[:, here], tier.accept_at[stage], tier.reject_below[stage]
        accepted_now = undecided & (p >= up) if up is not None else np.zeros(n, dtype=bool)
        at[accepted_now], early[accepted_now] = here, 1
        undecided &= ~accepted_now
        rejected_now = undecided & (p < low) if low is not None else np.zeros(n, dtype=bool)
        at[rejected_now], early[rejected_now] = here, -1
        undecided &= ~rejected_now
    rows = np.arange(n)
    # Before the first judge nothing is scored.
    scored = np.logical_or.accumulate(np.column_stack([np.zeros(n, dtype=bool), ~np.isnan(column.scores)]), axis=1)
    outcome = TierOutcome(
        confidence=tier.confidence[rows, at],
        early=early,
        vetoed=column.vetoed[rows, at],
        scored=scored[rows, at] | any(calibrator.reads_agreement for calibrator in tier.calibrators),
        quality=column.quality[rows, at],
        cost_usd=column.cost_usd[rows, at],
        latency_s=column.latency_s[rows, at],
        meaning=column.meaning[rows, at],
    )
    skipped = tier.skipped
    if not skipped.any():
        return outcome
    return replace(
        outcome,
        # What was not asked accepts nothing, costs nothing, and is no answer to fall back on.
        confidence=np.where(skipped, NOT_ASKED, outcome.confidence),
        early=np.where(skipped, -1, outcome.early).astype(np.int8),
        vetoed=outcome.vetoed | skipped,
        scored=outcome.scored & ~skipped,
        cost_usd=np.where(skipped, 0.0, outcome.cost_usd),
        latency_s=np.where(skipped, 0.0, outcome.latency_s),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Outcome:
    """What a ladder does on m rows: each (m,). ``tier`` is the place on the ladder of the answer that is returned."""

    quality: Array
    cost_usd: Array
    latency_s: Array
    tier: Ints
    last_called: Ints
    confidence: Array
    accepted: Flags


@dataclass(frozen=True, slots=True, eq=False)
class SimulatedCascade:
    """Tiers in order.

    ``final``: "last" returns the last tier's answer where none was accepted, "best" the surest of all, "vote" the one with
    the highest posterior, for which ``vote`` says how answers are weighed.
    """

    tiers: tuple[CandidateTier, ...]
    tier_outcomes: tuple[TierOutcome, ...]
    final: str = "last"
    vote: VoteSpec | None = None
    _winners: tuple[Ints, Array] | None = None

    @classmethod
    def from_tiers(
        cls, tiers: Sequence[CandidateTier], final: str = "last", vote: VoteSpec | None = None
    ) -> "SimulatedCascade":
        """A ladder of these steps, settled."""
        return cls(tuple(tiers), tuple(simulate_tier(tier) for tier in tiers)).with_final(final, vote)

    @property
    def models(self) -> tuple[str, ...]:
        """The models in order."""
        return tuple(tier.model for tier in self.tiers)

    def with_final(self, final: str, vote: VoteSpec | None = None) -> "SimulatedCascade":
        """The same tiers with another final rule; ``vote`` is what that of the name weighs answers by."""
        changed = replace(self, final=final, vote=vote, _winners=None)
        return replace(changed, _winners=changed._vote()) if vote is not None else changed

    def _vote(self, skipped: Collection[int] = ()) -> tuple[Ints, Array]:
        """(n,): the place of the answer that wins the vote, -1 where no answer has one; (n,): its posterior."""
        assert self.vote is not None
        return self._votes(self.vote, slice(None), skipped)

    def winners(self, vote: VoteSpec, rows: Ints) -> Ints:
        """(m,): the place of the answer that wins a vote, -1 where no answer has one, without the work of its posterior.

        Args:
            vote: How the answers are weighed.
            rows: Which of the rows.
        """
        confidence, meaning, absent = self._voters(rows)
        # Where no two say the same, the most confident answer wins, of equals that of the highest tier.
        ranked = np.where(absent, -np.inf, confidence)[:, ::-1]
        places = np.where(absent.all(axis=1), -1, len(self.tiers) - 1 - np.argmax(ranked, axis=1))
        same = np.zeros(len(rows), dtype=bool)
        for i, j in combinations(range(len(self.tiers)), 2):
            same |= ~absent[:, i] & ~absent[:, j] & (meaning[:, i] == meaning[:, j])
        places[same], _ = self._votes(vote, rows[same])
        return places

    def _voters(self, rows: Ints | slice, skipped: Collection[int] = ()) -> tuple[Array, Ints, Flags]:
        """(m, tiers) each: how confident the answers are, what they mean, and which have no vote."""
        outcomes = self.tier_outcomes
        absent = [(s.vetoed | (s.meaning == NO_MEANING) | (i in skipped))[rows] for i, s in enumerate(outcomes)]
        confidence, meaning = [s.confidence[rows] for s in outcomes], [s.meaning[rows] for s in outcomes]
        return np.stack(confidence, axis=1), np.stack(meaning, axis=1), np.stack(absent, axis=1)

    def _votes(self, vote: VoteSpec, rows: Ints | slice, skipped: Collection[int] = ()) -> tuple[Ints, Array]:
        """(m,): the place of the answer that wins the vote, -1 where no answer has one; (m,): its posterior."""
        alternatives, exponent = vote.alternatives, vote.exponent
        confidence, meaning, absent = self._voters(rows, skipped)
        places, posteriors = np.full(len(meaning), -1), np.zeros(len(meaning))
        for row, (p, meanings, out) in enumerate(zip(confidence.tolist(), meaning.tolist(), absent.tolist(), strict=True)):
            clusters = [None if o else m for m, o in zip(meanings, out, strict=True)]
            winner = decide_vote(p, clusters, alternatives=alternatives, exponent=exponent)
            if winner is not None:
                places[row], posteriors[row] = winner
        return places, posteriors

    def fallback_tier(self, skipped: Collection[int] = ()) -> Ints:
        """(n,): the place of the answer returned where no tier but perhaps the last accepts, by ``engine.best``.

        Args:
            skipped: Places of tiers that are not asked.
        """
        vetoed = np.stack([s.vetoed | (i in skipped) for i, s in enumerate(self.tier_outcomes)], axis=1)
        confidence = np.stack(
            [
                np.full_like(s.confidence, NOT_ASKED) if i in skipped else s.confidence
                for i, s in enumerate(self.tier_outcomes)
            ],
            axis=1,
        )
        # An answer without a veto before one with, then the surest, then the highest tier.
        ranked = np.where(vetoed, confidence - 2.0, confidence)[:, ::-1]
        best = len(self.tiers) - 1 - np.argmax(ranked, axis=1)
        if self._winners is not None:
            places, _ = self._vote(skipped) if skipped else self._winners
            return np.where(places < 0, best, places).astype(np.int64)
        if self.final == "best":
            return np.asarray(best, dtype=np.int64)
        return np.where(vetoed[:, -1], best, len(self.tiers) - 1).astype(np.int64)

    def before_tiers(self, rows: Rows) -> tuple[Array, Array]:
        """(m,) USD and (m,) seconds of what a run asks for before its tiers: the embedding of its prompt."""
        usd, seconds = np.zeros(len(rows)), np.zeros(len(rows))
        for tier in self.tiers:
            scores = tier.prompt
            if scores is not None and scores.embedding_usd is not None and tier.reads_prompt:
                assert scores.embedding_s is not None
                usd, seconds = np.maximum(usd, scores.embedding_usd[rows]), np.maximum(seconds, scores.embedding_s[rows])
        return usd, seconds

    def sweep_columns(
        self, rows: Ints, quality: Sequence[Array] | None = None, at_end: Sequence[Array] | None = None
    ) -> list[TierColumns]:
        """What the frontier sweeps; ``quality`` (one (n,) a step) replaces the recorded one.

        ``at_end`` replaces that where no tier accepts.
        """
        qualities = [s.quality for s in self.tier_outcomes] if quality is None else list(quality)
        fallback_tier = np.choose(self.fallback_tier(), qualities if at_end is None else list(at_end))[rows]
        return [
            TierColumns(
                s.effective_confidence[rows],
                fallback_tier if i == len(self.tiers) - 1 else qualities[i][rows],
                s.cost_usd[rows],
            )
            for i, s in enumerate(self.tier_outcomes)
        ]

    def _speculates(self, i: int, rows: Rows) -> Flags | None:
        """(m,): the rows of which tier ``i`` and the next one are asked at once; None: none."""
        tier = self.tiers[i]
        if tier.speculate_below is None:
            return None
        return np.asarray((tier.speculates & ~tier.skipped & ~self.tiers[i + 1].skipped)[rows])

    def outcome(self, thresholds: Sequence[float], rows: Ints, last_accept_at: float = 0.0) -> Outcome:
        """Every row's result. ``thresholds``: one for each tier but the last, whose own is ``last_accept_at``."""
        m, last = len(rows), len(self.tiers) - 1
        tier, last_called = self.fallback_tier()[rows], np.full(m, last)
        cost, latency = self.before_tiers(rows)
        undecided = np.ones(m, dtype=bool)
        accepted = np.zeros(m, dtype=bool)
        lead_s = np.zeros(m)  # how long the tier's answer has been under way when it is the tier's turn
        for i, tier_outcomes in enumerate(self.tier_outcomes):
            cost[undecided] += tier_outcomes.cost_usd[rows][undecided]
            seconds = tier_outcomes.latency_s[rows]
            if lead_s.any():
                seconds = seconds - np.minimum(lead_s, self.tiers[i].column.latency_s[rows, 0])
            latency[undecided] += seconds[undecided]
            if i == last:
                break
            accepted_now = undecided & (tier_outcomes.effective_confidence[rows] >= thresholds[i])
            speculates = self._speculates(i, rows)
            if speculates is not None:
                # The request that is not needed is cancelled, and counts in full.
                unneeded = accepted_now & speculates
                cost[unneeded] += self.tiers[i + 1].column.cost_usd[rows, 0][unneeded]
                lead_s = np.where(speculates, seconds, 0.0)
            else:
                lead_s = np.zeros(m)
            tier[accepted_now], last_called[accepted_now], accepted[accepted_now] = i, i, True
            undecided &= ~accepted_now
        accepted &= np.choose(tier, [s.scored[rows] for s in self.tier_outcomes])
        quality = np.choose(tier, [s.quality[rows] for s in self.tier_outcomes])
        confidence = np.choose(tier, [s.confidence[rows] for s in self.tier_outcomes])
        if self._winners is not None:
            places, posteriors = self._winners
            confidence = np.where(undecided & (places[rows] >= 0), posteriors[rows], confidence)
        vetoed = np.choose(tier, [s.vetoed[rows] for s in self.tier_outcomes])
        unsure = undecided & (tier == last) if self.final == "last" else undecided
        sure = unsure & ~vetoed & (confidence >= last_accept_at)
        accepted |= sure & np.choose(tier, [s.scored[rows] for s in self.tier_outcomes])
        if last_accept_at > 0.0 and self.final == "last":
            # The engine returns the best answer so far, marked as not accepted, where the last tier's is not sure enough.
            best = self.with_final("best").fallback_tier()[rows]
            weak = undecided & ~sure
            tier = np.where(weak, best, tier)
            quality = np.choose(tier, [s.quality[rows] for s in self.tier_outcomes])
            confidence = np.choose(tier, [s.confidence[rows] for s in self.tier_outcomes])
        return Outcome(
            quality=quality,
            cost_usd=cost,
            latency_s=latency,
            tier=tier,
            last_called=last_called,
            confidence=confidence,
            accepted=accepted,
        )
