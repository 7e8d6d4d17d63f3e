"""Prompts unlike the recording are noticed within 500 runs, without labels; prompts like it are not."""

import json
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.promise.drift import text_of
from evals.audit import prompt_texts
from evals.audit.audit import main
from evals.audit.prompt_drift import PromptDrift
from tests.evals.audit.journals import SPEC, fill
from tests.evals.engines.serial_engine import SerialEngine

WORDS = ("the", "of", "which", "for", "from", "into", "about", "under", "capital", "river", "answer", "correct", "history")


def question(rng: random.Random) -> str:
    """A multiple-choice question, as mmlu has them."""
    stem = " ".join(rng.choice(WORDS) for _ in range(rng.randint(15, 45)))
    options = "\n".join(f"{letter}. {' '.join(rng.choice(WORDS) for _ in range(rng.randint(2, 9)))}" for letter in "ABCD")
    return f"{stem.capitalize()}?\n{options}\nAnswer:"


def sum_of(rng: random.Random) -> str:
    """A word problem, as gsm8k has them."""
    return f"Ana has {rng.randint(2, 900)} mugs and sells {rng.randint(1, 90)} for ${rng.randint(1, 40)}. How much is left?"


def prompt(text: str) -> dict[str, Any]:
    """A run's prompt, as the journal keeps it."""
    return {"messages": [{"role": "user", "content": text}], "schema": None}


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of 300 multiple-choice questions."""
    rng, path = random.Random(0), tmp_path / "recording.jsonl"
    rows = [
        {"id": str(i), "task": "mmlu", "prompt": question(rng), "reference": "A", "answers": {"small": {"text": "A"}}}
        for i in range(300)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_another_task_in_the_middle_is_noticed_before_500_runs_of_it(recording: Path) -> None:
    """And not before it begins."""
    rng, drift = random.Random(1), PromptDrift.of(str(recording))
    for i in range(1_000):
        drift.add("default", float(i), prompt(question(rng) if i < 500 else sum_of(rng)))
    one = drift.policies["default"]
    assert one.after is not None
    assert 500 < one.after < 1_000
    assert "prompts are unlike the recording's, shown by 1970-01-01" in one.words()


def test_prompts_like_the_recording_are_not_called_unlike_it(recording: Path) -> None:
    """In none of three streams of a thousand runs."""
    for seed in range(3):
        rng, drift = random.Random(seed), PromptDrift.of(str(recording))
        for i in range(1_000):
            drift.add("default", float(i), prompt(question(rng)))
        assert drift.policies["default"].since is None


def test_runs_without_text_and_parts_of_messages() -> None:
    """Texts of all messages count, images do not."""
    parts = [{"type": "text", "text": "b"}, {"type": "image_url", "image_url": {}}]
    assert text_of([{"role": "system", "content": "a"}, {"role": "user", "content": parts}]) == "a\nb\n"


@pytest.mark.parametrize("shard_texts", [1, 70, 1_000])
def test_an_engine_says_the_same(recording: Path, monkeypatch: pytest.MonkeyPatch, shard_texts: int) -> None:
    """Whatever the shards: runs stay in their order, and policies apart."""
    monkeypatch.setattr(prompt_texts, "SHARD_TEXTS", shard_texts)
    rng = random.Random(3)
    runs = [(f"p{i % 2}", float(i), prompt(question(rng) if i < 100 else sum_of(rng))) for i in range(400)]
    results = []
    for engine in (None, SerialEngine()):
        drift = PromptDrift.of(str(recording), engine)
        drift.add_all(iter(runs), engine)
        results.append({name: one.to_json() for name, one in drift.policies.items()})
    assert results[0] == results[1]
    assert results[0]["p0"]["unlike_since"] is not None


def test_the_command_says_it(recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In text and JSON; without --recording nothing is compared."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    fill(url, np.random.default_rng(1), now=time.time() - 60.0)
    models = {name: {"provider": "scripted", "answers": ["a"], "price": {"input_per_mtok": 1, "output_per_mtok": 1}}
              for name in ("small", "large")}  # fmt: skip
    file = tmp_path / "policies.yaml"
    file.write_text(json.dumps({"journal": {"url": url}, "models": models, "policies": {"default": SPEC}}), encoding="utf-8")
    arguments = ["--policy-file", str(file), "--json", str(tmp_path / "a.json")]
    assert main([*arguments, "--recording", str(recording)]) == 0
    assert "default: prompts are unlike the recording's" in capsys.readouterr().out
    assert json.loads((tmp_path / "a.json").read_text("utf-8"))["prompts"]["default"]["runs"] == 400
    audits, engine = [json.loads((tmp_path / "a.json").read_text("utf-8"))], SerialEngine()
    assert main([*arguments, "--recording", str(recording)], engine=engine) == 0
    assert "default: prompts are unlike the recording's" in capsys.readouterr().out
    audits.append(json.loads((tmp_path / "a.json").read_text("utf-8")))
    assert len(engine.keys) == 2
    for each in audits:
        del each["since"], each["until"]
    assert audits[0] == audits[1]
    assert main(arguments) == 0
    assert "prompts are" not in capsys.readouterr().out
