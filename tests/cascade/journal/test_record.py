"""What a record holds, and what it must not."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from cascade import Answer, Cascade, Policy, ProviderError, Usage
from cascade.journal.privacy import Redactor
from cascade.journal.record import PendingRecord, Record, dumps, make, prompt_hash
from cascade.journal.store import to_record, to_row
from cascade.journal.tables import ADDED_COLUMNS
from cascade.models.protocol import ModelError
from cascade.policy.schema import PolicyFile
from judges import Prompt, Verdict, judge
from tests.cascade.journal.cascades import BEST, POOR, SURE, cascade, everything, records
from tests.wire_server import Reply, WireServer

PRICED = {"input_per_mtok": 10.0, "output_per_mtok": 100.0}


def recorded(c: Cascade, prompt: Any = "What is 6 * 7?", **options: Any) -> Record:
    """The record of one run, without a database."""

    async def go() -> Record:
        ladder = c._runtime.compile("default")
        run = PendingRecord("run", "default", ladder, Prompt.of(prompt, **options), {})
        from cascade.engine.run import run as climb

        outcome: Any
        try:
            outcome = await climb(ladder, run.prompt, run_id=run.run_id, attempts=run.attempts)
        except Exception as error:
            outcome = error
        run.end(outcome)
        return make(run, ladder.policy.hash)

    return asyncio.run(go())


def test_a_row_gives_the_record_back() -> None:
    """What is read is what was written."""
    for settings in ({}, {"journal_text": True}):
        record = recorded(cascade(None, **settings))
        again = to_record(to_row(record)[: -len(ADDED_COLUMNS)])
        assert json.loads(dumps(again._asdict())) == json.loads(dumps(record._asdict()))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(schema=st.dictionaries(st.text(), JSON, max_size=4), text=st.text())
def test_the_prompts_hash_does_not_depend_on_the_order_of_keys(schema: dict[str, Any], text: str) -> None:
    """The same messages, schema and tools have the same hash, and another text has another."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: turned(v) for k, v in reversed(value.items())}
        return [turned(v) for v in value] if isinstance(value, list) else value

    message = {"role": "user", "content": text}
    first = prompt_hash([message], schema, ())
    assert first == prompt_hash([turned(message)], turned(schema), ())
    assert first != prompt_hash([{**message, "content": text + "x"}], schema, ())
    assert first != prompt_hash([message], schema, [{"type": "function"}])
    assert len(first) == 64


def test_a_pydantic_schema_hashes_as_its_json_schema() -> None:
    """A pydantic class and its JSON Schema make the same prompt."""

    class Order(BaseModel):
        n: int

    c = cascade(None)
    assert recorded(c, schema=Order).prompt_hash == recorded(c, schema=Order.model_json_schema()).prompt_hash


def test_the_callers_messages_may_change_afterwards() -> None:
    """The hash is that of what was asked."""
    message = {"role": "user", "content": "before"}
    c = cascade(None)

    async def go() -> Record:
        ladder = c._runtime.compile("default")
        run = PendingRecord("run", "default", ladder, Prompt.of([message]), {})
        from cascade.engine.run import run as climb

        run.end(await climb(ladder, run.prompt, attempts=run.attempts))
        message["content"] = "after"
        return make(run, "h")

    assert asyncio.run(go()).prompt_hash == prompt_hash([{"role": "user", "content": "before"}], None, ())


def premium(price: dict[str, float] | None, small: Any, large: Any) -> float | None:
    """premium_usd of a run, the last tier having this price."""
    c = cascade(None, small, large)

    async def go() -> float | None:
        from cascade.costs.prices import Pricer
        from cascade.engine.run import run as climb
        from cascade.policy.schema import ModelSpec

        ladder = c._runtime.compile("default")
        if price is not None:
            spec = ModelSpec.model_validate({"provider": "openai", "model": "own", "price": price})
            object.__setattr__(ladder.tiers[-1].handle, "pricer", Pricer("large", spec))
        run = PendingRecord("run", "default", ladder, Prompt.of("hi"), {})
        run.end(await climb(ladder, run.prompt, attempts=run.attempts))
        return make(run, "h").premium_usd

    return asyncio.run(go())


def test_premium_is_what_it_cost_where_it_was_asked() -> None:
    """The premium cost excludes the cheap tier and judging."""
    assert premium(None, POOR, BEST) == BEST.cost_usd


