"""A replay from end to end: what ``--json`` holds for every kind of promise, and that its parts agree with one another."""

import json
from collections.abc import Iterator
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.policy.calibration_file import read as read_calibration
from evals.recording import Example, write
from evals.replay.certificate.by_cost import upper_bound
from evals.replay.command import main
from evals.replay.pipeline import page
from evals.replay.results.table import ResultRow
from tests.evals.replay.synthetic import examples

GOALS = {
    "max_loss": ["--max-loss", "0.1"],
    "min_quality": ["--min-quality", "0.7"],
    "min_accepted_quality": ["--min-accepted-quality", "0.8"],
    "budget": ["--budget-per-1k", "8"],
    "error_price": ["--error-price", "0.05"],
    "refused": ["--max-loss", "0.001"],
}
METRICS = {"brier", "ece", "auroc", "aurc", "log_loss"}
POLICY = """
models:
  small: {provider: recorded, recording: r.jsonl, model: cheap}
  large: {provider: recorded, recording: r.jsonl, model: dear}
policies:
  other: {tiers: [{model: large}]}
  default: {WHEN tiers: [{model: small, judges: [logprob], accept_at: 0.75}, {model: large, accept_at: 0.0}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a recording of three models and a policy file for two of them."""
    directory = tmp_path_factory.mktemp("study")
    write(directory / "r.jsonl", examples(300, 1))
    (directory / "policies.yaml").write_text(POLICY.replace("WHEN", ""))
    return directory


def figures(folder: Path, *flags: str, name: str = "r.jsonl") -> dict[str, Any]:
    """What ``--json`` holds."""
    out = folder / "figures.json"
    assert main([str(folder / name), *flags, "--json", str(out)]) == 0
    return json.loads(out.read_text(), parse_constant=lambda x: pytest.fail(f"{x} is not JSON"))


