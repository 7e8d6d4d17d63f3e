"""Predictors that read the embedding of the prompt: one request before the tiers, counted, and never essential."""

import asyncio
import json
import logging
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from cascade import Answer, Attempt, Cascade, PolicyError, Result, ScriptedModel
from cascade.cli import main
from cascade.commands.explain import explain
from cascade.engine.prompts.embedding import _warnings
from cascade.journal.read.verify import StoredPolicy, verify
from cascade.policy.load import load, parse
from cascade.policy.predictor import EmbeddingWeights, Predictor, from_json, with_embedding
from judges import Prompt, Usage
from judges.prompt import EMBEDDED_HEAD, EMBEDDED_TAIL, embedded_text, features
from tests.cascade.journal.cascades import policies, records
from tests.wire_server import Received, Reply, WireServer, chat

TEXT, OTHER = "Which city is the capital of France?", "Пожалуйста, переведи"
MODEL = "embed-small"
PRICE = {"input_per_mtok": 100.0, "output_per_mtok": 500.0}
TOKENS = 8


def predictor(*, slope: float = 1.0) -> dict[str, Any]:
    """Sure of prompts whose embedding points one way, and doubtful of the others; n-grams alone say 0.6."""
    plain = Predictor(
        intercept=0.405, weights=dict.fromkeys(features(Prompt.of(TEXT)).ngrams, 0), scale=0.1, lengths=(5, 80),
        scripts=("latin",), known_share=0.5,
    )  # fmt: skip
    weights = EmbeddingWeights(model=MODEL, intercept=0.0, slope=slope, weights=(30, 0, 0), scale=0.1)
    return with_embedding(plain, weights).to_json()


def vector(*numbers: float, usage: dict[str, Any] | None = None) -> Reply:
    """A server's reply."""
    counted = {"prompt_tokens": TOKENS, "total_tokens": TOKENS} if usage is None else usage
    data = [{"object": "embedding", "index": 0, "embedding": list(numbers)}]
    return Reply({"object": "list", "data": data, "model": MODEL, "usage": counted})


SLOW = Reply(vector(1.0, 0.0, 0.0).body, delay_s=3.0)


@pytest.fixture
def server() -> Iterator[WireServer]:
    """A server that embeds and chats; ``embedding`` is what it replies to the first."""
    with WireServer() as running:
        _warnings._kinds.clear()
        import_module("openai")  # its first import takes a second, which no test's deadline should pay
        yield running


def policy_text(server: WireServer, *, embedding: Any = None, first: Any = None, model: Any = None, **settings: Any) -> str:
    """A policy file: a tier that is skipped below 0.5, and one that answers all."""
    tier = {"model": "small", "accept_at": 0.0, "predictor": predictor(), "skip_below": 0.5, **(first or {})}
    spec = {"provider": "openai", "base_url": f"{server.base_url}/v1", "model": MODEL, "price": PRICE, "timeout_s": 5}
    spec |= {"retry": {"attempts": 1}, **(model or {})}
    chosen = {"model": "embedder", "dimensions": 3, "timeout_s": 5} if embedding is None else embedding
    scripted = {"provider": "scripted", "answers": ["x"]}
    policy = {"tiers": [tier, {"model": "large", "accept_at": 0.0}], **({"embedding": chosen} if chosen else {}), **settings}
    models = {"small": scripted, "large": scripted, "embedder": spec}
    return json.dumps({"models": models, "policies": {"default": policy}})


def make_cascade(server: WireServer, **options: Any) -> tuple[Cascade, ScriptedModel, ScriptedModel]:
    """A cascade of the file, whose tiers' answers cost one cent."""
    answer = Answer("x", usage=Usage(1, 1), cost_usd=0.01, latency_s=0.0)
    small, large = ScriptedModel("small", [answer]), ScriptedModel("large", [answer])
    journal = options.pop("journal", None)
    file = parse(policy_text(server, **options))
    return Cascade(file, models={"small": small, "large": large}, journal=journal), small, large