def test_premium_is_priced_on_the_usage_of_the_answer_returned() -> None:
    """Where it was not asked: 100 tokens in, 10 out, at its own price."""
    assert premium(PRICED, SURE, BEST) == pytest.approx(100 * 10e-6 + 10 * 100e-6)


def test_premium_is_unknown_without_a_price_or_a_usage() -> None:
    """Unknown is None, never 0."""
    assert premium(None, SURE, BEST) is None
    assert premium(PRICED, Answer("42", mean_logprob=-0.01), BEST) is None


def test_premium_is_what_the_recording_states() -> None:
    """A recorded premium tier is looked up, though it was not asked."""
    file = {
        "models": {
            "small": {"provider": "recorded", "recording": "starter", "model": "smollm2-135m-instruct"},
            "large": {"provider": "recorded", "recording": "starter", "model": "qwen2.5-coder-1.5b-instruct"},
        },
        "policies": {
            "default": {"tiers": [{"name": n, "model": n, "accept_at": 0, "judges": []} for n in ("small", "large")]}
        },
    }
    c = Cascade(PolicyFile.model_validate(file))
    question = "What is the capital of France? Reply with the answer only."
    record = recorded(c, question)
    assert record.tier == "small"

    async def cost() -> float | None:
        handle = c._runtime.compile("default").tiers[-1].handle
        return (await handle.model.answer(Prompt.of(question), _request()))[0].cost_usd

    assert record.premium_usd == asyncio.run(cost()) is not None


def _request() -> Any:
    from cascade.models.protocol import Request

    return Request()


KEY, TEAM = "plainkey0123456789", "team-secret-9876"  # without a prefix that a pattern could know
SECRET = "Zanzibar-7731953108"


def leaky(text: str) -> list[Verdict]:
    """Verdicts of a judge that quotes the answer in every way."""
    return [
        Verdict("leaky", 0.9, reason=f"the answer {text!r} is odd", details={"said": text, "n": 3, "mode": "rating"}),
        Verdict("leaky", 0.9, reason=text.lower(), details={text: 1.0, "parts": [text], "inner": {"a": text}}),
    ]


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("keep", [False, True])
def test_no_text_without_journal_text(which: int, keep: bool) -> None:
    """Neither prompt nor answer nor what judges quote of them; with the policy's leave, all of it."""

    @judge("leaky")
    def quoting(prompt: Any, answer: Answer) -> Verdict:
        return leaky(answer.text)[which]

    c = cascade(None, Answer(SECRET, finish_reason="stop"), BEST, "leaky", journal_text=keep)
    record = recorded(
        c, [{"role": "system", "content": "be Brief-5512"}, {"role": "user", "content": "Where is Oslo-9920?"}]
    )
    text = dumps(record._asdict())
    for secret in ("Zanzibar", "7731953108", "zanzibar", "Brief-5512", "Oslo-9920"):
        assert (secret in text) is keep or (keep and which == 0 and secret == "zanzibar")
    if not keep and which == 0:
        assert record.attempts[0]["verdicts"][0]["details"] == {"n": 3, "mode": "rating"}


def test_built_in_judges_leak_nothing() -> None:
    """The schema judge quotes values and keys of the answer in its reasons; a record does not."""
    schema = {"type": "object", "additionalProperties": False, "properties": {"age": {"type": "integer", "maximum": 150}}}
    for text in (
        '{"age": "Zanzibar-7731953108"}', '{"Zanzibar": 7731953108}', '{"age": 7731953108}', '["Zanzibar", 7731953108]',
        "no JSON: Zanzibar {7731953108", '{"age": "Zanz\\u0069bar"}',
    ):  # fmt: skip
        record = recorded(cascade(None, Answer(text), BEST, "schema", "rules"), schema=schema)
        (verdict, *_) = record.attempts[0]["verdicts"]
        assert verdict["veto"]
        assert verdict["reason"]
        assert "Zanzibar" not in dumps(record._asdict())
        assert "7731953108" not in dumps(record._asdict())


