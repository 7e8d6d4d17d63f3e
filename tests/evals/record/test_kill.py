"""A recording that is killed goes on: nothing is missing or doubled, nothing paid twice but what was under way."""

import json
import random
from pathlib import Path
from time import sleep, time
from typing import Any

import pytest

from evals.recording import read
from tests.evals.record.mother import Mother
from tests.evals.record.provider import Provider

SAMPLES, CONCURRENCY = 2, 4
MODELS = {"small": {"n": False, "logprobs": True}, "large": {}}
# Small: answer, two samples a request each, a verdict by itself; large: answer, two samples in one request.
REQUESTS = {"small": 4, "large": 2}


def policy(folder: Path, url: str) -> Path:
    """A policy of two models of the provider at ``url``; the smaller one checks its own answers."""
    price = {"input_per_mtok": 1.0, "output_per_mtok": 2.0}
    common = {"provider": "openai", "base_url": f"{url}/v1", "price": price, "max_tokens": 20}
    models = {name: {**common, **more} for name, more in MODELS.items()}
    tiers = [{"model": "small", "judges": ["logprob", "verifier"]}, {"model": "large"}]
    path = folder / "policy.yaml"
    path.write_text(json.dumps({"version": 1, "models": models, "policies": {"default": {"tiers": tiers}}}))
    return path


def settled(provider: Provider) -> dict[str, Any]:
    """The provider's counts once nothing more arrives."""
    counts = provider.counts()
    while True:
        sleep(0.02)
        again = provider.counts()
        if sum(again["asked"].values()) == sum(counts["asked"].values()) and not again["active"]:
            return again
        counts = again


def kept(work: Path) -> int:
    """How many requests' answers stand whole in the work file."""
    lines = work.read_bytes().splitlines(keepends=True) if work.exists() else []
    parts = [json.loads(line) for line in lines if line.startswith(b"[") and line.endswith(b"\n")]
    assert len({(row, model, name, before) for row, model, name, *_, before, _ in parts}) == len(parts)
    return len(parts)


def killed_again_and_again(
    tmp_path: Path, provider: Provider, mother: Mother, rows: int, kills: int, longest_s: float, seed: int
) -> tuple[int, int]:
    """Kills a recording ``kills`` times and then lets it end: how many requests were lost, and kills that hit it asking.

    Asserts that at each kill no more was lost than was under way, and that the recording is whole.
    """
    draw = random.Random(seed)
    dataset, out = tmp_path / "rows.jsonl", tmp_path / "rec.jsonl.gz"
    dataset.write_text("".join(json.dumps({"id": f"r{i}", "prompt": f"question {i}?"}) + "\n" for i in range(rows)))
    work = tmp_path / "rec.jsonl.gz.work"
    lost = hits = 0
    provider.behave(delay_s=0.01)
    argv = [dataset, "--policy", policy(tmp_path, provider.url), "--samples", SAMPLES, "--out", out]
    argv += ["--concurrency", CONCURRENCY]
    for _ in range(kills):
        before = kept(work)
        # Most kills once it is asking, some while it starts.
        watch = work if draw.random() < 0.9 else None
        status = mother.record(argv, kill_after_s=draw.uniform(0.0, longest_s), watch=watch)
        assert status in (-9, 0)
        now_lost = sum(settled(provider)["asked"].values()) - kept(work) - lost
        assert 0 <= now_lost <= CONCURRENCY * len(MODELS)
        lost, hits = lost + now_lost, hits + (kept(work) > before)
    assert mother.record(argv) == 0, mother.said()
    asked = settled(provider)["asked"]
    assert mother.record(argv) == 0
    assert settled(provider)["asked"] == asked  # nothing is left to ask
    assert sum(asked.values()) == rows * sum(REQUESTS.values()) + lost
    recorded = list(read(out))
    assert [row.id for row in recorded] == [f"r{i}" for i in range(rows)]
    for i, row in enumerate(recorded):
        for model in MODELS:
            answer = row.answers[model]
            assert answer["text"] == f"{model} says question {i}?"
            assert [s["text"] for s in answer["samples"]] == [answer["text"]] * SAMPLES
            assert answer["cost_usd"] == pytest.approx(20e-6)
        assert set(row.answers["small"]["verdicts"]) == {"verifier"}
        assert row.answers["small"]["token_logprobs"] == [-0.25, -0.25, -0.25]
    return lost, hits


def test_a_killed_recording_goes_on(tmp_path: Path, provider: Provider, mother: Mother) -> None:
    """Six kills at random moments: the recording is whole, and only what was under way was asked again."""
    _, hits = killed_again_and_again(tmp_path, provider, mother, 120, 6, 0.25, seed=int(time()))
    assert hits >= 3


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path, provider: Provider, mother: Mother) -> None:
    """Fifty kills at random moments."""
    lost, hits = killed_again_and_again(tmp_path, provider, mother, 1000, 50, 0.3, seed=7)
    print(json.dumps({"lost": lost, "hits": hits}))
    assert hits >= 35