def run(server: WireServer, reply: Any, text: str = TEXT, **options: Any) -> Result:
    """One run."""
    server.reply = reply
    call = options.pop("call", {})
    cascade, _, _ = make_cascade(server, **options)
    with cascade:
        return cascade.run(text, **call)


def test_an_attempt_reads_the_embedding(server: WireServer) -> None:
    """One tier asked by itself scores its answer by the same evidence as in a run."""
    server.reply = vector(2.0, 0.0, 0.0)
    cascade, _, _ = make_cascade(server)

    async def attempt(tier: str) -> Attempt:
        async with cascade:
            return await cascade.attempt(tier, TEXT)

    (embedded, answered) = asyncio.run(attempt("small")).call_log
    assert (embedded.purpose, answered.purpose) == ("embedding", "answer")


def test_the_embedding_decides_and_counts(server: WireServer, tmp_path: Path) -> None:
    """Its cost and latency are the run's, in the result, in the journal and in the request's record."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    yes = run(server, vector(2.0, 0.0, 0.0), journal=url)
    no = run(server, vector(-0.5, 0.0, 0.0), journal=url)
    assert [yes.tier, no.tier] == ["small", "large"]
    usd = TOKENS * 100 / 1e6
    for result in (yes, no):
        assert result.cost_usd == pytest.approx(0.01 + usd)
        call = result.attempts[0].call_log[0]
        assert (call.purpose, call.model, call.cost_usd) == ("embedding", "embedder", pytest.approx(usd))
        assert result.latency_s >= call.latency_s > 0
        assert sum(attempt.calls for attempt in result.attempts) == 1
    ((hash, text),) = policies(url).items()
    every = records(url)
    assert [verify(record, StoredPolicy.of(hash, text)) for record in every] == [[], []]
    assert sum(a["cost_usd"] for record in every for a in record.attempts) == pytest.approx(2 * (0.01 + usd))
    (request, _) = server.received
    assert request.path == "/v1/embeddings"
    assert request.body == {"model": MODEL, "input": TEXT, "encoding_format": "float"}


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        (Reply({"error": {"message": "no"}}, status=503), {}),
        (Reply({"error": {"message": "no"}}, status=400), {}),
        (Reply(raw=b"<html>bad gateway"), {}),
        (Reply(raw=b'{"data": [{"embedding": [NaN, 0, 1]}]}'), {}),
        (Reply(raw=b'{"data": [{"embedding": [1e999, 0, 1]}]}'), {}),
        (vector(1.0, 2.0), {}),
        (vector(1.0, 2.0, 3.0, 4.0), {}),
        (vector(0.0, 0.0, 0.0), {}),
        (Reply({"data": []}), {}),
        (Reply({"data": [{"embedding": "AAAA"}]}), {}),
        (Reply({"data": [{"embedding": ["1", None, True]}]}), {}),
        (Reply([1, 2]), {}),
        (SLOW, {"embedding": {"model": "embedder", "dimensions": 3, "timeout_s": 0.2}}),
        (SLOW, {"model": {"timeout_s": 0.2}}),
        (SLOW, {"call": {"deadline_s": 1.0}}),
        (SLOW, {"call": {"max_latency_s": 0.9}}),
    ],
)  # fmt: skip
def test_a_run_goes_on_without(server: WireServer, reply: Reply, options: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Where the server fails, is slow or replies with anything else; n-grams decide then, and the log says it once."""
    server.reply = reply
    call = options.pop("call", {})
    with caplog.at_level(logging.WARNING, "cascade.embedding"):
        cascade, _, _ = make_cascade(server, **options)
        with cascade:
            results = [cascade.run(TEXT, **call) for _ in range(2)]
    assert [result.tier for result in results] == ["small", "small"]  # 0.6 by n-grams, above 0.5
    assert all(result.latency_s < 2.0 for result in results)
    assert len([r for r in caplog.records if r.name == "cascade.embedding"]) == 1
    assert all(result.attempts[0].call_log[0].fault is not None for result in results)


