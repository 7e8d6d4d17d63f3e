"""How long a cascade takes: what is predicted of it, what is measured, and what asking two tiers at once changes."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.policy.calibrators import Constant
from evals.recording import Example
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.command import main
from evals.replay.engine_check import run_engine, to_outcome, to_policy
from evals.replay.latency import late_shares, p95, safe_share
from evals.replay.pipeline import ReplayConfig, ReplayResult, replay
from evals.replay.rows.input_rows import ReplayError
from evals.replay.score_table import load_or_score
from evals.replay.simulate import CandidateTier, SimulatedCascade
from evals.replay.sweep_result import Candidate

EASY = ("name the capital city", "name the colour of the sky", "name the first letter")
HARD = ("prove a lemma about rings", "prove a bound of this series", "prove that it converges")


def examples(n: int, seed: int, *, cheap_s: float = 1.0, dear_s: float = 1.1) -> list[Example]:
    """Rows whose prompts tell hard from easy ones; the cheap model is right on the easy ones, and about as slow."""
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(n):
        hard = bool(rng.random() < 0.5)
        words = (HARD if hard else EASY)[int(rng.integers(3))]
        right = bool(rng.random() < (0.02 if hard else 0.99))
        answers: dict[str, Any] = {
            "cheap": {
                "text": "yes" if right else "no", "quality": float(right), "cost_usd": 0.0001,
                "latency_s": cheap_s * float(rng.gamma(100, 0.01)),
                "logprob": -(0.1 if right else 1.0) - float(rng.random()),
            },
            "dear": {"text": "yes", "quality": 1.0, "cost_usd": 0.02, "latency_s": dear_s * float(rng.gamma(100, 0.01))},
        }  # fmt: skip
        raw = {"id": f"row-{i}", "task": "t", "prompt": f"{words} {i}", "reference": "yes", "answers": answers}
        rows.append(Example(raw["id"], raw["prompt"], answers, "t", reference="yes", raw=raw))
    return rows


def run(tmp_path: Path, rows: Sequence[Example], **config: Any) -> ReplayResult:
    """A replay of these rows for a loss of 5 points."""
    path = tmp_path / "r.jsonl"
    path.write_text("".join(json.dumps(row.raw) + "\n" for row in rows))
    replay_config = ReplayConfig(guarantee=Guarantee("max_loss", 0.05, 0.1), **config)
    return asyncio.run(replay(path, rows, ["cheap", "dear"], replay_config))


def test_speculation_shortens_escalated_runs_at_little_cost(tmp_path: Path) -> None:
    """At most 0.6 times the serial 95th percentile at 5 % more cost, and both are predicted within 5 %."""
    rows = examples(900, seed=2)
    result = run(tmp_path, rows, speculate=True)
    speculation = result.data["chosen"]["speculation"]
    predicted, measured = speculation["predicted"], speculation["measured"]
    assert measured["p95_s"] <= 0.6 * measured["serial_p95_s"]
    assert measured["extra_cost"] <= 0.05
    assert predicted["p95_s"] == pytest.approx(measured["p95_s"], rel=0.05)
    assert 1 + predicted["extra_cost"] == pytest.approx(1 + measured["extra_cost"], rel=0.05)
    assert "asks the next tier at once" in str(result)
    assert result.calibration_file is not None
    first = result.calibration_file.chosen[0]
    assert first.speculate_below == speculation["speculate_below"]
    assert first.p95_s == pytest.approx(1.17, rel=0.1)


@pytest.mark.parametrize("at", [None, 1.0])
def test_engine_and_arithmetic_agree_on_latency_and_cost(at: float | None) -> None:
    """Row by row, with and without speculation, over three tiers."""
    rows = examples(60, seed=3)
    for row in rows:
        row.answers["middle"] = {
            **row.answers["cheap"],
            "latency_s": 0.7,
            "cost_usd": 0.004,
            "logprob": -0.1 - len(row.prompt) % 7,
        }
    rules = [{"use": "logprob"}]

    async def outcomes() -> tuple[Any, Any]:
        tiers = []
        for model in ("cheap", "middle", "dear"):
            column = await load_or_score(rows, model, rules if model != "dear" else [], None)
            n, stages = column.scores.shape
            confidence = np.column_stack([np.full(n, 0.5), column.scores[:, :1] if stages else np.zeros((n, 0))])
            tiers.append(
                CandidateTier(
                    column=column, calibrators=(Constant(0.5),) * (stages + 1), confidence=confidence,
                    accept_at=(None,) * stages,
                    reject_below=(None,) * stages, speculate_below=at if model != "dear" else None,
                )
            )  # fmt: skip
        candidate = Candidate(cascade=SimulatedCascade.from_tiers(tiers), thresholds=(0.9, 0.6), loss=0, variance=0, usd=0)
        policy = to_policy(candidate)
        every = np.arange(len(rows))
        results = await run_engine(without_confidence(policy), rows, every)
        return to_outcome(results, ["cheap", "middle", "dear"]), candidate.outcome(every)

    engine, simulated = asyncio.run(outcomes())
    assert (engine.tier == simulated.tier).all()
    assert set(engine.tier) == {0, 1, 2}
    np.testing.assert_allclose(engine.cost_usd, simulated.cost_usd)
    np.testing.assert_allclose(engine.latency_s, simulated.latency_s)


def without_confidence(policy: Any) -> Any:
    """The policy with the judges' own scores in place of fitted mappings."""
    return policy.model_copy(update={"tiers": [t.model_copy(update={"confidence": None}) for t in policy.tiers]})


