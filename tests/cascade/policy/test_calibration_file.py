"""The calibration file: laid over a policy that it fits, refused with a clear error by every other."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, ScriptedModel
from cascade.policy import load as files
from cascade.policy.calibration_file import apply, read

LOGISTIC = {
    "method": "logistic",
    "intercept": 0.0,
    "features": [{"judge": "logprob", "transform": "logit", "fill": 0.0, "coefficient": 1.0, "missing": 0.0}],
}
CONSTANT = {"method": "constant", "p": 0.4}


def artefact(**change: Any) -> dict[str, Any]:
    """A calibration of the ladder a, b, c in which tuning left b out."""
    judged = [{"use": "rules"}, {"use": "logprob"}]
    return {
        "schema_version": 1,
        "created": "2026-01-01T00:00:00Z",
        "library": "0.1.0",
        "recording": {"name": "r.jsonl", "sha256": "0" * 64, "n": 10},
        "seed": 0,
        "splits": {"fit": 2, "certify": 3, "test": 5},
        "candidates": [{"model": m, "judges": judged} for m in "abc"],
        "chosen": [
            {"model": "a", "accept_at": 0.8, "judges": judged, "confidence": [CONSTANT, CONSTANT, LOGISTIC]},
            {"model": "c", "accept_at": 0.0, "judges": [], "confidence": [CONSTANT]},
        ],
        "final": "last",
        "promise": {"kind": "max_loss", "value": 0.02, "delta": 0.1},
        "certificate": {"certified": True},
        **change,
    }


POLICIES = """
models:
  small: {provider: scripted, model: a, answers: [x]}
  middle: {provider: scripted, model: b, answers: [y]}
  large: {provider: scripted, model: c, answers: [z]}
policies:
  default:
    calibration: calibration.json
    tiers:
      - {name: cheap, model: small, judges: [rules, logprob]}
      - {name: balanced, model: middle, judges: [rules, logprob]}
      - {name: premium, model: large, judges: [rules, logprob]}
"""


def load(folder: Path, text: str = POLICIES, **change: Any) -> Policy:
    """The policy of a folder with both files."""
    (folder / "calibration.json").write_text(json.dumps(artefact(**change)))
    (folder / "policies.yaml").write_text(text)
    return files.load(folder / "policies.yaml").policies["default"]


def test_the_calibrated_ladder_takes_the_place_of_the_policys(tmp_path: Path) -> None:
    """Names and models stay; thresholds and mappings come from the file; tiers left out by tuning are removed."""
    policy = load(tmp_path)
    assert [(t.name, t.model, t.accept_at) for t in policy.tiers] == [("cheap", "small", 0.8), ("premium", "large", 0.0)]
    assert policy.tiers[0].confidence == [CONSTANT, CONSTANT, LOGISTIC]
    assert policy.calibration == "calibration.json"


def test_fallbacks_stay_the_policys(tmp_path: Path) -> None:
    """Fallback models are not part of a calibration."""
    policy = load(tmp_path, POLICIES.replace("model: small,", "model: small, fallbacks: [middle],"))
    assert [t.fallbacks for t in policy.tiers] == [["middle"], []]


@pytest.mark.parametrize(("logprob", "tier", "confidence"), [(-0.1, "cheap", 0.9048374), (-0.5, "premium", 0.4)])
def test_a_run_uses_the_calibrated_confidence(tmp_path: Path, logprob: float, tier: str, confidence: float) -> None:
    """The logistic mapping with unit slope gives back the score; the threshold of the file decides."""
    models = {
        "small": ScriptedModel("small", [Answer("a", mean_logprob=logprob, finish_reason="stop", cost_usd=0.0)]),
        "large": ScriptedModel("large", [Answer("c", finish_reason="stop", cost_usd=0.0)]),
    }
    result = asyncio.run(Cascade(load(tmp_path), models=models).arun("q"))
    assert result.tier == tier
    assert result.confidence == pytest.approx(confidence, abs=1e-6)
    assert result.calibrated
    assert result.accepted is result.judged is (tier == "cheap")


def test_the_hash_changes_with_the_calibration(tmp_path: Path) -> None:
    """Two calibrations of one policy have different hashes in every log."""
    one = load(tmp_path).hash
    chosen = artefact()["chosen"]
    chosen[0]["accept_at"] = 0.81
    assert load(tmp_path, chosen=chosen).hash != one


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("model: b, answers", "model: bb, answers", "the calibration is for the models a, b, c, this policy has a, bb, c"),
        (
            "model: middle, judges: [rules, logprob]",
            "model: middle, judges: [rules]",
            "tier 'balanced': the calibration was",
        ),
        (
            "[rules, logprob]}\n      - {name: bal",
            "[rules, {use: logprob, statistic: min}]}\n      - {name: bal",
            "statistic",
        ),
        ("{name: cheap, ", "{name: cheap, accept_at: 0.5, ", "accept_at is 0.5 here but 0.8 in the calibration"),
        ("calibration: calibration.json", "calibration: other.json", "no such calibration"),
    ],
)
def test_a_policy_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, words: str) -> None:
    """The error names the policy file, its line and key, and what to do."""
    assert old in POLICIES
    with pytest.raises(PolicyError, match=r"policies\.default\.calibration") as caught:
        load(tmp_path, POLICIES.replace(old, new, 1))
    assert words in str(caught.value)
    assert f"{tmp_path / 'policies.yaml'}:8" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": 2}, "schema_version: 2 is not 1"),
        ({"candidates": []}, "candidates"),
        ({"surprise": 1}, "surprise"),
        ({"chosen": [{"model": "a", "confidence": [{"method": "constant", "p": 2}]}]}, "p: 2 is not in"),
        ({"chosen": [{"model": "a", "confidence": []}]}, "0 judges need 1 mappings, got 0"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """The error names the file and the field."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps(artefact(**change)))
    with pytest.raises(PolicyError, match=r"c\.json") as caught:
        read(path)
    assert words in str(caught.value)


def test_a_file_that_is_not_json_is_refused(tmp_path: Path) -> None:
    """So is a cut-off download."""
    path = tmp_path / "c.json"
    path.write_text(json.dumps(artefact())[:100])
    with pytest.raises(PolicyError, match="is not JSON"):
        read(path)


def test_a_verifiers_model_stays_the_policys(tmp_path: Path) -> None:
    """A recording does not know which model verified: the policy's option is kept and does not count as a mismatch."""
    path = tmp_path / "c.json"
    judged = [{"use": "verifier"}]
    chosen = [{"model": "a", "accept_at": 0.5, "judges": judged, "confidence": [CONSTANT, CONSTANT]}]
    path.write_text(json.dumps(artefact(candidates=[{"model": "a", "judges": judged}], chosen=chosen)))
    tier = {"model": "a", "judges": [{"use": "verifier", "model": "checker"}]}
    policy = apply(Policy.model_validate({"tiers": [tier]}), read(path), lambda t: t.model)
    assert policy.tiers[0].judges[0].options == {"model": "checker"}
