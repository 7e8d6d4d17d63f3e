"""Embeddings in a replay: each text is paid for once, and a predictor reads them where cross-validation shows a gain."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
import pytest

from cascade import Cascade, PolicyError, ScriptedModel
from cascade.policy.load import load
from cascade.policy.schema import EmbeddingSpec, ModelSpec
from evals.recording import Example, read, write
from evals.replay.command import main
from evals.replay.embedding_fit import fit_embedding
from evals.replay.evidence.embeddings import EmbeddingCache, read_embeddings
from evals.replay.rows.input_rows import ReplayError
from tests.wire_server import Received, Reply, WireServer

DIMENSIONS = 16
WORDS = ["apple", "river", "stone", "cloud", "paper", "green", "chair", "north", "table", "piano", "seven", "light", "mouse"]


def is_hard(text: str) -> bool:
    """What the embedding shows and no word does: a hash of the whole text."""
    return crc32(text.encode()) % 2 == 0


def embed(received: Received) -> Reply:
    """An embedding whose first number shows whether the text is hard; the others are noise."""
    text = received.body["input"]
    rng = np.random.default_rng(crc32(text.encode()))
    vector = rng.normal(size=DIMENSIONS)
    vector[0] += -6.0 if is_hard(text) else 6.0
    return reply_with(vector.tolist())


def reply_with(vector: list[float]) -> Reply:
    """A server's reply."""
    usage = {"prompt_tokens": 10, "total_tokens": 10}
    return Reply({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vector}], "usage": usage})


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A server of embeddings."""
    with WireServer() as running:
        running.reply = embed
        yield running


def rows(n: int) -> list[Example]:
    """Prompts of one kind, half of which the cheap model cannot answer; nothing but the prompt says which."""
    rng = np.random.default_rng(0)
    examples = []
    for i in range(n):
        text = f"Which of {' '.join(rng.choice(WORDS, 6))} comes first?"
        right = float(rng.random() < (0.1 if is_hard(text) else 0.97))
        cheap = {"text": f"a{i}", "quality": right, "cost_usd": 0.001, "latency_s": 0.2}
        dear = {"text": f"b{i}", "quality": 1.0, "cost_usd": 0.01, "latency_s": 1.0}
        examples.append(Example(f"e{i}", text, {"cheap": cheap, "dear": dear}))
    return examples


def spec_of(server: WireServer, **more: Any) -> ModelSpec:
    """The embedding model's settings."""
    fields = {"provider": "openai", "base_url": f"{server.base_url}/v1", "model": "embed-small"}
    price = {"input_per_mtok": 1.0, "output_per_mtok": 0.0}
    retry = {"initial_backoff_s": 0.001, "max_backoff_s": 0.001}
    return ModelSpec.model_validate({**fields, "price": price, "retry": retry, **more})


EMBEDDING = EmbeddingSpec(model="embedder", dimensions=DIMENSIONS)


def ask(path: Path, examples: list[Example], spec: ModelSpec, max_usd: float | None = None) -> Any:
    """The embeddings of the rows."""
    return asyncio.run(read_embeddings(path, examples, EMBEDDING, spec, max_usd=max_usd))


def test_each_text_is_asked_for_once(server: WireServer, tmp_path: Path) -> None:
    """Equal prompts, a second replay and further rows; blank prompts are not asked for."""
    path, examples = tmp_path / "r.jsonl", rows(20)
    twice = [*examples, Example("again", examples[0].prompt, {}), Example("blank", "  ", {})]
    first = ask(path, twice, spec_of(server))
    texts = {example.to_prompt().text for example in examples}
    assert len(server.received) == len(texts) == len(first)
    assert all(answer.cost_usd == pytest.approx(1e-5) and answer.latency_s > 0 for answer in first.values())
    again = ask(path, twice, spec_of(server))
    assert len(server.received) == len(texts)
    assert {t: list(a.extra["embedding"]) for t, a in again.items()} == {
        t: list(a.extra["embedding"]) for t, a in first.items()
    }
    ask(path, [*twice, Example("new", "Another prompt", {})], spec_of(server))
    assert len(server.received) == len(texts) + 1
    file = next((tmp_path / ".cascade").glob("embeddings-*.jsonl"))
    assert "apple" not in file.read_text()


