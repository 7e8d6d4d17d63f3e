"""The loop in production by its commands: sampled runs are graded, audited, tuned again, tried as a canary, and promoted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from cascade import Cascade, Result, ScriptedModel
from cascade.cli import main
from tests.evals.audit.test_propose import Priced, cheap, premium, production

__all__ = ["production"]


def ask(folder: Path, first: int, count: int) -> list[Result]:
    """Runs of the policy file as it is now; their right answers are added to the references."""
    models = {"small": ScriptedModel("small", cheap, keep_calls=False), "large": Priced("large", premium, keep_calls=False)}
    with Cascade(folder / "policies.yaml", models=models) as service:
        results = [service.run(f"What is {number}?") for number in range(first, first + count)]
    with (folder / "references.jsonl").open("a", encoding="utf-8") as file:
        for number, result in enumerate(results, first):
            file.write(json.dumps({"run_id": result.run_id, "reference": number}) + "\n")
    return results


def test_audit_proposal_canary_promotion(
    production: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """From 400 runs with thresholds that nobody tuned to a certified calibration for all runs, and back by one command."""
    monkeypatch.chdir(production)
    grade = ["grade-shadows", "--grader", "number", "--references", "references.jsonl"]
    assert main(grade) == 0
    assert "400 runs labelled" in capsys.readouterr().out
    assert main(["audit", "--since", "1d", "--json", "audit.json"]) in (0, 1)
    assert json.loads((production / "audit.json").read_text(encoding="utf-8"))["traffic"]["total"]["runs"] == 400
    proposal = ["--propose", "proposal", "--grader", "number", "--references", "references.jsonl"]
    assert main(["audit", "--since", "1d", "--policy", "default", *proposal]) == 0
    line = next(line for line in capsys.readouterr().out.splitlines() if line.strip().startswith("canary: {"))

    file = production / "policies.yaml"
    file.write_text(file.read_text("utf-8") + line.replace("share: 0.1", "share: 0.5") + "\n", encoding="utf-8")
    arms = Counter(result.canary for result in ask(production, 1_000, 80))
    assert min(arms["present"], arms["candidate"]) > 15
    assert main(grade) == 0
    capsys.readouterr()
    assert main(["canary", "status"]) == 0
    status = capsys.readouterr().out
    assert "the candidate calibration has 50% of the runs" in status
    assert f"candidate  {arms['candidate']} runs" in status
    assert "; 0 labels" not in status

    assert main(["canary", "promote"]) == 0
    promoted = ask(production, 2_000, 10)
    assert {result.canary for result in promoted} == {None}
    assert all(result.calibrated for result in promoted)
    assert main(["canary", "abort"]) == 0
    assert not any(result.calibrated for result in ask(production, 3_000, 10))
    capsys.readouterr()
    assert main(["canary", "history"]) == 0
    assert "proposal/calibration.json" in capsys.readouterr().out