def test_a_predictor_that_reads_the_embedding_alone_says_nothing_without(server: WireServer) -> None:
    """As for a prompt that is unlike the recording: the tier is not asked."""
    first = {"predictor": predictor(slope=0.0)}
    assert run(server, Reply({}, status=500), first=first).tier == "large"
    assert run(server, vector(1.0, 0.0, 0.0), first=first).tier == "small"


def test_a_server_that_is_down_for_long_is_left_alone(server: WireServer) -> None:
    """Its circuit breaker opens, so that runs no longer wait for it."""
    breaker = {"min_requests": 3, "failure_rate": 0.5, "window_s": 30, "cooldown_s": 30}
    server.reply = Reply({}, status=500)
    cascade, _, _ = make_cascade(server, model={"breaker": breaker})
    with cascade:
        for _ in range(10):
            cascade.run(TEXT)
    assert len(server.received) == 3


@pytest.mark.parametrize("text", [OTHER, "   ", "short"])
def test_nothing_is_asked_where_nothing_would_be_read(server: WireServer, text: str) -> None:
    """A prompt that is unlike the recording by its n-grams, or blank."""
    result = run(server, vector(1.0, 0.0, 0.0), text)
    assert (result.tier, server.received) == ("large", [])
    assert result.cost_usd == 0.01


def test_a_policy_whose_predictors_read_none_asks_for_none(server: WireServer) -> None:
    """Also where one is configured: cross-validation showed no gain."""
    plain = {name: value for name, value in predictor().items() if name != "embedding"}
    cascade, _, _ = make_cascade(server, first={"predictor": plain})

    async def is_plain() -> bool:
        async with cascade:
            await cascade.arun(TEXT)
            return cascade._runtime.compile("default").is_plain

    assert asyncio.run(is_plain())
    assert server.received == []


def test_a_budget_without_room_leaves_the_embedding_out(server: WireServer) -> None:
    """It is reserved like any request, and does not count as one of max_calls."""
    tight = run(
        server,
        vector(1.0, 0.0, 0.0),
        budget_usd=0.05,
        first={"skip_below": 0.0},
        model={"price": {**PRICE, "input_per_mtok": 1e6}},
    )
    assert server.received == []
    assert tight.attempts[0].call_log[0].purpose == "answer"
    one = run(server, vector(1.0, 0.0, 0.0), max_calls=1)
    assert (one.tier, len(server.received)) == ("small", 1)


def test_a_gate_reads_it_as_evidence(server: WireServer) -> None:
    """The answer exists already; what the prompt says of it is part of its confidence."""
    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.0], [1.0, 1.0]], "missing": 0.4}
    server.reply = vector(1.0, 0.0, 0.0)
    cascade, _, _ = make_cascade(server, first={"confidence": [mapping], "skip_below": None})
    with cascade:
        result = cascade.gate(TEXT, "x", tier="small")
    assert result.confidence == pytest.approx(1 / (1 + 2.718281828 ** -(3.0 + 0.405)), abs=1e-3)
    assert result.cost_usd == pytest.approx(TOKENS * 1e-4)


@pytest.mark.parametrize(
    "usage", [{"total_tokens": TOKENS}, {"prompt_tokens": TOKENS}, {"prompt_tokens": TOKENS, "total_tokens": 99}]
)
def test_tokens_are_input_however_they_are_counted(server: WireServer, usage: dict[str, Any]) -> None:
    """An embedding has no output that is billed."""
    assert run(server, vector(1.0, 0.0, 0.0, usage=usage)).attempts[0].call_log[0].cost_usd == pytest.approx(TOKENS * 1e-4)


def test_dimensions_are_requested_where_the_policy_says_so(server: WireServer) -> None:
    """Not every server knows the parameter."""
    run(server, vector(1.0, 0.0, 0.0), embedding={"model": "embedder", "dimensions": 3, "request_dimensions": True})
    assert server.received[0].body["dimensions"] == 3


