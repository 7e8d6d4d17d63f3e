"""The audit: sums that are right, honest savings, planted faults, and a page that is safe to open."""

import csv
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.journal.record import Record
from evals.audit.audit import main

from . import journals
from .journals import CHEAP_USD, PREMIUM_USD, SPEC, fill


def setup(folder: Path, seed: int = 0, **options: Any) -> Path:
    """A policy file and a filled journal beside it."""
    url = f"sqlite:///{folder / 'journal.db'}"
    fill(url, np.random.default_rng(seed), now=time.time(), **options)
    file = folder / "policies.yaml"
    models = {name: {"provider": "scripted", "answers": ["a"]} for name in ("small", "large")}
    content = {"journal": {"url": "sqlite:///journal.db"}, "models": models, "policies": {"default": SPEC}}
    file.write_text(json.dumps(content), encoding="utf-8")  # YAML reads JSON
    return file


def audit_of(folder: Path, seed: int = 0, **options: Any) -> tuple[int, dict[str, Any]]:
    """The exit code and the JSON of an audit."""
    file = setup(folder, seed, **options)
    status = main(["--policy-file", str(file), "--since", "7d", "--json", str(folder / "audit.json")])
    return status, json.loads((folder / "audit.json").read_text(encoding="utf-8"))


def titles(data: dict[str, Any]) -> str:
    """What the audit proposes."""
    return " | ".join(change["title"] for change in data["changes"])


def test_the_sums_are_those_of_the_runs(tmp_path: Path) -> None:
    """Counts, costs and savings follow from the records; groups add up to the total."""
    status, data = audit_of(tmp_path)
    total = data["traffic"]["total"]
    escalated = round(total["escalated_share"] * total["runs"])
    assert status == 0
    assert total["runs"] == total["answered"] == 400
    assert total["usd"] == pytest.approx(400 * CHEAP_USD + escalated * PREMIUM_USD)
    # Shadowed runs have measured costs, a fifth above the estimates.
    assert 0 < total["premium_measured"] < 400 - escalated
    assert total["premium_usd"] == pytest.approx((400 + 0.2 * total["premium_measured"]) * PREMIUM_USD)
    assert total["saved_usd"] == pytest.approx(total["premium_usd"] - total["usd"])
    low, high = total["saved_interval"]
    assert low < total["saved_usd"] < high
    for name in ("policy", "task", "key", "tier", "day"):
        groups = data["traffic"][f"by_{name}"].values()
        assert sum(group["runs"] for group in groups) == 400
        assert sum(group["usd"] for group in groups) == pytest.approx(total["usd"])
    assert set(data["traffic"]["by_task"]) == {"chat", "code"}
    assert data["period_before"]["runs"] == 0


def test_stopped_runs_save_nothing(tmp_path: Path) -> None:
    """A page once said "94 % saved" while budgets had stopped nine of ten runs: those are counted as stopped, no saving."""
    _, data = audit_of(tmp_path, stopped=0.9)
    total = data["traffic"]["total"]
    assert total["stopped"] > 300
    assert total["compared"] == total["answered"] == 400 - total["stopped"]
    assert total["premium_usd"] == pytest.approx((total["answered"] + 0.2 * total["premium_measured"]) * PREMIUM_USD)


def test_unknown_costs_are_counted_and_are_not_0(tmp_path: Path) -> None:
    """A run of unknown cost has no saving."""
    _, data = audit_of(tmp_path, unpriced=0.5)
    total = data["traffic"]["total"]
    assert 150 < total["unpriced"] < 250
    assert total["compared"] == 400 - total["unpriced"]


def test_the_loss_is_weighted_and_has_an_interval(tmp_path: Path) -> None:
    """The estimate is near the true loss, which the interval covers; premium's measured and estimated costs are compared."""
    _, data = audit_of(tmp_path, n=800, loss=0.03, escalated=0.3)
    quality = data["quality"]["default"]
    low, high = quality["loss_interval"]
    assert quality["labels"] == quality["sampled"] > 300
    assert low <= 0.021 <= high
    assert quality["loss"] == pytest.approx(0.021, abs=0.02)
    assert quality["premium_measured_to_estimated"] == pytest.approx(1.2)


