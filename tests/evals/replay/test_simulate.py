"""The numpy ladder against the engine itself: random tables with ties, vetoes, missing scores, early decisions."""

import asyncio
import atexit
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import judges
from cascade import Cascade, Policy, Result
from cascade.models.recorded import RecordedModel
from cascade.policy.calibrators import Calibrator, Constant, Feature, Isotonic, Logistic
from cascade.policy.predictor import Predictor
from cascade.policy.vote_spec import VoteSpec
from evals.recording import Example
from evals.replay.candidate_tiers import add_agreement, agreement_scores, first_judges_only, fit_tier, tier_variants
from evals.replay.prompt_predictor import PromptScores
from evals.replay.score_table import TierScores, _meaning, score_tier
from evals.replay.simulate import CandidateTier, SimulatedCascade, TierOutcome, simulate_tier
from evals.replay.threshold_sweep import sweep_surface
from evals.replay.tuning.skips import can_skip, sweep_with_skips
from judges import Prompt
from judges.prompt import PROMPT_SCORE, features
from judges.protocol import FunctionJudge

# Judges whose scores come with the recorded answers; where none is recorded they cannot tell.
SCORERS = ("told_a", "told_b", "told_c")
for _name in SCORERS:
    judges.register(_name, lambda name=_name: FunctionJudge(name, lambda prompt, answer: None))
_VETO = FunctionJudge(
    "forbids", lambda prompt, answer: judges.Verdict("forbids", veto="forbidden" in answer.text), only_vetoes=True
)
judges.register("forbids", lambda: _VETO)

# Few texts and few scores, so that answers agree and confidences tie.
TEXTS = st.sampled_from(["4", "4.0", "seven", "forbidden 4", "4.00", ""])
VOTE = VoteSpec(alternatives=10, exponent=0.5)
SCORES = st.sampled_from([None, 0.0, 0.2, 0.5, 0.5, 0.9, 1.0])
RUNNER = asyncio.Runner()  # a loop for each of thousands of small runs would take longer than they do
atexit.register(RUNNER.close)
WORDS = ("apple", "beetle", "cedar", "daisy", "elder", "fern")  # prompts that share no word
QUALITY = st.sampled_from([0.0, 0.25, 1.0])
USD = st.sampled_from([0.0, 1e-5, 3e-4, 0.01])


@dataclass(frozen=True)
class World:
    """A ladder, its thresholds and the recording that it stands on."""

    examples: tuple[Example, ...]
    cascade: SimulatedCascade
    thresholds: tuple[float, ...]
    last_accept_at: float


@st.composite
def answers(draw: st.DrawFn, samples: int) -> dict[str, Any]:
    """One recorded answer with scores of some judges."""
    scores = {name: s for name in SCORERS if (s := draw(SCORES)) is not None}
    return {
        "text": draw(TEXTS),
        "quality": draw(QUALITY),
        "cost_usd": draw(USD),
        "latency_s": draw(st.sampled_from([0.1, 2.0])),
        "verdicts": scores,
        "verdict_cost_usd": {name: draw(USD) for name in scores},
        "samples": [{"text": draw(TEXTS), "quality": draw(QUALITY), "latency_s": 0.5} for _ in range(samples)],
        "sample_cost_usd": draw(USD),
    }