def test_a_ladder_in_time_is_chosen_and_stays_so(tmp_path: Path) -> None:
    """The cheapest ladder takes too long; with a limit another is chosen, whose percentile holds on rows never seen."""
    rows = examples(500, seed=2, cheap_s=1.0, dear_s=2.0)
    free = run(tmp_path, rows, by_prompt=False)
    assert free.data["chosen"]["tiers"] == ["cheap", "dear"]
    slow = next(row for row in free.rows if row.kind == "cascade").p95_s
    assert slow is not None
    for limit in (1.1 * slow, 0.8 * slow):
        result = run(tmp_path, rows, by_prompt=False, max_latency_s=limit)
        chosen = result.data["chosen"]
        latency = chosen["latency"]
        assert latency["predicted_p95_s"] <= limit
        assert latency["p95_s"] <= limit
        assert latency["p95_s"] == pytest.approx(latency["predicted_p95_s"], rel=0.05)
    assert chosen["tiers"] == ["dear"]  # the cheap one alone is in time, but no good
    assert chosen["cost_ratio"] > free.data["chosen"]["cost_ratio"]
    skipping = run(tmp_path, rows, by_prompt=True, max_latency_s=0.8 * slow).data["chosen"]
    assert skipping["tiers"] == ["cheap", "dear"]  # where the prompt says which of them to ask, none waits for both
    assert skipping["latency"]["p95_s"] <= 0.8 * slow
    assert skipping["cost_ratio"] < free.data["chosen"]["cost_ratio"] + 0.05
    with pytest.raises(ReplayError, match="the fastest model alone is cheap"):
        run(tmp_path, rows, max_latency_s=0.5)


def test_latencies_must_be_recorded(tmp_path: Path) -> None:
    """One answer without is refused, with the model and the number of rows."""
    rows = examples(200, seed=4)
    del rows[7].answers["dear"]["latency_s"]
    with pytest.raises(ReplayError, match="missing in 1 row of the model 'dear'"):
        run(tmp_path, rows, max_latency_s=3)


@settings(max_examples=25)
@given(seed=st.integers(0, 10_000), limit=st.floats(0.1, 3.0))
def test_the_share_of_late_rows_is_exact(seed: int, limit: float) -> None:
    """For every threshold vector, what a walk over the rows gives."""
    from tests.evals.replay.synthetic import pair

    rng = np.random.default_rng(seed)
    n = 40
    columns = pair(n, seed)
    tiers = []
    for column in (columns["cheap"][0], columns["dear"][0]):
        stages = column.scores.shape[1]
        object.__setattr__(column, "latency_s", np.cumsum(rng.random((n, stages + 1)), axis=1))
        tiers.append(
            CandidateTier(
                column=column, calibrators=(), confidence=rng.random((n, stages + 1)).round(1),
                accept_at=(None,) * stages, reject_below=(None,) * stages,
            )
        )  # fmt: skip
    cascade, rows = SimulatedCascade.from_tiers(tiers), np.arange(n)
    cuts = np.linspace(0, 1, 11)
    shares = late_shares(cascade, [cuts], rows, limit)
    walked = [float((cascade.outcome((at,), rows).latency_s > limit).mean()) for at in cuts]
    np.testing.assert_allclose(shares, walked, atol=1e-12)


def test_percentiles() -> None:
    """The smallest value that 95 % do not exceed; unknown where one is."""
    assert p95(np.arange(1.0, 101.0)) == 95.0
    assert p95(np.array([])) is None
    assert p95(np.array([1.0, np.nan])) is None
    assert 0 < safe_share(200) < safe_share(2000) < 0.05


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--max-latency", "0"], "--max-latency must be a number of seconds above 0"),
        (["--max-latency", "2", "--by", "task"], "does not follow from those of the tasks"),
        (["--speculate", "--budget-per-1k", "1"], "use it with --max-loss"),
        (["--speculate", "--method", "preset"], "use it with --max-loss"),
    ],
)
def test_flags_that_contradict(flags: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are refused before anything is read."""
    assert main(flags) == 2
    assert words in capsys.readouterr().err