def test_without_labels_nothing_is_claimed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The loss is unknown, and the report says what to run."""
    _, data = audit_of(tmp_path, labels=False)
    assert data["quality"]["default"]["loss"] is None
    assert "none of them graded; run cascade grade-shadows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"loss": 0.3}, "accept less at cheap"),
        ({"never_pays": "code"}, "start task code at premium"),
        ({"never_pays": "code", "stopped": 0.15}, "start task code at premium"),
        ({"stopped": 0.2}, "give it a larger budget"),
        ({"useless": 0.9}, "retune its thresholds"),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_planted_faults_are_proposed(tmp_path: Path, fault: dict[str, Any], words: str) -> None:
    """A worse cheap model, a task that never pays, a budget that starves, escalations that change nothing."""
    status, data = audit_of(tmp_path, **fault)
    assert words in titles(data)
    assert len(data["changes"]) <= 5
    assert all(change["price"] and change["effect"] and change["lines"] for change in data["changes"])
    assert status == ("loss" in fault)


def with_period_before(
    folder: Path, seed: int, plant: Callable[[Record, np.random.Generator], Record] | None = None
) -> dict[str, Any]:
    """The audit of two days after two clean days; ``plant`` changes the later runs."""
    file = setup(folder, seed, n=300, loss=0.01, **({} if plant is None else {"plant": plant}))
    earlier = np.random.default_rng(seed + 1_000)
    fill(f"sqlite:///{folder / 'journal.db'}", earlier, now=time.time() - 2 * 86_400.0, n=300, loss=0.01, labels=False)
    main(["--policy-file", str(file), "--since", "48h", "--json", str(folder / "audit.json")])
    data: dict[str, Any] = json.loads((folder / "audit.json").read_text(encoding="utf-8"))
    return data


def starving(record: Record, rng: np.random.Generator) -> Record:
    """One key in three runs out of its budget in every second run."""
    key = "team-b" if rng.random() < 0.3 else "team-a"
    record = record._replace(tags={**record.tags, "key": key})
    stopped = key == "team-b" and rng.random() < 0.15
    return record._replace(reason="budget", accepted=False, tier=None) if stopped else record


def failing(record: Record, rng: np.random.Generator) -> Record:
    """A provider fails in a tenth of the runs."""
    fails = rng.random() < 0.1
    return record._replace(reason="provider_failure", accepted=False, tier=None) if fails else record


def dearer(record: Record, _: np.random.Generator) -> Record:
    """The price doubled."""
    return record._replace(cost_usd=2.0 * (record.cost_usd or 0.0))


def slower(record: Record, _: np.random.Generator) -> Record:
    """Every run takes three times as long."""
    return record._replace(latency_s=3.0 * record.latency_s)


def unpriced(record: Record, rng: np.random.Generator) -> Record:
    """A tenth of the costs is unknown."""
    return record._replace(cost_usd=None) if rng.random() < 0.1 else record


def broken_judge(record: Record, rng: np.random.Generator) -> Record:
    """A judge scores everything low: most of what was accepted escalates."""
    if len(record.attempts) > 1 or rng.random() < 0.3:
        return record
    second = journals.attempt("premium", "b", 0.9)
    return record._replace(attempts=[*record.attempts, second], tier="premium", cost_usd=CHEAP_USD + PREMIUM_USD)


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (starving, "key team-b: give it a larger budget"),
        (failing, "give its models fallbacks, providers fail"),
        (dearer, "check its model's price"),
        (slower, "it became slow"),
        (unpriced, "costs are unknown"),
        (broken_judge, "look at its judges and its first tier, escalations rose"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_changed_since_the_period_before_is_found(tmp_path: Path, plant: Any, words: str) -> None:
    """A key that starves, a provider that fails, a price, a latency, unknown costs, a broken judge."""
    data = with_period_before(tmp_path, 3, plant)
    assert words in titles(data)
    assert all(change["price"] and change["effect"] and change["lines"] for change in data["changes"])


def test_clean_journals_have_no_finding(tmp_path: Path) -> None:
    """Four of them, each with a clean period before."""
    for seed in range(4):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert with_period_before(folder, seed)["changes"] == []


def test_a_worse_model_breaks_the_promise_and_the_exit_code_says_so(tmp_path: Path) -> None:
    """1, with the raised threshold's price and effect, and costly acceptances with their texts side by side."""
    status, data = audit_of(tmp_path, loss=0.3)
    assert status == 1
    assert data["promises"]["default"]["state"] == "broken"
    (change,) = data["changes"]
    assert "USD more per 1,000 runs" in change["price"]
    assert "95 %" in change["effect"]
    costly = data["quality"]["default"]["costly_acceptances"]
    assert len(costly) == 10
    assert (costly[0]["returned"], costly[0]["premium"]) == ("a", "right")
    assert costly[0]["prompt"].startswith("question ")


def test_csv_has_a_row_for_each_group_and_no_formulas(tmp_path: Path) -> None:
    """A task that is called like a formula is quoted."""
    file = setup(tmp_path, tasks=("=1+1", "chat"))
    assert main(["--policy-file", str(file), "--csv", str(tmp_path / "a.csv")]) == 0
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()))
    assert {row["group"] for row in rows if row["dimension"] == "task"} == {"'=1+1", "chat"}
    assert sum(int(row["runs"]) for row in rows if row["dimension"] == "day") == 400


def test_the_page_needs_nothing_else_and_shows_markup_as_text(tmp_path: Path) -> None:
    """No URL, no script; untrusted text is escaped; there are styles for dark mode and phones."""
    file = setup(tmp_path, loss=0.3, tasks=("<script>alert(1)</script>", "chat"))
    main(["--policy-file", str(file), "--html", str(tmp_path / "a.html")])
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http" not in page
    assert "prefers-color-scheme:dark" in page
    assert "width=device-width" in page
    assert "is broken" in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--since", "yesterday"], "is not a time"),
        (["--policy", "other"], "unknown policy 'other'"),
        (["--since", "1d", "--until", "2d"], "must lie before"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2, one line."""
    file = setup(tmp_path, n=10)
    assert main(["--policy-file", str(file), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_the_generated_policy_is_the_files_policy() -> None:
    """Or the labels would belong to another one."""
    assert journals.POLICY.hash == journals.Policy.model_validate(SPEC).hash