@pytest.fixture(scope="module")
def replays(folder: Path) -> dict[str, dict[str, Any]]:
    """The figures of every kind of promise, and of a policy as it is."""
    by_goal = {kind: figures(folder, "--tiers", "cheap,middle,dear", *flags) for kind, flags in GOALS.items()}
    return {**by_goal, "policy_file": figures(folder, "--policy-file", str(folder / "policies.yaml"))}


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value that is not a list or object, with its place."""
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(part, f"{path}.{key}")
    else:
        yield path, value


EVERY = [*GOALS, "policy_file"]


@pytest.mark.parametrize("kind", EVERY)
def test_the_documented_fields_are_there(replays: dict[str, dict[str, Any]], kind: str) -> None:
    """Each promised field with its type, every number finite, and the lines with just their own fields."""
    data = replays[kind]
    assert all(isfinite(v) for _, v in leaves(data) if isinstance(v, float))
    chosen, certificate = data["chosen"], data["chosen"]["certificate"]
    assert set(data["test"]) == {"n", "quality", "cost_ratio", "quality_difference", "interval"}
    assert {"tiers", "thresholds", "cost_ratio", "quality", "certificate"} <= set(chosen)
    assert {"max_loss", "delta", "certified", "method", "n"} <= set(certificate)
    assert certificate["delta"] == 0.1
    assert type(certificate["certified"]) is bool
    assert type(certificate["n"]) is int
    assert type(certificate["method"]) is str
    assert data["certificate"] == certificate
    assert len(chosen["thresholds"]) == len(chosen["tiers"]) - 1
    assert all(0 <= t <= 1.0000001 for t in chosen["thresholds"])
    assert set(chosen["judges"]) == set(chosen["tiers"])
    names = ["random mixing", *(["best pair"] if len(data["tiers"]) > 2 else []), "prompt-only router"]
    names += ["cascade routing", "thresholds of 0.7"]
    assert list(data["baselines"]) == [*data["tiers"], *names, "oracle"]
    assert all(set(item) == set(ResultRow.__slots__) for item in data["lines"])
    for tier, card in data["calibration"].items():
        assert tier in chosen["tiers"]
        assert set(card) == {"method", "n", "before", "after", "ece_by_chance"}
        assert set(card["before"]) == set(card["after"]) == METRICS
        for triple in (t for t in (*card["before"].values(), *card["after"].values()) if t is not None):
            assert triple[1] <= triple[0] <= triple[2]
    assert data["calibration"] or kind == "policy_file"
    assert "calibration_list" not in data
    assert data["promise"]["kind"] == {"refused": "max_loss", "policy_file": "max_loss"}.get(kind, kind)


@pytest.mark.parametrize("kind", EVERY)
def test_the_figures_agree_with_one_another(replays: dict[str, dict[str, Any]], kind: str) -> None:
    """The same cascade is reported in several places; splits, flow, tasks and shares add up to its test rows."""
    data = replays[kind]
    ours = next(item for item in data["lines"] if item["kind"] == "cascade")
    chosen, test = data["chosen"], data["test"]
    premium = data["baselines"][data["tiers"][-1]]
    for key in ("quality", "cost_ratio", "quality_difference", "interval"):
        assert chosen[key] == test[key]
    assert test["quality"] == ours["quality"]
    assert test["cost_ratio"] == pytest.approx(ours["usd_per_1000"] / premium["usd_per_1000"])
    assert test["quality_difference"] == pytest.approx(test["quality"] - premium["quality"])
    assert test["interval"][0] <= test["quality_difference"] <= test["interval"][1]
    n = test["n"]
    assert n == data["n"]["test"] == sum(t["n"] for t in data["by_task"])
    assert data["recording"]["n"] == 300
    assert sum(data["n"].values()) == (150 if kind == "policy_file" else 300)
    assert sum(x["n"] for x in data["flow"] if x["source"] == "prompts") == n
    assert sum(x["n"] for x in data["flow"] if x["target"].startswith("answered by")) == n
    for model, share in ours["shares"].items():
        assert sum(x["n"] for x in data["flow"] if x["target"] == f"answered by {model}") == pytest.approx(share * n)
    assert sum(t["n"] * t["quality"] for t in data["by_task"]) == pytest.approx(n * test["quality"])
    oracle = data["baselines"]["oracle"]
    assert all(item["quality"] <= oracle["quality"] for item in data["lines"])


def test_certificates_are_of_what_was_promised(replays: dict[str, dict[str, Any]]) -> None:
    """Each kind's own limit, certified or refused in words."""
    certificate = {kind: data["certificate"] for kind, data in replays.items()}
    assert certificate["max_loss"]["certified"]
    assert certificate["max_loss"]["max_loss"] == 0.1
    assert certificate["min_quality"]["max_loss"] == pytest.approx(0.3)
    assert certificate["min_accepted_quality"]["max_loss"] is None
    assert certificate["min_accepted_quality"]["min_accepted_quality"] == 0.8
    assert not certificate["refused"]["certified"]
    assert replays["refused"]["chosen"]["tiers"] == ["dear"]
    assert replays["refused"]["test"]["quality_difference"] == 0.0
    assert replays["budget"]["chosen"]["usd_per_1000"] == pytest.approx(8, rel=0.25)
    for kind in EVERY:
        assert 0 < certificate[kind]["n"] <= 150
        assert len(certificate[kind]["words"]) > 40


def test_a_dearer_error_buys_quality(folder: Path) -> None:
    """At a price of 0 per error the cheapest tier answers, at a high price the expensive ladder."""
    low, high = (figures(folder, "--tiers", "cheap,dear", "--error-price", usd)["test"] for usd in ("0", "10"))
    assert low["cost_ratio"] == pytest.approx(0.05)
    assert high["quality"] > low["quality"]
    assert high["cost_ratio"] > low["cost_ratio"]


