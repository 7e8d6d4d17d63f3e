"""The whole loop through the real commands: a policy, its certificate, traffic, and a new certificate from that traffic.

And the way from a checkout to the first certified policy of one's own questions, by following what each command prints.
"""

import contextlib
import csv
import io
import json
import os
import random
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch
from urllib.request import Request, urlopen

import pytest

from cascade.cli import main
from cascade.data import STARTER_RECORDING
from evals.recording import Example, read
from tests.workers import warm_python

ROOT = Path(__file__).parents[2]
SMALL, LARGE = "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"
POLICIES = f"""# The policies of the loop.
version: 1
journal: {{url: "sqlite:///loop.db"}}
models:
  small: {{provider: recorded, recording: starter, model: {SMALL}}}
  large: {{provider: recorded, recording: starter, model: {LARGE}}}
policies:
  default:
    journal_text: true
    shadow: {{share: 0.6, floor: 0.3, budget_usd_per_day: 5, max_per_minute: 100000, text: true}}
    tiers:
      - {{name: cheap, model: small, accept_at: 0.9, judges: [schema, rules, logprob]}}   # a guess
      - {{name: premium, model: large, accept_at: 0.6, judges: [schema, rules, logprob]}}
"""
PROMPTS = 420


def cascade(folder: Path, *words: str) -> str:
    """What a command prints; it must succeed. It runs here: a process each would spend most of its time on imports."""
    printed, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(folder),
        patch.dict(os.environ, environment(), clear=True),
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(errors),
    ):
        status = main(words)
    assert status == 0, f"{words}\n{printed.getvalue()}\n{errors.getvalue()}"
    return printed.getvalue() + errors.getvalue()


def environment() -> dict[str, str]:
    """An environment without keys and settings of whoever runs the tests."""
    unset = ("CASCADE_POLICIES", "OPENAI_API_KEY", "ANTHROPIC_API_KEY")
    return {**{k: v for k, v in os.environ.items() if k not in unset}, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}


@contextmanager
def gateway(folder: Path, policy_file: str) -> Iterator[str]:
    """A running gateway's address."""
    command = [sys.executable, "-m", "cascade", "serve", "--port", "0", "--stop-on-eof", "--policy-file", policy_file]
    pipe = subprocess.PIPE
    with warm_python.Popen(command, cwd=folder, env=environment(), stdin=pipe, stderr=pipe, text=True) as running:
        assert running.stderr is not None
        try:
            output = ""
            for line in running.stderr:
                output += line
                if "http://" in line:
                    yield line.split()[1].removesuffix("/v1")
                    break
            else:
                raise AssertionError(output)
        finally:
            running.terminate()
            running.stderr.read()


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The gateway's reply."""
    request = Request(f"{url}{path}", json.dumps(body).encode(), {"content-type": "application/json"})
    with urlopen(request, timeout=30) as reply:
        data: dict[str, Any] = json.load(reply)
        return data


def ask(url: str, example: Example) -> dict[str, Any]:
    """One prompt, as a client asks it, with feedback on the answer."""
    schema = {"schema": example.schema} if example.schema is not None else {}
    system = {"system": example.system} if example.system is not None else {}
    run = post(url, "/v1/route", {"prompt": example.prompt, **system, **schema, "tags": {"team": example.task}})
    model = next(m for m in (SMALL, LARGE) if m == run["model"])
    post(url, "/v1/feedback", {"run_id": run["run_id"], "quality": example.answers[model]["quality"]})
    return run


def graded_by_a_person(recording: Path, examples: list[Example]) -> int:
    """Gives the shadows' answers the grade that a person would, and counts the rows that were drawn at random."""
    qualities = {(m, a["text"]): a["quality"] for e in examples for m, a in e.answers.items()}
    lines = [json.loads(line) for line in recording.read_text(encoding="utf-8").splitlines()]
    for line in lines:
        for model, answer in line["answers"].items():
            answer["quality"] = qualities[model, answer["text"]]
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return sum("sampling_probability" in line for line in lines)


