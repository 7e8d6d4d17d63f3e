"""A replay of one's own policy: one command calibrates it and writes the policy file that uses the calibration."""

from pathlib import Path

import pytest

from cascade import Cascade, PolicyError
from cascade.data import STARTER_RECORDING
from cascade.policy import load
from evals.replay.command import main

FILE = """# My policies.
version: 1
models:
  cheap: {provider: recorded, recording: starter, model: qwen2.5-coder-0.5b-instruct}  # small
  dear: {provider: recorded, recording: starter, model: qwen2.5-coder-1.5b-instruct}
policies:
  default:
    tiers:
      - {model: cheap, accept_at: 0.9, judges: [schema, rules, logprob]}
      - {model: dear, accept_at: 0.6, judges: [schema, rules, logprob]}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy file like the README's."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "policies.yaml").write_text(FILE, encoding="utf-8")
    return tmp_path


def test_one_command_calibrates_the_policy_of_the_readme(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It loads at once, keeps comments, and the three next commands are printed."""
    assert main(["--policy-file", "policies.yaml", "--max-loss", "0.1", "--write-policy", "tuned.yaml"]) == 0
    out = capsys.readouterr().out
    assert "written: tuned-calibration.json (calibration)\nwritten: tuned.yaml (policy that uses it)\nnext:\n" in out
    assert "\n  cascade check --strict tuned.yaml\n  cascade serve --policy-file tuned.yaml\n  cascade run --policy-" in out
    text = Path("tuned.yaml").read_text(encoding="utf-8")
    assert text.startswith("# My policies.\n")
    assert "# small" in text
    policy = load.load("tuned.yaml").policies["default"]
    assert [[j.use for j in tier.judges] for tier in policy.tiers] == [["schema", "rules", "logprob"]] * 2
    assert all(tier.confidence for tier in policy.tiers)
    with Cascade("tuned.yaml") as service:
        result = service.run("What is the capital of France? Reply with the answer only.")
    assert (result.calibrated, result.judged) == (True, True)


def test_a_mismatch_names_all_differences_with_lines_to_paste(folder: Path) -> None:
    """Pasting the lines makes the file load."""
    assert main(["--policy-file", "policies.yaml", "--max-loss", "0.1", "--write-policy", "tuned.yaml"]) == 0
    wrong = Path("tuned.yaml").read_text(encoding="utf-8").replace("judges: [schema, rules, logprob]", "judges: [rules]")
    wrong = wrong.replace("{model: cheap,", "{model: cheap, accept_at: 0.12,")
    Path("tuned.yaml").write_text(wrong, encoding="utf-8")
    with pytest.raises(PolicyError) as caught:
        load.load("tuned.yaml")
    message = str(caught.value)
    assert message.count("was fitted with the judges schema, rules, logprob, the policy has rules") == 2
    assert "accept_at is 0.12 here but" in message
    assert "--policy-file tuned.yaml --policy default --max-loss" in message
    pasted = message[message.index("    tiers:") :]
    head = wrong[: wrong.index("    tiers:")]
    Path("tuned.yaml").write_text(head + pasted + "\n", encoding="utf-8")
    assert load.load("tuned.yaml").policies["default"].tiers[0].judges


def test_a_policy_whose_calibration_no_longer_fits_can_be_tuned_again(folder: Path) -> None:
    """Its file is read without the calibration."""
    Path("old.json").write_text("{}", encoding="utf-8")
    Path("policies.yaml").write_text(FILE.replace("    tiers:", "    calibration: old.json\n    tiers:"), encoding="utf-8")
    assert main(["--policy-file", "policies.yaml", "--max-loss", "0.1", "--write-policy", "tuned.yaml"]) == 0
    assert "calibration: tuned-calibration.json" in Path("tuned.yaml").read_text(encoding="utf-8")


def test_a_limit_that_changes_answers_voids_the_certificate(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The certificate would then be about another policy than the one that runs."""
    Path("policies.yaml").write_text(FILE.replace("    tiers:", "    max_calls: 1\n    tiers:"), encoding="utf-8")
    assert main(["--policy-file", "policies.yaml", "--max-loss", "0.1", "--write-policy", "tuned.yaml"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "NOT CERTIFIED: " in out
    assert "max_calls: 1" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--policy", "x"], "--policy needs --policy-file"),
        (["--write-policy", "t.yaml"], "--write-policy needs --policy-file"),
        (["--policy-file", "policies.yaml", "--policy", "defalt"], "did you mean 'default'"),
        (["--policy-file", "policies.yaml", "--tiers", "a,b", "--max-loss", "0.1"], "exclude each other"),
        (["--policy-file", "policies.yaml", "--as-is", "--out", "c.json"], "exclude each other"),
        (["--policy-file", "policies.yaml", "--write-policy", "policies.yaml"], "are one file"),
        (["--policy-file", "policies.yaml", "--write-policy", "sub/t.yaml"], "write the new file there"),
    ],
)
def test_what_cannot_be_done_is_said(
    folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is computed."""
    (folder / "sub").mkdir()
    assert main([str(STARTER_RECORDING), *arguments]) == 2
    assert message in capsys.readouterr().err


def test_models_that_the_recording_lacks_are_named_with_the_command(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All of them at once."""
    file = FILE.replace("qwen2.5-coder-0.5b-instruct", "x").replace("qwen2.5-coder-1.5b-instruct", "y")
    Path("policies.yaml").write_text(file, encoding="utf-8")
    assert main([str(STARTER_RECORDING), "--policy-file", "policies.yaml", "--max-loss", "0.1"]) == 2
    error = capsys.readouterr().err
    assert "no model 'x', 'y'" in error
    assert "cascade record RECORDING --missing --policy-file policies.yaml" in error
