"""Tuning that looks at prompts: kept where it pays, left out where it does not, safe where prompts are unlike."""

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from cascade.policy.predictor import MOST_WEIGHTS, Predictor
from evals.recording import Example
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.pipeline import ReplayConfig, replay
from evals.replay.prompt_columns import with_prompts
from evals.replay.rows.splits import Splits
from evals.replay.score_table import TierScores
from evals.replay.simulate import SimulatedCascade
from evals.replay.tuning.by_prompt import PromptTuner
from evals.replay.tuning.candidate_cascades import MAX_TIERS
from evals.replay.tuning.tune import Goal
from tests.evals.replay.synthetic import column

EASY = ("name the capital of", "name the colour of", "name the first letter of")
HARD = ("prove a lemma about", "prove a bound of", "prove convergence of")
THINGS = ("a river", "the sea", "some rings", "a lake", "the moon", "a field", "the hill", "one coin")
SHIFTED = ("xq zvw kkjh qpo wlm vvrt", "Пожалуйста, докажите лемму о кольцах", "请证明关于环的引理", "kjd84 %% $$ @@ zz9 !!")
Columns = dict[str, list[TierScores]]


def world(n: int, *, telling: bool, unlike: int = 0, seed: int = 1) -> tuple[Columns, list[Example], npt.NDArray[np.bool_]]:
    """Columns of two models whose prices stand close, and prompts that tell which are hard, or tell nothing.

    The last ``unlike`` prompts are unlike all others, and hard.
    """
    rng = np.random.default_rng(seed)
    hard = rng.random(n) < 0.5
    if unlike:
        hard[-unlike:] = True
    feature = hard if telling else rng.random(n) < 0.5
    texts = [f"{(HARD if h else EASY)[rng.integers(3)]} {THINGS[rng.integers(8)]}" for h in feature]
    for i in range(unlike):
        texts[n - 1 - i] = SHIFTED[i % len(SHIFTED)]
    right = (rng.random(n) < np.where(hard, 0.1, 0.97)).astype(float)
    weak = np.clip(0.5 + 0.15 * (right - 0.5) + 0.2 * rng.normal(size=n), 0.01, 0.99)
    columns = {
        "cheap": [column("cheap", right, 0.5, {"logprob": weak})],
        "dear": [column("dear", (rng.random(n) < 0.98).astype(float), 1.0)],
    }
    return columns, [Example(f"e{i}", text, {}) for i, text in enumerate(texts)], hard


def parts(n: int, unlike: int = 0) -> Splits:
    """A quarter of the rows to fit on, a quarter to certify on, the others (or those unlike) to test on."""
    rows = np.arange(n - unlike)
    quarter = len(rows) // 4
    test = np.arange(n - unlike, n) if unlike else rows[2 * quarter :]
    return Splits(rows[:quarter], rows[quarter : 2 * quarter], test)


def cost(columns: Columns, splits: Splits) -> tuple[float, tuple[str, ...]]:
    """The mean cost on the test rows of what is certified for a loss of 5 points, and the notes."""
    choice = choose_certified(columns, splits, Guarantee("max_loss", 0.05, 0.1), method="split")
    return float(choice.chosen.outcome(splits.test).cost_usd.mean()), choice.notes


def test_what_the_prompt_tells_saves_money() -> None:
    """Where prices stand close, asking the cheap tier for hard prompts is waste: the joint ladder leaves it out."""
    columns, examples, _ = world(1600, telling=True)
    splits = parts(1600)
    plain, _ = cost(columns, splits)
    joint, notes = cost(with_prompts(columns, examples), splits)
    assert joint < 0.9 * plain
    assert any("in cross-validation" in note for note in notes)


@pytest.mark.parametrize("seed", range(3))
def test_prompts_that_tell_nothing_cost_nothing(seed: int) -> None:
    """What is certified costs at most one point more than without looking at prompts."""
    columns, examples, _ = world(600, telling=False, seed=seed)
    splits = parts(600)
    assert cost(with_prompts(columns, examples), splits)[0] <= cost(columns, splits)[0] + 0.01  # premium costs 1


def test_the_same_seed_gives_the_same_ladder() -> None:
    """Folds and fits are deterministic, to the last weight."""
    columns, examples, _ = world(800, telling=True)
    both = []
    for _ in range(2):
        choice = choose_certified(
            with_prompts(columns, examples), parts(800), Guarantee("max_loss", 0.05, 0.1), method="split"
        )
        tier = choice.chosen.cascade.tiers[0]
        assert tier.prompt is not None
        assert tier.prompt.predictor is not None
        both.append((choice.chosen.thresholds, tier.skip_below, tier.prompt.predictor.to_json()))
    assert both[0] == both[1]