def test_the_loop_from_a_policy_to_a_proved_policy_and_back(tmp_path: Path) -> None:
    """Policy, replay, tuned policy, gateway with traffic and feedback, export, replay, new calibration by hot reload."""
    examples = list(read(STARTER_RECORDING))[:PROMPTS]
    (tmp_path / "policies.yaml").write_text(POLICIES, encoding="utf-8")
    tune = ("replay", "--policy-file", "policies.yaml", "--split", "recorded", "--max-loss", "0.1,0.2")
    printed = cascade(tmp_path, *tune, "--write-policy", "tuned.yaml")
    assert "CERTIFIED" in printed
    for line in ("check --strict tuned.yaml", "serve --policy-file tuned.yaml", "journal export tuned-traffic.jsonl"):
        assert line in printed
    assert "no warnings" in cascade(tmp_path, "check", "--strict", "tuned.yaml")
    with gateway(tmp_path, "tuned.yaml") as url:
        with ThreadPoolExecutor(8) as threads:
            runs = list(threads.map(lambda example: ask(url, example), examples))
        assert {run["tier"] for run in runs} == {"cheap", "premium"}
        assert all(run["calibrated"] for run in runs)
        _await_shadows(tmp_path)
        export = ("journal", "export", "tuned-traffic.jsonl", "--format", "recording", "--policy-file", "tuned.yaml")
        assert "next: " in cascade(tmp_path, *export, "--task-tag", "team")
        sample = graded_by_a_person(tmp_path / "tuned-traffic.jsonl", examples)
        assert 100 < sample < len(examples)
        again = ("--policy-file", "policies.yaml", "--max-loss", "0.2,0.3", "--out", "tuned-calibration.json")
        printed = cascade(tmp_path, "replay", "tuned-traffic.jsonl", *again)
        assert "rows used as a sample of the traffic, drawn with probability 0.3" in printed
        assert "tuned-traffic.jsonl" in (tmp_path / "tuned-calibration.json").read_text(encoding="utf-8")
        # The gateway accepts the new calibration without a restart.
        certain = next(e for e, run in zip(examples, runs, strict=True) if run["tier"] == "cheap")
        before, deadline = ask(url, certain)["confidence"], time.monotonic() + 20
        first = runs[examples.index(certain)]["confidence"]
        while before == first and time.monotonic() < deadline:
            time.sleep(0.1)
            before = ask(url, certain)["confidence"]
        assert before != first
    assert "every decision follows from its verdicts" in cascade(
        tmp_path, "journal", "verify", "--policy-file", "tuned.yaml"
    )


def _await_shadows(folder: Path) -> None:
    """Waits until no shadow request is under way."""
    import sqlite3

    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with sqlite3.connect(folder / "loop.db") as db:
            states = dict(db.execute("SELECT state, COUNT(*) FROM cascade_shadows GROUP BY state").fetchall())
        if states.get("done") and not (states.keys() - {"done", "skipped", "failed"}):
            return
        time.sleep(0.2)
    raise AssertionError(states)


OWN = """version: 1
models:
  small: {provider: recorded, recording: models.jsonl, price: {input_per_mtok: 0.1, output_per_mtok: 0.4}}
  large: {provider: recorded, recording: models.jsonl, price: {input_per_mtok: 2.0, output_per_mtok: 8.0}}
policies:
  openai:
    tiers:
      - {name: cheap, model: small, accept_at: 0.9, judges: [schema, rules, logprob]}
      - {name: premium, model: large, accept_at: 0.6, judges: [schema, rules, logprob]}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with a table of one's own questions, and models that answer them: the small one is unsure where it errs."""
    rng = random.Random(5)
    with (tmp_path / "questions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["prompt", "reference"])
        rows = [(f"What is {a} + {b}?", str(a + b)) for a in range(20) for b in range(30)]
        table.writerows(rows)
    usage = {"input_tokens": 20, "output_tokens": 5}
    with (tmp_path / "models.jsonl").open("w", encoding="utf-8") as file:
        for i, (prompt, reference) in enumerate(rows):
            right = rng.random() < 0.8
            small = {"text": reference if right else "0", "logprob": -rng.uniform(0.0, 0.3) - 1.2 * (not right)}
            large = {"text": reference, "logprob": -0.05}
            costs = {"small": 4e-6, "large": 8e-5}
            answers = {m: {**a, "usage": usage, "cost_usd": costs[m]} for m, a in (("small", small), ("large", large))}
            file.write(json.dumps({"id": str(i), "prompt": prompt, "answers": answers}) + "\n")
    (tmp_path / "policies.yaml").write_text(OWN, encoding="utf-8")
    return tmp_path


def test_each_command_prints_the_next_until_a_policy_is_certified(project: Path) -> None:
    """At most five after the checkout, the first of them ``make replay``, whose own command is run here."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    line = next(line for line in makefile.splitlines() if "-m evals.replay" in line)
    words = line.strip().replace("cascade/data/calibration.json", "c.json").split()[3:]
    printed = cascade(project, "replay", *words)
    commands = 2  # git clone, make replay
    while "CERTIFIED" not in printed or commands == 2:
        following = [text.strip() for text in printed.splitlines() if " record " in text or " replay " in text]
        command = shlex.split(next(text for text in following if text.split()[0].endswith(("cascade", "python"))))
        at = next(i for i, word in enumerate(command) if word in ("record", "replay"))
        printed = cascade(project, *command[at:])
        commands += 1
        assert commands <= 5, printed
    assert "NOT CERTIFIED" not in printed
    assert "calibration: policies-tuned-calibration.json" in (project / "policies-tuned.yaml").read_text(encoding="utf-8")
    assert " check --strict --policy openai policies-tuned.yaml" in printed