def test_what_a_failing_server_gave_is_kept(server: WireServer, tmp_path: Path) -> None:
    """The error says how much is there, and the next run asks for the rest alone."""
    path, examples = tmp_path / "r.jsonl", rows(40)
    texts = {example.to_prompt().text for example in examples}

    def failing(received: Received) -> Reply:
        return embed(received) if len(server.received) <= 15 else Reply({"error": {"message": "quota"}}, status=403)

    server.reply = failing
    with pytest.raises(
        ReplayError, match=r"embedding: embedder: HTTP 403.*of 40 embeddings are kept; run the command again"
    ):
        ask(path, examples, spec_of(server, max_concurrency=4))
    n_stored = len(EmbeddingCache(path, "embed-small", DIMENSIONS, f"{server.base_url}/v1").load())
    assert 0 < n_stored <= 15
    before, server.reply = len(server.received), embed
    assert ask(path, examples, spec_of(server)).keys() == texts
    assert len(server.received) - before == len(texts) - n_stored


def test_requests_stop_before_they_cost_too_much(server: WireServer, tmp_path: Path) -> None:
    """Each costs 1e-5; what was paid for is kept, and the next run goes on."""
    path, limit = tmp_path / "r.jsonl", 25e-5
    with pytest.raises(ReplayError, match=r"before the embeddings cost more than --max-usd 0\.00025: \d+ of 40 are kept"):
        ask(path, rows(40), spec_of(server), limit)
    assert 5 <= len(server.received) <= 25
    assert len(ask(path, rows(40), spec_of(server), 1.0)) == 40
    assert len(server.received) == 40
    assert len(ask(path, rows(40), spec_of(server), 0.0)) == 40  # nothing is left to ask for


@pytest.mark.parametrize(
    "damage", [b'{"text": "abc", "embedd', b"\xff\xfe\n", b'{"text": "x", "embedding": "AAAA"}\n', b"[]\n"]
)
def test_a_damaged_line_is_asked_for_again(server: WireServer, tmp_path: Path, damage: bytes) -> None:
    """Lines after it are read all the same."""
    path, examples = tmp_path / "r.jsonl", rows(4)
    ask(path, examples, spec_of(server))
    file = next((tmp_path / ".cascade").glob("embeddings-*.jsonl"))
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(lines[0] + lines[1] + damage)
    ask(path, examples, spec_of(server))
    ask(path, examples, spec_of(server))
    assert len(server.received) == 4 + 2


def test_transient_faults_are_retried(server: WireServer, tmp_path: Path) -> None:
    """Each is sent again, and the answers are all there."""

    def flaky(received: Received) -> Reply:
        return Reply({}, status=503) if len(server.received) % 3 == 0 else embed(received)

    server.reply = flaky
    assert len(ask(tmp_path / "r.jsonl", rows(12), spec_of(server))) == 12


def test_a_price_is_needed(server: WireServer, tmp_path: Path) -> None:
    """Before anything is asked for: what a ladder costs would be unknown otherwise."""
    with pytest.raises(ReplayError, match=r"give models\.embedder\.price"):
        ask(tmp_path / "r.jsonl", rows(2), spec_of(server, price=None))
    assert server.received == []


def policy_file(tmp_path: Path, server: WireServer, **embedding: Any) -> Path:
    """A policy of the recording's two models, with an embedding."""
    models: dict[str, Any] = {name: {"provider": "scripted", "answers": ["x"]} for name in ("cheap", "dear")}
    models["embedder"] = spec_of(server).model_dump(mode="json", exclude_defaults=True)
    policy = {
        "embedding": {"model": "embedder", "dimensions": DIMENSIONS, **embedding},
        "tiers": [{"model": m} for m in ("cheap", "dear")],
    }
    path = tmp_path / "policies.yaml"
    path.write_text(json.dumps({"models": models, "policies": {"default": policy}}, indent=1))
    return path


def replay(tmp_path: Path, policy: Path, *more: str) -> dict[str, Any]:
    """The figures of a replay of the recording by the policy."""
    figures = tmp_path / "figures.json"
    command = [str(tmp_path / "r.jsonl"), "--policy-file", str(policy), "--json", str(figures), *more]
    assert main(command) == 0
    return json.loads(figures.read_text())


