"""A recording that is killed goes on: nothing is missing or doubled, nothing paid twice but what was under way."""

import json
import random
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any

import pytest

from evals.recording import read
from tests.evals.record.fork_server import ForkServer
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
        if sum(again["received"].values()) == sum(counts["received"].values()) and not again["active"]:
            return again
        counts = again


def count_answers(work: Path) -> int:
    """How many requests' answers stand whole in the work file."""
    lines = work.read_bytes().splitlines(keepends=True) if work.exists() else []
    parts = [json.loads(line) for line in lines if line.startswith(b"[") and line.endswith(b"\n")]
    assert len({(row, model, name, before) for row, model, name, *_, before, _ in parts}) == len(parts)
    return len(parts)


class Killer:
    """Kills recordings at random moments of their running time, which a recording without a kill has shown before.

    ``hits`` counts the kills that met a recorder that had asked something, ``attempts`` all of them, ``lost`` the requests
    that were under way at a kill.
    """

    def __init__(self, folder: Path, provider: Provider, fork_server: ForkServer, rows: int, seed: int) -> None:
        self.folder, self.provider, self.fork_server, self.rows = folder, provider, fork_server, rows
        self.draw = random.Random(seed)
        self.hits = self.attempts = self.lost = self.recordings = 0
        self.dataset = folder / "rows.jsonl"
        self.dataset.write_text("".join(json.dumps({"id": f"r{i}", "prompt": f"question {i}?"}) + "\n" for i in range(rows)))
        argv = self._begin()
        began = monotonic()
        assert fork_server.record(argv) == 0, fork_server.output()
        self.took_s = monotonic() - began
        self._check()

    @property
    def requests(self) -> int:
        """How many requests a recording needs."""
        return self.rows * sum(REQUESTS.values())

    def _begin(self) -> list[Any]:
        """The command of a new recording."""
        self.recordings += 1
        self.out = self.folder / str(self.recordings) / "rec.jsonl.gz"
        self.out.parent.mkdir()
        self.work = self.out.with_name("rec.jsonl.gz.work")
        self.lost_here = 0
        self.provider.behave(delay_s=0.005)
        argv = [self.dataset, "--policy", policy(self.folder, self.provider.url), "--samples", SAMPLES, "--out", self.out]
        return [*argv, "--concurrency", CONCURRENCY]

    def kill(self, hits: int) -> None:
        """Goes on until so many kills have hit: a recording that was ended is checked, and another one begins."""
        while self.hits < hits:
            argv = self._begin()
            while self.hits < hits and self._killed(argv):
                assert self.attempts < 4 * hits
            assert self.fork_server.record(argv) == 0, self.fork_server.output()
            self._check()
            requests = settled(self.provider)["received"]
            assert self.fork_server.record(argv) == 0
            assert settled(self.provider)["received"] == requests  # nothing is left to ask

    def _killed(self, argv: list[Any]) -> bool:
        """One run; False where it ended before the kill."""
        before = sum(settled(self.provider)["received"].values())
        left = 1 - count_answers(self.work) / self.requests
        # Most runs are killed once they ask, some while they start.
        watch = self.work if self.draw.random() < 0.85 else None
        status = self.fork_server.record(argv, self.draw.uniform(0.0, self.took_s * left), watch)
        assert status in (-9, 0)
        now = sum(settled(self.provider)["received"].values())
        now_lost = now - count_answers(self.work) - self.lost_here
        assert 0 <= now_lost <= CONCURRENCY * len(MODELS)
        self.lost_here, self.lost = self.lost_here + now_lost, self.lost + now_lost
        self.attempts += status == -9
        self.hits += status == -9 and now > before
        return status == -9

    def _check(self) -> None:
        """No answer is missing or doubled, and only what was under way at a kill was asked twice."""
        assert sum(settled(self.provider)["received"].values()) == self.requests + self.lost_here
        recorded = list(read(self.out))
        assert [row.id for row in recorded] == [f"r{i}" for i in range(self.rows)]
        for i, row in enumerate(recorded):
            for model in MODELS:
                answer = row.answers[model]
                assert answer["text"] == f"{model} says question {i}?"
                assert [s["text"] for s in answer["samples"]] == [answer["text"]] * SAMPLES
                assert answer["cost_usd"] == pytest.approx(20e-6)
            assert set(row.answers["small"]["verdicts"]) == {"verifier"}
            assert row.answers["small"]["token_logprobs"] == [-0.25, -0.25, -0.25]
        assert count_answers(self.work) == self.requests


def test_a_killed_recording_goes_on(tmp_path: Path, provider: Provider, fork_server: ForkServer) -> None:
    """Kills at random moments: the recording is whole, and only what was under way was asked again."""
    Killer(tmp_path, provider, fork_server, 30, seed=int(time())).kill(3)


@pytest.mark.slow
def test_fifty_kills(tmp_path: Path, provider: Provider, fork_server: ForkServer) -> None:
    """Fifty kills that hit a recorder which asks, at random moments."""
    killer = Killer(tmp_path, provider, fork_server, 60, seed=int(time()))
    killer.kill(50)
    print(json.dumps({name: getattr(killer, name) for name in ("hits", "attempts", "recordings", "lost", "took_s")}))