def by_hand(rows: list[Example]) -> tuple[np.ndarray, np.ndarray]:
    """Quality and cost of the policy file's policy, in a loop."""
    quality, cost = [], []
    for row in rows:
        cheap, dear = row.answers["cheap"], row.answers["dear"]
        sure = np.exp(cheap["logprob"]) >= 0.75
        quality.append((cheap if sure else dear)["quality"])
        cost.append(cheap["cost_usd"] + (0 if sure else dear["cost_usd"]))
    return np.array(quality), np.array(cost)


def test_a_policy_file_is_measured_as_it_is(tmp_path: Path) -> None:
    """On the recorded test rows its quality and cost are those of a loop over them, its thresholds are its own, and models
    go by the recording's names."""
    rows = [replace(e, split="test" if i % 3 else "train") for i, e in enumerate(examples(200, 2))]
    write(tmp_path / "r.jsonl", rows)
    (tmp_path / "policies.yaml").write_text(POLICY.replace("WHEN", ""))
    as_is = ("--policy-file", str(tmp_path / "policies.yaml"), "--as-is", "--split", "recorded")
    data = figures(tmp_path, *as_is, "--max-loss", "0.4")
    quality, cost = by_hand([e for e in rows if e.split == "test"])
    assert data["test"]["n"] == len(quality)
    assert data["test"]["quality"] == pytest.approx(quality.mean())
    assert data["chosen"]["usd_per_1000"] == pytest.approx(1000 * cost.mean())
    assert data["chosen"]["tiers"] == data["tiers"] == ["cheap", "dear"]
    assert data["chosen"]["thresholds"] == [0.75]
    certificate = data["certificate"]
    losses = np.array([e.answers["dear"]["quality"] for e in rows if e.split == "test"]) - quality
    assert certificate["max_loss"] == pytest.approx(upper_bound(losses, 0.1)[0])
    assert certificate["n"] == len(losses)
    assert certificate["certified"]
    assert "provided that nothing in it was chosen on these" in certificate["words"]
    strict = figures(tmp_path, *as_is, "--max-loss", "0")
    assert not strict["certificate"]["certified"]
    assert strict["certificate"]["max_loss"] == certificate["max_loss"]


def test_an_abstention_has_no_quality(tmp_path: Path) -> None:
    """A policy that raises or abstains where it is unsure is replayed to the end; unanswered rows have quality 0."""
    rows = examples(120, 3)
    write(tmp_path / "r.jsonl", rows)
    (tmp_path / "p.yaml").write_text(
        POLICY.replace("WHEN", "when_unsure: raise,").replace("accept_at: 0.0", "accept_at: 0.9")
    )
    data = figures(tmp_path, "--policy-file", str(tmp_path / "p.yaml"))
    assert 0 < data["chosen"]["accepted"] < 1
    assert data["chosen"]["quality"] <= data["chosen"]["accepted"]
    assert all(m["tier"] == "cheap" for m in data["mistakes"])


def test_a_calibrated_policy_is_compared_with_all_it_was_chosen_from(folder: Path, tmp_path: Path) -> None:
    """Tuning may have dropped the premium tier; the loss is against it all the same."""
    write(tmp_path / "r.jsonl", examples(300, 1))
    out = tmp_path / "c.json"
    assert main([str(tmp_path / "r.jsonl"), "--tiers", "cheap,dear", "--budget-per-1k", "1", "--out", str(out)]) == 0
    assert [t.model for t in read_calibration(out).chosen] == ["cheap"]
    judges = "judges: [rules, logprob]"
    (tmp_path / "p.yaml").write_text(
        "models:\n"
        "  a: {provider: recorded, recording: r.jsonl, model: cheap}\n"
        "  b: {provider: recorded, recording: r.jsonl, model: dear}\n"
        "policies:\n"
        f"  only: {{calibration: c.json, tiers: [{{model: a, {judges}}}, {{model: b, judges: [rules]}}]}}\n"
    )
    data = figures(tmp_path, "--policy-file", str(tmp_path / "p.yaml"))
    assert data["tiers"] == ["cheap", "dear"]
    assert data["chosen"]["tiers"] == ["cheap"]
    assert data["test"]["quality_difference"] < -0.2
    assert data["test"]["cost_ratio"] == pytest.approx(0.05)