@st.composite
def mappings(draw: st.DrawFn, names: Sequence[str]) -> Calibrator:
    """A mapping that reads some of the named scores."""
    kind = draw(st.sampled_from(["logistic", "isotonic", "logistic", "isotonic", "constant"])) if names else "constant"
    share = st.sampled_from([0.0, 0.1, 0.5, 0.5, 0.8, 1.0])
    if kind == "constant":
        return Constant(draw(share))
    if kind == "isotonic":
        x = sorted(draw(st.sets(st.sampled_from([0.0, 0.2, 0.5, 0.7, 1.0]), min_size=1)))
        y = sorted(draw(st.lists(share, min_size=len(x), max_size=len(x))))
        return Isotonic(draw(st.sampled_from(list(names))), tuple(zip(x, y, strict=True)), draw(share))
    used = draw(st.lists(st.sampled_from(list(names)), min_size=1, unique=True))
    some = st.lists(st.sampled_from([-1.0, 0.0, 0.3, 2.0]), min_size=len(used), max_size=len(used)).map(tuple)
    kinds = st.sampled_from(["logit", "log", "identity"])
    features = tuple(Feature(name, draw(kinds), draw(st.sampled_from([0.0, 1.0]))) for name in used)
    return Logistic(features, draw(some), draw(some), draw(st.sampled_from([-1.0, 0.0, 0.5])))


@st.composite
def predictions(draw: st.DrawFn, n: int) -> PromptScores:
    """A predictor that knows some of the prompts, with ties, and what it says of each."""
    every = [features(Prompt.of(word)) for word in WORDS[:n]]
    weights: dict[int, int] = {}
    for one in every:
        level = draw(st.sampled_from([None, -2, 0, 0, 3]))
        if level is not None:
            weights |= dict.fromkeys(one.ngrams, level)
    predictor = Predictor(
        intercept=draw(st.sampled_from([0.0, 0.5])), weights=weights, scale=0.1, lengths=(1, 99), scripts=("latin",),
        known_share=0.5,
    )  # fmt: skip
    probability = np.array([np.nan if p is None else p for p in map(predictor.probability, every)])
    return PromptScores(predictor=predictor, probability=probability, note="")


def by_hand(
    column: TierScores, calibrators: Sequence[Calibrator], earlier: Sequence[TierOutcome], prompt: PromptScores | None
) -> np.ndarray:
    """(n, S + 1): the mappings applied row by row in plain Python, so that ties with thresholds are exact."""
    n, stages = len(column.vetoed), len(column.rules)
    confidence = np.zeros((n, stages + 1))
    for stage, mapping in enumerate(calibrators):
        agree = agreement_scores(column, stage, earlier)
        for row in range(n):
            scores = {k: float(v) for k, v in zip(column.names[:stage], column.scores[row], strict=False) if v == v}
            if prompt is not None and not np.isnan(prompt.probability[row]):
                scores[PROMPT_SCORE] = float(prompt.probability[row])
            confidence[row, stage] = mapping.probability(scores | {k: float(v[row]) for k, v in agree.items()})
    return confidence


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """One to three tiers with up to three judges each, and one to six rows."""
    models = [f"m{i}" for i in range(draw(st.sampled_from([2, 3, 2, 1])))]
    kinds = [*SCORERS, "forbids", "self_consistency"]
    judge_plans = [draw(st.permutations(kinds))[: draw(st.sampled_from([2, 3, 1, 0]))] for _ in models]
    rules = [[{"use": u, "samples": 2} if u == "self_consistency" else {"use": u} for u in plan] for plan in judge_plans]
    examples = tuple(
        Example(f"e{i}", WORDS[i], {m: draw(answers(samples=2)) for m in models}) for i in range(draw(st.integers(2, 6)))
    )
    tiers: list[CandidateTier] = []
    skips = draw(st.booleans())  # what was not asked has no answer to agree with, so that one excludes the other
    for i, (model, plan) in enumerate(zip(models, rules, strict=True)):
        column = RUNNER.run(score_tier(examples, model, plan))
        earlier = [simulate_tier(s) for s in tiers]
        names_by_stage = [
            [*column.names[:stage], *([PROMPT_SCORE] if skips else [f"agrees:{j}" for j in range(len(earlier))])]
            for stage in range(len(plan) + 1)
        ]
        prompt = draw(predictions(len(examples))) if skips else None
        calibrators = tuple(draw(mappings(names)) for names in names_by_stage)
        confidence = by_hand(column, calibrators, [] if skips else earlier, prompt)
        early: list[tuple[float | None, float | None]] = []
        for stage in range(len(plan)):
            # The last tier, and the last stage of each, decide by the ladder's thresholds alone.
            free = stage + 1 < len(plan) and i + 1 < len(models)
            low, high = (
                draw(levels(confidence[:, stage + 1])) if free and draw(st.sampled_from([True, True, False])) else None
                for _ in "lh"
            )
            if low is not None and high is not None:
                low, high = min(low, high), max(low, high)
            early.append((high, low))
        tiers.append(
            CandidateTier(
                column=column,
                calibrators=calibrators,
                confidence=confidence,
                accept_at=tuple(h for h, _ in early),
                reject_below=tuple(x for _, x in early),
                prompt=prompt,
                skip_below=draw(levels(np.nan_to_num(prompt.probability))) if prompt and i + 1 < len(models) else None,
            )
        )
    final = draw(st.sampled_from(["last", "best", "vote"]))
    cascade = SimulatedCascade.from_tiers(tiers, final, draw(votes()) if final == "vote" else None)
    met = np.concatenate([s.confidence for s in cascade.tier_outcomes]).clip(0.0)  # below 0: not asked
    thresholds = tuple(draw(levels(met)) for _ in tiers[:-1])
    return World(examples, cascade, thresholds, draw(st.just(0.0) | levels(met)))