def test_a_replay_reads_embeddings_end_to_end(server: WireServer, tmp_path: Path) -> None:
    """The calibration skips by the embedding; production decides as the replay did, at the cost that it counted."""
    write(tmp_path / "r.jsonl", rows(400))
    path = policy_file(tmp_path, server)
    out = tmp_path / "calibration.json"
    figures = replay(tmp_path, path, "--by-prompt", "--max-loss", "0.1", "--out", str(out))
    assert any("embeddings of embed-small: used, cross-validated log-loss" in note for note in figures["notes"])
    assert figures["chosen"]["usd_per_1000"] < 6.0
    requests = len(server.received)
    calibration = json.loads(out.read_text())
    assert calibration["chosen"][0]["predictor"]["embedding"]["model"] == "embed-small"
    assert figures["n"]["test"] == 200
    assert out.stat().st_size < 1_000_000

    tuned = path.with_name("tuned.yaml")
    data = json.loads(path.read_text())
    data["policies"]["default"]["calibration"] = "calibration.json"
    tuned.write_text(json.dumps(data, indent=1))
    file = load(tuned)
    policy = file.policies["default"]
    assert policy.reads_embedding
    tiers = {name: ScriptedModel(name, ["x"] * 999) for name in ("cheap", "dear")}
    with Cascade(file, models=tiers) as cascade:
        results = {row.to_prompt().text: cascade.run(row.to_prompt().text) for row in rows(40)}
    wrong = sum((result.attempts[0].reason == "skipped") != is_hard(text) for text, result in results.items())
    assert wrong <= 4
    assert {result.attempts[0].call_log[0].purpose for result in results.values()} == {"embedding"}
    before = len(server.received)
    assert before > requests

    measured = replay(tmp_path, tuned)
    assert len(server.received) == before  # from the cache
    assert measured["n"]["test"] > 0

    for change, message in (
        (None, "embedding: is missing: the calibration was fitted with embeddings of 'embed-small'"),
        ({"model": "embedder", "dimensions": 8}, "fitted with 16 dimensions, not with 8"),
    ):
        policy_data = data["policies"]["default"]
        policy_data.pop("embedding", None)
        if change:
            policy_data["embedding"] = change
        tuned.write_text(json.dumps(data, indent=1))
        with pytest.raises(PolicyError, match=message):
            load(tuned)


def test_noise_is_not_kept(server: WireServer, tmp_path: Path) -> None:
    """An embedding that says nothing is fitted, found to gain nothing, and is not asked for in production."""

    def noise(received: Received) -> Reply:
        rng = np.random.default_rng(crc32(received.body["input"].encode()))
        return reply_with(rng.normal(size=DIMENSIONS).tolist())

    server.reply = noise
    write(tmp_path / "r.jsonl", rows(300))
    out = tmp_path / "calibration.json"
    figures = replay(tmp_path, policy_file(tmp_path, server), "--by-prompt", "--max-loss", "0.1", "--out", str(out))
    assert any("embeddings of embed-small: not used" in note for note in figures["notes"])
    assert not any("embedding" in (tier.get("predictor") or {}) for tier in json.loads(out.read_text())["chosen"])


@pytest.mark.parametrize("seed", range(3))
def test_a_fit_finds_a_direction_and_seldom_one_that_is_not_there(seed: int) -> None:
    """By cross-validation on the fit rows alone, beside n-grams or without them."""
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(200, 32))
    right = (vectors[:, 0] + 0.5 * rng.normal(size=200) > 0).astype(float)
    by_ngrams = 1 / (1 + np.exp(-rng.normal(size=200)))
    for other in (None, by_ngrams):
        fitted = fit_embedding(vectors, right, other, seed=seed)
        assert fitted.shows_gain
        weights = fitted.weights("m")
        assert int(np.argmax(np.abs(weights.weights))) == 0
        p = [weights.probability(v, 0.5 if other is None else other[i]) for i, v in enumerate(vectors.tolist())]
        assert np.mean((np.array(p) > 0.5) == (right > 0.5)) > 0.8
    few = vectors[:80]
    nothing = [fit_embedding(few, rng.permutation(right[:80]), None, seed=s).shows_gain for s in range(8)]
    assert sum(nothing) <= 3


def test_a_blank_prompt_has_no_embedding(server: WireServer, tmp_path: Path) -> None:
    """A recording with some is replayed all the same."""
    examples = rows(160)
    examples[7] = Example("e7", " ", examples[7].answers)
    write(tmp_path / "r.jsonl", examples)
    figures = replay(tmp_path, policy_file(tmp_path, server), "--by-prompt", "--max-loss", "0.1")
    assert figures["n"]
    assert len(list(read(tmp_path / "r.jsonl"))) == 160