def test_reasons_that_quote_nothing_stay_readable() -> None:
    """What the built-in judges say of an answer without quoting it is kept as it is."""
    record = recorded(
        cascade(None, Answer('{"age": "old"}'), BEST, "schema"), schema={"properties": {"age": {"type": "integer"}}}
    )
    assert record.attempts[0]["verdicts"][0]["reason"] == "$.…: '…' is not of type 'integer'"
    redactor = Redactor([{"role": "user", "content": "What is 6 * 7?"}], "42", keep=False)
    for reason in ("the provider gave no log-probabilities", "no token of the answer's own has a log-probability"):
        assert redactor.prompt_or_answer(reason) == reason


def test_a_providers_fault_that_quotes_the_prompt_is_masked() -> None:
    """Providers' error bodies may echo what they were sent."""
    prompt = "Tell me about Zanzibar and its spices"
    fault = ModelError(f"m: HTTP 400: invalid message: {prompt}", model="m", status=400)
    record = recorded(cascade(None, fault, BEST), prompt)
    assert "Zanzibar" not in dumps(record._asdict())
    assert record.attempts[0]["call_log"][0]["status"] == 400


@given(st.text(min_size=4, max_size=60), st.text(max_size=30), st.text(max_size=30))
def test_no_answer_survives_in_a_reason(answer: str, before: str, after: str) -> None:
    """No word of the answer that is not plain grammar is left in a reason that quotes it."""
    from cascade.journal.privacy import _GRAMMAR, _WORD

    redacted = Redactor([], answer, keep=False).prompt_or_answer(f"{before} {answer} {after}")
    left = set(_WORD.findall(redacted))
    assert not [w for w in _WORD.findall(answer) if w in left and not _GRAMMAR.fullmatch(w)]


@pytest.mark.parametrize("keep", [False, True])
def test_no_key_of_a_provider_in_a_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: bool) -> None:
    """A provider that echoes the key in its error: the fault is recorded, the key is not, even where text is kept."""
    monkeypatch.setenv("THE_KEY", KEY)
    url = f"sqlite:///{tmp_path / 'j.db'}"
    echo = Reply({"error": {"message": f"Incorrect API key provided: {KEY} (x-api-key: {KEY})"}}, status=401)
    with WireServer() as server:
        server.reply = echo
        model = {"provider": "openai", "base_url": server.base_url, "api_key_env": "THE_KEY", "headers": {"X-Team": TEAM}}
        policy = {"tiers": [{"model": "m", "accept_at": 0, "judges": ["rules"]}], "journal_text": keep}
        file = PolicyFile.model_validate({"models": {"m": model}, "policies": {"default": policy}})
        with Cascade(file, journal=url) as c, pytest.raises(ProviderError):
            c.run("hi")
    (record,) = records(url)
    assert "HTTP 401" in record.attempts[0]["call_log"][0]["fault"]
    assert "[redacted]" in record.attempts[0]["error"]
    for secret in (KEY, TEAM):
        assert secret not in everything(url)
        assert secret.encode() not in b"".join(f.read_bytes() for f in tmp_path.iterdir())


def test_figures_that_are_not_finite_become_null() -> None:
    """JSON cannot represent them, and a database would reject the record."""
    assert dumps({"a": float("nan"), "b": [float("inf")]}) == '{"a":null,"b":[null]}'
    assert json.loads(dumps({"a": "\ud800", "b": float("nan")})) == {"a": "\ud800", "b": None}


def test_usage_kinds_that_are_there_are_kept() -> None:
    """The call's usage has cached, cache-write and reasoning tokens where there were any."""
    used = Answer(
        "42",
        mean_logprob=-0.01,
        usage=Usage(100, 10, cached_tokens=40, cache_write_tokens=5, reasoning_tokens=3),
        cost_usd=1e-5,
    )
    record = recorded(cascade(None, used))
    assert record.attempts[0]["call_log"][0]["usage"] == {
        "input_tokens": 100, "output_tokens": 10, "cached_tokens": 40, "cache_write_tokens": 5, "reasoning_tokens": 3,
    }  # fmt: skip


def test_the_policy_that_is_hashed_is_the_one_that_is_stored() -> None:
    """``Policy.hash`` is the hash of ``Policy.canonical``, and any setting changes it."""
    import hashlib

    a = Policy.model_validate({"tiers": [{"model": "m"}]})
    b = Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.71}]})
    assert a.hash == hashlib.sha256(a.canonical.encode()).hexdigest()[:16] != b.hash
    assert Policy.model_validate_json(a.canonical) == a