def votes() -> st.SearchStrategy[VoteSpec]:
    """How answers are weighed."""
    return st.builds(VoteSpec, alternatives=st.sampled_from([2, 2.5, 10, 1000]), exponent=st.sampled_from([0, 0.25, 1]))


def levels(confidence: np.ndarray) -> st.SearchStrategy[float]:
    """Thresholds: the ends, one that ties with a row, anything between."""
    tied = st.sampled_from([float(x) for x in np.unique(confidence)])
    return tied | st.just(float(confidence.max())) | st.sampled_from([0.0, 0.5, 1.0]) | st.floats(0, 1)


def policy_of(cascade: SimulatedCascade, thresholds: Sequence[float], last_accept_at: float) -> Policy:
    """The ladder as the policy that would be written for it."""
    tiers = [
        {
            "model": tier.model,
            "accept_at": at,
            "judges": tier.rules,
            "confidence": [c.to_json() for c in tier.calibrators],
            "predictor": tier.prompt.predictor.to_json() if tier.prompt and tier.prompt.predictor else None,
            "skip_below": tier.skip_below,
        }
        for tier, at in zip(cascade.tiers, (*thresholds, last_accept_at), strict=True)
    ]
    ends = {"final": cascade.final, "vote": cascade.vote}
    return Policy.model_validate({"tiers": tiers, **ends, "on_judge_error": "ignore", "max_calls": 1000})


async def ran(policy: Policy, examples: Sequence[Example]) -> list[Result]:
    """Every example through the engine, with recorded answers."""
    names = [t.model for t in policy.tiers]
    models = {m: RecordedModel(m, m, {e.id: e.answers[m] for e in examples}) for m in names}
    async with Cascade(policy, models=models) as cascade:
        return [await cascade.arun(e.to_prompt()) for e in examples]


def check(
    cascade: SimulatedCascade,
    thresholds: Sequence[float],
    last_accept_at: float,
    rows: np.ndarray,
    examples: Sequence[Example],
) -> None:
    """``SimulatedCascade.outcome`` on ``rows`` says what the engine does with ``examples``, one for each of the rows."""
    outcome = cascade.outcome(thresholds, rows, last_accept_at)
    for i, result in enumerate(RUNNER.run(ran(policy_of(cascade, thresholds, last_accept_at), examples))):
        tier = int(outcome.tier[i])
        assert result.answer is not None
        assert result.model == cascade.models[tier]
        assert result.answer.extra["quality"] == outcome.quality[i]
        assert _meaning(result.text) == cascade.tier_outcomes[tier].meaning[rows[i]]
        assert result.accepted == outcome.accepted[i]
        assert result.cost_usd == pytest.approx(outcome.cost_usd[i], abs=1e-12, rel=0)
        assert result.latency_s == pytest.approx(outcome.latency_s[i], abs=1e-9)
        assert result.confidence == pytest.approx(outcome.confidence[i], abs=1e-9)
        assert len(result.attempts) == outcome.last_called[i] + 1


