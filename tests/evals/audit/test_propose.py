"""From production to a new calibration: shadowed runs are exported, graded, tuned and certified by one command."""

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Cascade, ScriptedModel
from cascade.journal.open_store import open_store
from cascade.journal.read.to_recording import as_recording
from cascade.journal.store import Filter
from cascade.policy import load as policy_files
from evals.audit.audit import main
from evals.audit.propose import NAMES, sampled_lines
from evals.recording import read

POLICIES = """
journal: {url: "sqlite:///journal.db"}
models:
  small: {provider: scripted, answers: ["0"], price: {input_per_mtok: 0.1, output_per_mtok: 0.1}}
  large: {provider: scripted, answers: ["0"], price: {input_per_mtok: 5, output_per_mtok: 5}}
policies:
  default:
    tiers:
      - {name: cheap, model: small, judges: [rules, logprob]}
      - {name: premium, model: large, judges: [rules, logprob]}
    shadow: {share: 1.0, budget_usd_per_day: 10, max_per_minute: 100000, text: true}
    promise: {max_loss: 0.1}
"""


class Priced(ScriptedModel):
    """A scripted model whose most is known."""

    max_cost_usd = 1e-3  # type: ignore[assignment]


def cheap(prompt: Any, _: Any) -> Answer:
    """Right where it is sure, mostly wrong where it is not."""
    number = int(prompt.text.rpartition(" ")[2].rstrip("?"))
    draw = random.Random(number)
    sure = draw.random() < 0.7
    right = draw.random() < (0.99 if sure else 0.3)
    return Answer(str(number + (not right)), mean_logprob=-0.02 if sure else -1.5, finish_reason="stop", cost_usd=1e-5)


def premium(prompt: Any, _: Any) -> Answer:
    """Always right."""
    return Answer(prompt.text.rpartition(" ")[2].rstrip("?"), mean_logprob=-0.01, finish_reason="stop", cost_usd=1e-3)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a policy file, a journal of 400 shadowed runs, and the right answers."""
    folder = tmp_path_factory.mktemp("production")
    file = folder / "policies.yaml"
    file.write_text(POLICIES, encoding="utf-8")
    models = {"small": ScriptedModel("small", cheap, keep_calls=False), "large": Priced("large", premium, keep_calls=False)}
    rows = []
    with Cascade(file, models=models) as service:
        for i in range(400):
            run_id = service.run(f"What is {i}?").run_id
            rows.append(json.dumps({"run_id": run_id, "reference": i}) + "\n")
        shadower = service._shadower
        assert shadower is not None
        end = time.monotonic() + 120.0
        while shadower._queue and time.monotonic() < end:  # closing waits for a few seconds only
            time.sleep(0.05)
    (folder / "references.jsonl").write_text("".join(rows), encoding="utf-8")
    return folder


def test_a_proposal_is_tuned_and_certified_on_the_sample(
    production: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All files are there, the calibration is certified, and the new policy file loads and is cheaper than premium."""
    arguments = ["--policy-file", str(production / "policies.yaml"), "--propose", str(production / "proposal")]
    references = ["--references", str(production / "references.jsonl")]
    assert main([*arguments, "--grader", "number", *references]) == 0, capsys.readouterr()
    folder = production / "proposal"
    assert sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) == sorted(NAMES)
    rows = list(read(folder / "sampled.recording.jsonl"))
    assert len(rows) == 400
    assert all(row.raw["sampling_probability"] == 1.0 for row in rows)
    assert {answer["quality"] for row in rows for answer in row.answers.values()} == {0.0, 1.0}
    calibration = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    assert calibration["certificate"]["certified"]
    assert calibration["promise"]["value"] == 0.1
    assert calibration["evidence"]["test"]["cost_ratio"] < 0.6
    tuned = policy_files.load(production / "policies.proposed.yaml").policies["default"]
    assert [tier.name for tier in tuned.tiers] == ["cheap", "premium"]
    assert tuned.tiers[0].confidence is not None
    assert tuned.promise is not None


def test_only_sampled_runs_are_used(production: Path) -> None:
    """A run that premium answered while shadowing paused is not part of the sample."""
    store: Any = open_store(f"sqlite:///{production / 'journal.db'}", create=False)
    records = list(store.read(Filter()))
    store.close()
    escalated = [record for record in records if not record.shadow_tiers]
    shadowed = [record for record in records if record.shadow_tiers]
    paused = shadowed[0]._replace(shadows=[{**shadowed[0].shadows[0], "state": "skipped"}])
    lines = sampled_lines([shadowed[1], escalated[0], paused, escalated[1], shadowed[2], escalated[2]], {})
    assert [line["id"] for line in lines] == [
        record.run_id for record in (shadowed[1], escalated[0], shadowed[2], escalated[2])
    ]
    others = [line for line in as_recording([paused, escalated[1]]) if "sampling_probability" in line]
    assert others == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--propose", "x"], "needs --grader"),
        (["--grader", "number"], "need --propose"),
        (["--propose", "x", "--grader", "nmber"], "did you mean"),
        (["--propose", "x", "--grader", "number", "--until", "2000-01-02", "--since", "2000-01-01"], "no sampled run"),
    ],
)
def test_what_is_missing_is_named(
    production: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Exit code 2."""
    monkeypatch.chdir(tmp_path)
    assert main(["--policy-file", str(production / "policies.yaml"), *arguments]) == 2
    assert message in capsys.readouterr().err