def test_free_models_have_no_ratio(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Local models that cost nothing can be replayed: ratios are null, and a warning asks whether that is meant."""
    write(tmp_path / "r.jsonl", examples(60, cheap={"cost_usd": 0.0}, dear={"cost_usd": 0.0}))
    page_file = tmp_path / "page.html"
    data = figures(tmp_path, "--tiers", "cheap,dear", "--report", str(page_file))
    assert data["test"]["cost_ratio"] is None
    assert {p["cost_ratio"] for p in data["frontier"]} == {None}
    assert {t["cost_ratio"] for t in data["by_task"]} == {None}
    assert "every answer of cheap, dear costs 0" in capsys.readouterr().err
    assert page_file.read_text().lower().startswith("<!doctype html>")


def test_the_same_seed_gives_the_same_figures(folder: Path) -> None:
    """All but the date; another seed draws other rows."""
    flags = ["--tiers", "cheap,dear", "--max-loss", "0.1", "--seed"]
    first, again, other = (figures(folder, *flags, seed) for seed in ("3", "3", "4"))
    assert {**first, "created": ""} == {**again, "created": ""}
    assert first["test"] != other["test"]


def test_options_are_kept(folder: Path) -> None:
    """The method that was asked for, the premium tier at the end, and judges by name."""
    two = ["--tiers", "cheap,dear", "--max-loss", "0.2"]
    preset, split = (figures(folder, *two, "--judges", "logprob", "--method", m) for m in ("preset", "split"))
    assert preset["n"] == {"fit": 0, "certify": 150, "test": 150}
    assert split["n"]["fit"] > 0
    assert split["chosen"]["judges"]["cheap"] == ["logprob"]
    with_premium = figures(folder, "--tiers", "cheap,dear", "--budget-per-1k", "1", "--keep-premium")
    free = figures(folder, "--tiers", "cheap,dear", "--budget-per-1k", "1")
    assert with_premium["chosen"]["tiers"] == ["cheap", "dear"]
    assert free["chosen"]["tiers"] == ["cheap"]


def test_the_page_reads_the_selective_promise_as_a_risk(replays: dict[str, dict[str, Any]]) -> None:
    """Its value is then the share of wrong answers among the accepted ones."""
    data = {**replays["min_accepted_quality"], "calibration_list": []}
    assert page(data)["promise"] == {"kind": "selective", "value": pytest.approx(0.2), "delta": 0.1}
    assert data["promise"]["value"] == 0.8
    assert page({**replays["budget"], "calibration_list": []})["promise"]["kind"] == "budget"


def test_what_is_printed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The verdict first, in lines of a terminal's width; the table, the counts, each tier, and the file that was written."""
    data = figures(folder, "--tiers", "cheap,dear", "--max-loss", "0.1")
    out = capsys.readouterr().out
    assert "rows: " + ", ".join(f"{n} to {part}" for part, n in data["n"].items()) in out
    words = " ".join(out.split("\n\n")[0].split())
    assert [line[:5] for line in out.split("\n") if not line.startswith(" ")][:3] == ["saves", "loses", "proof"]
    assert f"CERTIFIED: {data['certificate']['words']}" in words
    assert f"p = {data['certificate']['p_value']:.4f}" in words
    assert max(len(line) for line in out.split("\n") if not line.startswith(("written", "rows"))) <= 100
    assert "figures.json (figures)" in out
    [at] = data["chosen"]["thresholds"]
    assert f"  cheap: accept from confidence {at:.4g}; judges: rules, logprob" in out
    assert all(item["name"] in out for item in data["lines"])
    assert "rows/s through the engine" in out