@settings(deadline=None, max_examples=250, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds())
def test_outcome_is_what_the_engine_does(world: World) -> None:
    """Answer, tier, quality, cost, latency, confidence and acceptance of every row are the engine's."""
    check(world.cascade, world.thresholds, world.last_accept_at, np.arange(len(world.examples)), world.examples)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), st.data())
def test_surface_is_the_mean_of_outcomes(world: World, data: st.DataObject) -> None:
    """The swept surface holds the mean quality and cost of ``outcome`` for every vector of thresholds, on any rows."""
    n = len(world.examples)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=2 * n)))
    cuts = [np.unique([*s.confidence, 0.0, 0.5, 1.0]) for s in world.cascade.tier_outcomes[:-1]]
    swept = sweep_surface(world.cascade.sweep_columns(rows), cuts)
    for at in np.ndindex(*(len(c) for c in cuts)):
        outcome = world.cascade.outcome([c[g] for c, g in zip(cuts, at, strict=True)], rows)
        assert swept.quality[at] == pytest.approx(outcome.quality.mean(), abs=1e-12)
        assert swept.cost[at] == pytest.approx(outcome.cost_usd.mean(), abs=1e-12)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(worlds(), st.data())
def test_the_sweep_with_skips_is_the_mean_of_outcomes(world: World, data: st.DataObject) -> None:
    """Every vector of skip and accept thresholds has the mean quality and cost of ``outcome``, whatever the final rule."""
    if len(world.cascade.tiers) > 1 and not can_skip(world.cascade):
        return
    n = len(world.examples)
    rows = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=2 * n)))
    final, vote = world.cascade.final, world.cascade.vote
    bare = SimulatedCascade.from_tiers([replace(t, skip_below=None) for t in world.cascade.tiers], final, vote)
    accept = [np.unique([*s.confidence, 0.5])[:4] for s in bare.tier_outcomes[:-1]]
    skip = [
        np.unique(np.append(np.nan_to_num(t.prompt.probability), 0.0))[:3] if t.prompt else np.zeros(1)
        for t in bare.tiers[:-1]
    ]
    quality, cost = sweep_with_skips(bare, rows, [s.quality for s in bare.tier_outcomes], skip, accept)
    for at in np.ndindex(*quality.shape):
        tiers = [replace(t, skip_below=float(skip[i][at[2 * i]])) for i, t in enumerate(bare.tiers[:-1])]
        cascade = SimulatedCascade.from_tiers([*tiers, bare.tiers[-1]], bare.final, bare.vote)
        outcome = cascade.outcome([float(accept[i][at[2 * i + 1]]) for i in range(len(tiers))], rows)
        assert quality[at] == pytest.approx(outcome.quality.mean(), abs=1e-12)
        assert cost[at] == pytest.approx(outcome.cost_usd.mean(), abs=1e-12)


def questions(n: int, seed: int) -> list[Example]:
    """Two models whose recorded scores tell something; the first has a dear judge, both share many answers."""
    rng = np.random.default_rng(seed)
    examples = []
    for i in range(n):
        right = rng.random(2) < (0.6, 0.85)
        recorded: dict[str, dict[str, Any]] = {}
        for m in range(2):
            scores = {"told_a": float(np.clip(0.5 + 0.2 * (right[m] - 0.5) + 0.2 * rng.normal(), 0, 1).round(2))}
            if rng.random() < 0.8:
                scores["told_b"] = float(np.clip(0.5 + 0.3 * (right[m] - 0.5) + 0.2 * rng.normal(), 0, 1).round(2))
            text = "4" if right[m] else str(rng.choice(["forbidden 5", *map(str, range(10, 20))]))
            paid: Mapping[str, float] = {"told_b": 2e-4}
            recorded[f"m{m}"] = {
                "text": text, "quality": float(right[m]), "cost_usd": 1e-4 * 20**m, "latency_s": 0.5, "verdicts": scores,
                "verdict_cost_usd": paid,
            }  # fmt: skip
        examples.append(Example(f"e{i}", f"question {i}", recorded))
    return examples