def test_a_long_prompt_is_shortened() -> None:
    """Its beginning and its end are sent."""
    text = embedded_text(Prompt.of("a" * 10_000 + "b" * 500))
    assert len(text) == EMBEDDED_HEAD + EMBEDDED_TAIL + 1
    assert text.startswith("aaa")
    assert text.endswith("bbb")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"embedding": False}, "embedding: is missing: the calibration was fitted with embeddings of 'embed-small'"),
        ({"model": {"model": "other"}}, "fitted with embeddings of 'embed-small', not of 'other'"),
        ({"embedding": {"model": "embedder", "dimensions": 4}}, "fitted with 3 dimensions, not with 4"),
        ({"embedding": {"model": "embeder", "dimensions": 3}}, "did you mean 'embedder'"),
        ({"embedding": {"model": "small", "dimensions": 3}}, "must have provider openai"),
        ({"embedding": {"model": "embedder"}}, "dimensions: is missing"),
        ({"embedding": {"model": "embedder", "dimensions": 0}}, "greater than or equal to 1"),
        ({"model": {"price": None, "base_url": "http://127.0.0.1:9/v1"}, "budget_usd": 1.0}, "the price of the model"),
    ],
)  # fmt: skip
def test_a_policy_without_the_fitted_embedding_is_refused(server: WireServer, options: Any, message: str) -> None:
    """At load, with what to do."""
    if "budget_usd" in options:
        options = {**options, "first": {"predictor": None, "skip_below": None}}
    with pytest.raises(PolicyError, match=message.replace("?", r"\?")):
        parse(policy_text(server, **options), "p.yaml")


def test_a_damaged_predictor_is_refused() -> None:
    """Each field of the embedding's weights is checked."""
    data = predictor()
    wrong = [
        {"model": ""}, {"dimensions": 4}, {"dimensions": "3"}, {"weights": "!!"}, {"weights": ""}, {"scale": float("nan")},
        {"slope": None}, {"more": 1},
    ]  # fmt: skip
    for change in wrong:
        with pytest.raises(ValueError, match=r"predictor\.embedding"):
            from_json({**data, "embedding": {**data["embedding"], **change}})
    assert from_json(data).to_json() == data


def test_explain_and_check_show_it(server: WireServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """explain asks nobody: it says that the embedding is missing, and what is decided without."""
    path = tmp_path / "policies.yaml"
    path.write_text(policy_text(server))
    lines = list(explain(load(path).policies["default"], Prompt.of(TEXT), {}))
    assert any(line.startswith("embedding: not requested here; a run requests it from") for line in lines)
    assert any("small: asked first" in line and "right with 0.6 by the prompt" in line for line in lines)
    path.write_text(policy_text(server, first={"predictor": predictor(slope=0.0)}))
    lines = list(explain(load(path).policies["default"], Prompt.of(TEXT), {}))
    assert any("small: not asked (the predictor needs the embedding" in line for line in lines)
    assert main(["check", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "embedding  openai:embed-small, 3 dimensions, at most 5 s; read by the predictors of small" in printed
    assert server.received == []


def test_keys_stay_out_of_the_log(
    server: WireServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Also where the server repeats the key in its error."""
    monkeypatch.setenv("EMBED_KEY", "sk-very-secret")

    def reply(received: Received) -> Reply:
        assert received.headers["authorization"] == "Bearer sk-very-secret"
        return Reply({"error": {"message": "bad key sk-very-secret"}}, status=401)

    with caplog.at_level(logging.DEBUG):
        result = run(server, reply, model={"api_key_env": "EMBED_KEY"})
    assert result.tier == "small"
    assert "sk-very-secret" not in caplog.text + repr(result)


def test_a_tier_may_speculate_by_the_embedding(server: WireServer) -> None:
    """The embedding is there before it is decided whether the next tier is asked at the same time."""

    def reply(received: Received) -> Reply:
        return vector(-1.0, 0.0, 0.0) if received.path.endswith("/embeddings") else Reply(chat("x"))

    result = run(server, reply, first={"skip_below": None, "speculate_below": 0.5, "accept_at": 1.0})
    assert result.attempts[0].call_log[0].purpose == "embedding"
    assert result.cost_usd == pytest.approx(0.02 + TOKENS * 1e-4)