def test_the_embedding_counts_where_ladders_are_ranked() -> None:
    """A ladder whose confidence reads the prompt is swept at what it costs, with the embedding that every run asks for."""
    columns, examples, _ = world(600, telling=True)
    goal = Goal(columns["dear"][0].quality[:, 0], 0.05, "dear")
    tuner = PromptTuner(with_prompts(columns, examples), np.arange(300), goal, 0).prompted
    assert tuner is not None
    [cascade] = [
        each.cascade
        for each in tuner.sweep_all()
        if len(each.cascade.tiers) == 2 and any(c.reads_prompt for c in each.cascade.tiers[0].calibrators)
    ]
    first, last = cascade.tiers
    assert first.prompt is not None
    priced = replace(first, prompt=replace(first.prompt, embedding_usd=np.full(600, 0.2), embedding_s=np.zeros(600)))
    swept = tuner.sweep(SimulatedCascade.from_tiers([priced, last]))
    for flat in (0, len(swept.usd) - 1):
        assert swept.usd[flat] == pytest.approx(swept.candidate(flat, 0.05).outcome(tuner.rows).cost_usd.mean())
    assert swept.usd == pytest.approx(tuner.sweep(cascade).usd + 0.2)


def test_prompts_unlike_the_recording_go_to_the_next_tier() -> None:
    """Nonsense and other languages skip such tiers: quality is at most two points below the plain cascade's."""
    unlike = 200
    columns, examples, hard = world(1600 + unlike, telling=True, unlike=unlike)
    splits = parts(1600 + unlike, unlike)
    guarantee = Guarantee("max_loss", 0.05, 0.1)
    joint = choose_certified(with_prompts(columns, examples), splits, guarantee, method="split").chosen
    plain = choose_certified(columns, splits, guarantee, method="split").chosen
    tier = joint.cascade.tiers[0]
    assert tier.prompt is not None
    assert tier.skipped[: len(hard) - unlike].any()
    assert np.isnan(tier.prompt.probability[splits.test]).all()
    assert tier.skipped[splits.test].all()
    difference = joint.outcome(splits.test).quality.mean() - plain.outcome(splits.test).quality.mean()
    assert difference >= -0.02


def test_columns_without_prompts_are_tuned_without_prompts() -> None:
    """There is no second tuning to pay for."""
    columns, examples, _ = world(400, telling=True)
    goal = Goal(columns["dear"][0].quality[:, 0], 0.05, "dear")
    rows = np.arange(100)
    assert PromptTuner(columns, rows, goal, 0).prompted is None
    assert PromptTuner(with_prompts(columns, examples), rows, goal, 0).prompted is not None
    alike = [replace(example, prompt="the same") for example in examples]
    assert PromptTuner(with_prompts(columns, alike), rows, goal, 0).prompted is None


def test_a_recording_of_50_rows_looks_at_no_prompt_and_says_why(tmp_path: Path) -> None:
    """Too few fit rows for a predictor: neither evidence nor skips, and a note with the numbers."""
    columns, examples, _hard = world(50, telling=True)
    rows = []
    for i, example in enumerate(examples):
        answers = {
            name: {
                "text": str(of_model[0].quality[i, 0]), "quality": float(of_model[0].quality[i, 0]),
                "cost_usd": float(of_model[0].cost_usd[i, 0]), "latency_s": 1.0, "logprob": -0.1 - i / 99,
            }
            for name, of_model in columns.items()
        }  # fmt: skip
        raw = {"id": example.id, "task": "t", "prompt": example.prompt, "reference": "1.0", "answers": answers}
        rows.append(Example(example.id, example.prompt, answers, "t", reference="1.0", raw=raw))
    path = tmp_path / "few.jsonl"
    path.write_text("".join(json.dumps(row.raw) + "\n" for row in rows))
    config = ReplayConfig(guarantee=Guarantee("max_loss", 0.2, 0.1), by_prompt=True)
    result = asyncio.run(replay(path, rows, ["cheap", "dear"], config))
    assert "skip_below" not in result.data["chosen"]
    assert all("predictor" not in json.dumps(tier) for tier in result.data["policy"]["tiers"])
    baseline = result.data["baselines"]["cascade without skips"]
    assert baseline["usd_per_1000"] == result.data["chosen"]["usd_per_1000"]  # it is the cascade itself
    assert any("cheap: prompts are not looked at" in note and "at least 40" in note for note in result.data["notes"])


def test_the_predictors_of_a_calibration_stay_below_a_megabyte() -> None:
    """Every tier but the last of the longest ladder, each with as many weights as there may be."""
    rng = np.random.default_rng(0)
    weights = dict(
        zip(range(0, 2**32, 2**32 // MOST_WEIGHTS), rng.integers(-32_767, 32_767, MOST_WEIGHTS).tolist(), strict=False)
    )
    predictor = Predictor(
        intercept=0.123456789, weights=weights, scale=1.23456789e-5, lengths=(0, 9999), scripts=("latin",), known_share=0.123
    )  # fmt: skip
    assert len(predictor.weights) >= MOST_WEIGHTS
    assert (MAX_TIERS - 1) * len(json.dumps(predictor.to_json())) < 1_000_000