@pytest.mark.parametrize("final", ["last", "best", "vote"])
def test_fitted_steps_do_what_the_engine_does(final: str) -> None:
    """With mappings fitted on other rows, agreement read as evidence, and early decisions, all rows end as in the engine."""
    examples = questions(400, seed=3)
    fit_rows, rest = np.arange(300), np.arange(300, 400)
    plan = [{"use": "forbids"}, {"use": "told_a"}, {"use": "told_b"}]
    columns = [RUNNER.run(score_tier(examples, f"m{m}", plan)) for m in range(2)]
    assert columns[0].n_free == 2
    tiers, notes = add_agreement([fit_tier(c, fit_rows, seed=0) for c in columns], fit_rows, seed=0)
    assert any("agrees:0" in str(c) for c in tiers[1].calibrators)
    assert len(notes) == 1
    variants = tier_variants(tiers[0], fit_rows)
    early = [v for v in variants if v.accept_at[1] is not None and v.reject_below[1] is not None]
    assert len(early) > 4
    for tier in (variants[0], first_judges_only(tiers[0], 2), early[0], early[-1]):
        cascade = SimulatedCascade.from_tiers([tier, tiers[1]], final, VOTE if final == "vote" else None)
        calls = 0
        for at in (0.0, 0.55, 0.8, 1.0):
            check(cascade, (at,), 0.0, rest, [examples[i] for i in rest])
            calls += int(cascade.outcome((at,), rest).last_called.sum())
        assert 0 < calls < 4 * len(rest)


def column_of(
    scores: np.ndarray, vetoed: np.ndarray | None = None, quality: np.ndarray | None = None, model: str = "m0"
) -> TierScores:
    """A column from arrays; what is paid rises by 1 with every stage, and quality and meaning tell the stages apart."""
    n, stages = scores.shape
    tiers = np.tile(np.arange(stages + 1.0), (n, 1))
    return TierScores(
        model=model,
        rules=tuple({"use": name} for name in SCORERS[:stages]),
        names=SCORERS[:stages],
        scores=scores,
        vetoed=np.zeros((n, stages + 1), dtype=bool) if vetoed is None else vetoed,
        quality=tiers / 10 if quality is None else quality,
        cost_usd=1 + tiers,
        latency_s=10 + tiers,
        meaning=tiers.astype(np.int64),
    )


def step_of(confidence: np.ndarray, **changed: Any) -> CandidateTier:
    """A step with the given confidences (n, S + 1); mappings do not matter here."""
    n, stages = len(confidence), confidence.shape[1] - 1
    column = column_of(np.full((n, stages), 0.5), changed.pop("vetoed", None), changed.pop("quality", None))
    nothing: tuple[float | None, ...] = (None,) * stages
    return replace(
        CandidateTier(
            column=column,
            calibrators=tuple(Constant(0.5) for _ in range(stages + 1)),
            confidence=confidence,
            accept_at=nothing,
            reject_below=nothing,
        ),
        **changed,
    )


def test_settle_by_example() -> None:
    """A stage accepts from its threshold on, gives up below the other, and is never reached once a veto has fallen."""
    #             accepted at a tie | judged on at a tie | given up | vetoed before it could be accepted | vetoed at the end
    first_stage = [0.8, 0.3, 0.29, 0.9, 0.5]
    confidence = np.column_stack([np.full(5, 0.1), first_stage, [0.4, 0.6, 0.7, 0.7, 0.99]])
    vetoed = np.zeros((5, 3), dtype=bool)
    vetoed[3, 1:] = vetoed[4, 2] = True
    tier_outcomes = simulate_tier(step_of(confidence, vetoed=vetoed, accept_at=(0.8, None), reject_below=(0.3, None)))
    assert tier_outcomes.early.tolist() == [1, 0, -1, -1, -1]
    assert tier_outcomes.confidence.tolist() == [0.8, 0.6, 0.29, 0.9, 0.99]
    assert tier_outcomes.cost_usd.tolist() == [2.0, 3.0, 2.0, 2.0, 3.0]
    assert tier_outcomes.latency_s.tolist() == [11.0, 12.0, 11.0, 11.0, 12.0]
    assert tier_outcomes.quality.tolist() == [0.1, 0.2, 0.1, 0.1, 0.2]
    assert tier_outcomes.meaning.tolist() == [1, 2, 1, 1, 2]
    assert tier_outcomes.vetoed.tolist() == [False, False, False, True, True]
    assert tier_outcomes.effective_confidence.tolist() == [1.0, 0.6, -np.inf, -np.inf, -np.inf]


def test_settle_without_judges() -> None:
    """A tier without judges has its prior as confidence, and no veto."""
    tier_outcomes = simulate_tier(step_of(np.array([[0.3], [0.7]])))
    assert tier_outcomes.early.tolist() == [0, 0]
    assert tier_outcomes.effective_confidence.tolist() == [0.3, 0.7]
    assert tier_outcomes.cost_usd.tolist() == [1.0, 1.0]


def test_a_threshold_of_zero_accepts_all_but_vetoes() -> None:
    """0 is a threshold: it accepts a confidence of 0, and not an answer that was vetoed or given up early."""
    vetoed = np.array([[False, False], [False, True]])
    cascade = SimulatedCascade.from_tiers([step_of(np.zeros((2, 2)), vetoed=vetoed), step_of(np.ones((2, 1)))])
    outcome = cascade.outcome((0.0,), np.arange(2))
    assert outcome.tier.tolist() == [0, 1]
    assert outcome.cost_usd.tolist() == [2.0, 3.0]
    # The second answer is the last tier's, which no judge scored.
    assert outcome.accepted.tolist() == [True, False]


def test_which_answer_ends_a_ladder() -> None:
    """ "last" returns the last tier's answer unless it is vetoed, "best" the surest, of equals the highest tier's."""
    low = step_of(np.array([[0.9], [0.5], [0.9], [0.9]]))
    vetoed = np.array([[False], [False], [True], [False]])
    high = step_of(np.array([[0.4], [0.5], [0.95], [0.95]]), vetoed=vetoed)
    cascade = SimulatedCascade.from_tiers([low, high])
    assert cascade.fallback_tier().tolist() == [1, 1, 0, 1]
    assert cascade.with_final("best").fallback_tier().tolist() == [0, 1, 0, 1]
    assert cascade.models == ("m0", "m0")


def test_a_last_answer_that_is_not_sure_enough() -> None:
    """Below ``last_accept_at`` the most confident answer is returned, not accepted; at it the last tier's is accepted."""
    cascade = SimulatedCascade.from_tiers(
        [step_of(np.array([[0.6], [0.6], [0.2]])), step_of(np.array([[0.5, 0.5], [0.5, 0.7], [0.5, 0.3]]))]
    )
    outcome = cascade.outcome((0.9,), np.arange(3), last_accept_at=0.7)
    assert outcome.tier.tolist() == [0, 1, 1]
    assert outcome.accepted.tolist() == [False, True, False]
    assert outcome.confidence.tolist() == [0.6, 0.7, 0.3]
    assert outcome.last_called.tolist() == [1, 1, 1]
