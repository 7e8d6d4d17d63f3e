"""Spans with the real SDK: names, nesting, figures, errors, cancellation, content."""

import asyncio
import json
import random
from collections import Counter
from contextlib import aclosing
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.semconv._incubating.attributes import error_attributes, gen_ai_attributes, server_attributes
from opentelemetry.trace import SpanKind, StatusCode

from cascade import Answer, Cascade, Policy, PolicyError, Prompt, Result, RunError, ScriptedModel, UnsureError, Usage
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import ModelError, Request
from cascade.policy.load import parse
from cascade.telemetry import Telemetry, traces
from tests.cascade.telemetry.conftest import Watch
from tests.wire_server import Reply, WireServer, chat

TWO = {
    "tiers": [
        {"model": "a", "accept_at": 0.9, "judges": ["rules", {"use": "self_consistency", "samples": 2}]},
        {"model": "b", "accept_at": 0.0, "judges": ["rules"]},
    ]
}


def answer(text: str, tokens: int = 10) -> Answer:
    """An answer with a usage and a price of its own."""
    return Answer(
        text,
        usage=Usage(tokens, 5, cached_tokens=3, cache_write_tokens=2, reasoning_tokens=1),
        cost_usd=tokens / 1000,
        finish_reason="stop",
    )


def unsure(prompt: Any, request: Request) -> Answer:
    """Another answer each time, so that nobody agrees."""
    return answer(str(random.random()), random.randrange(1, 100))


def make_cascade(watch: Watch, policy: Any = TWO, **models: Any) -> Cascade:
    """A cascade of scripted models that is watched."""
    content = models.pop("content", False)
    scripts = {"a": unsure, "b": [answer("sure")], **models}
    scripted = {name: s if hasattr(s, "answer") else ScriptedModel(name, s) for name, s in scripts.items()}
    return Cascade(Policy.model_validate(policy), models=scripted, telemetry=watch.telemetry(content=content))


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """A span's attributes."""
    return dict(span.attributes or {})


def known_names() -> set[str]:
    """Every attribute that the installed conventions name."""
    modules = (gen_ai_attributes, error_attributes, server_attributes)
    return {v for m in modules for k, v in vars(m).items() if k.isupper() and isinstance(v, str)}


def test_names_are_those_of_the_conventions() -> None:
    """Every attribute of gen_ai, error and server is one that the installed package knows; the others are our own."""
    names = {v for k, v in vars(traces).items() if k.isupper() and k[0] != "_" and isinstance(v, str)}
    names -= {traces.EVALUATION}
    ours = {n for n in names if n.startswith("cascade.")}
    assert names - ours - known_names() == set()
    assert len(ours) >= 10
    # The name of an event is no attribute; it begins those of its attributes.
    assert f"{traces.EVALUATION.removesuffix('result')}name" in known_names()


def test_a_run_its_calls_and_its_verdicts(watch: Watch) -> None:
    """One span a run, one CLIENT span a call inside it, one event a verdict; the figures are the result's."""
    with make_cascade(watch) as c:
        result = c.run("hi")
    (run,) = watch.spans("cascade.run default")
    calls = watch.spans("chat")
    values = attributes(run)
    assert (values[traces.POLICY], values[traces.OPERATION]) == ("default", "invoke_workflow")
    assert (values[traces.ACCEPTED], values[traces.REASON], values[traces.TIER]) == (False, "last_tier", "b")
    assert (values[traces.CONFIDENCE], values[traces.RUN_ID]) == (result.confidence, result.run_id)
    log = [record for a in result.attempts for record in a.call_log]
    assert len(calls) == len(log) == values[traces.CALLS] == 3
    for span, record in zip(calls, log, strict=True):
        assert span.parent is not None
        assert run.context is not None
        assert (span.parent.span_id, span.kind) == (run.context.span_id, SpanKind.CLIENT)
        assert attributes(span)[traces.PURPOSE] == record.purpose
        assert attributes(span)[traces.COST] == record.cost_usd
        assert attributes(span)[traces.OPERATION] == "chat"
    assert sum(attributes(s)[traces.INPUT_TOKENS] for s in calls) == sum(r.usage.input_tokens for r in log if r.usage)
    assert (
        sum(attributes(s)[traces.COST] for s in calls)
        == pytest.approx(values[traces.COST])
        == pytest.approx(result.cost_usd)
    )
    messages = [
        (e.name, (e.attributes or {})[traces.EVALUATION_NAME], (e.attributes or {}).get(traces.SCORE)) for e in run.events
    ]
    assert messages == [(traces.EVALUATION, v.judge, v.score) for a in result.attempts for v in a.verdicts]
    assert [(e.attributes or {})[traces.SCORE_LABEL] for e in run.events] == ["pass", "score", "pass"]


def test_nothing_of_the_prompt_without_content(watch: Watch) -> None:
    """Prompts, answers, reasons and faults stay out unless the policy asks."""
    policy = {"tiers": [{"model": "a", "accept_at": 0, "judges": [{"use": "rules", "choices": ["x"]}]}, {"model": "b"}]}
    models = {
        "a": [answer("a-secret-answer")],
        "b": [ModelError("b: HTTP 400: you said a-secret-prompt", model="b", status=400)],
    }
    with make_cascade(watch, policy, **models) as c:
        c.run("a-secret-prompt")
    text = "".join(s.to_json() for s in watch.spans())
    assert "a-secret" not in text
    assert "choices" not in text


def test_content_is_kept_where_it_is_asked_for(watch: Watch) -> None:
    """Messages in the conventions' shape, the judges' reasons and the faults."""
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = [
        {"role": "system", "content": "be brief"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "see"}, image, {"type": "image_url", "image_url": "http://x/y"}],
        },
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "seen"},
    ]
    policy = {"tiers": [{"model": "a", "judges": [{"use": "rules", "choices": ["x"]}]}, {"model": "b"}]}
    answer = Answer("half \ud800", tool_calls=(call,), finish_reason="tool_calls")
    models = {"a": [answer], "b": [ModelError("b: HTTP 400: no", model="b", status=400)]}
    with make_cascade(watch, policy, content=True, **models) as c:
        c.run(messages)
    first, second = watch.spans("chat")
    sent, came = (json.loads(attributes(first)[k]) for k in (traces.INPUT_MESSAGES, traces.OUTPUT_MESSAGES))
    tool = {"type": "tool_call", "id": "1", "name": "look", "arguments": "{}"}
    assert [m["role"] for m in sent] == ["system", "user", "assistant", "tool"]
    assert sent[1]["parts"] == [
        {"type": "text", "content": "see"},
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
        {"type": "uri", "modality": "image", "uri": "http://x/y"},
    ]
    assert (sent[2]["parts"], sent[3]["parts"][0]["response"]) == ([tool], "seen")
    text = {"type": "text", "content": "half \ud800"}
    assert came == [{"role": "assistant", "parts": [text, tool], "finish_reason": "tool_calls"}]
    attributes(first)[traces.OUTPUT_MESSAGES].encode()  # an exporter must be able to
    assert second.status.description == "b: HTTP 400: no"
    (run,) = watch.spans("cascade.run")
    assert (run.events[0].attributes or {})[traces.EXPLANATION] == "choices: not one of the 1"


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (ModelError("a: HTTP 429", model="a", status=429), "429"),
        (ModelError("a: HTTP 599", model="a", status=599), "5xx"),
        (ModelError("a: timed out; it may have been billed", model="a", kind="timeout"), "timeout"),
        (ModelError("a: no connection (ConnectError)", model="a", kind="connection"), "connection"),
        (ModelError("a: malformed reply: no choices", model="a", kind="malformed"), "malformed"),
        (ModelError("a: ValueError", model="a"), "_OTHER"),
    ],
)
def test_a_failed_call_says_how(watch: Watch, fault: ModelError, kind: str) -> None:
    """error.type is one of a small set; the run goes on with the next tier and is not an error itself."""
    with make_cascade(watch, a=[fault]) as c:
        result = c.run("q")
    failed = [s for s in watch.spans("chat a") if s.status.status_code is StatusCode.ERROR]
    assert {attributes(s)[traces.ERROR_TYPE] for s in failed} == {kind}
    assert len(watch.spans("chat")) == sum(len(a.call_log) for a in result.attempts)
    assert watch.value("cascade_calls_total", model="a", outcome=kind) == len(failed) > 0
    (run,) = watch.spans("cascade.run")
    assert run.status.status_code is StatusCode.UNSET
    assert watch.value("cascade_escalations_total", tier="a", reason="provider_failure") == 1


def test_a_run_that_raises_is_an_error(watch: Watch) -> None:
    """The span has the exception's class but not its text; the attempts are counted."""
    gone = [ModelError("gone: a-secret", model="m", status=400)]
    with make_cascade(watch, a=gone, b=gone) as c, pytest.raises(RunError):
        c.run("q")
    (run,) = watch.spans("cascade.run")
    assert (run.status.status_code, run.status.description) == (StatusCode.ERROR, None)
    values = attributes(run)
    assert (values[traces.ERROR_TYPE], values[traces.REASON], values[traces.ATTEMPTS]) == (
        "ProviderError",
        "provider_failure",
        2,
    )
    assert not run.events
    assert watch.value("cascade_runs_total", reason="provider_failure", tier="none", accepted="false") == 1


def test_an_unsure_run_tells_its_best_answer(watch: Watch) -> None:
    """UnsureError has a result, whose figures are reported."""
    policy = {"tiers": [{"model": "b", "accept_at": 1.0}], "when_unsure": "raise"}
    with make_cascade(watch, policy) as c, pytest.raises(UnsureError) as caught:
        c.run("q")
    (run,) = watch.spans("cascade.run")
    values = attributes(run)
    assert (values[traces.REASON], values[traces.TIER], values[traces.RUN_ID]) == ("unsure", "b", caught.value.run_id)
    assert values[traces.ERROR_TYPE] == "UnsureError"


@pytest.mark.parametrize("rule", ["ignore", "escalate", "raise"])
def test_a_judge_that_fails_is_one_event(watch: Watch, rule: str) -> None:
    """Its failure is one event, with the exception's class, and is not a score."""
    policy = {"tiers": [{"model": "b", "accept_at": 0, "judges": ["self_consistency"]}], "on_judge_error": rule}
    replies = iter([answer("x")])

    def script(prompt: Prompt, request: Request) -> Answer:
        return next(replies, None) or _raise(KeyError("a-secret"))

    with make_cascade(watch, policy, b=script) as c:
        try:
            c.run("q")
        except ModelError:
            assert rule == "raise"
    (run,) = watch.spans("cascade.run")
    (event,) = run.events
    values = dict(event.attributes or {})
    assert (values[traces.SCORE_LABEL], traces.SCORE in values) == ("error", False)
    assert values[traces.ERROR_TYPE] == "ModelError"
    assert "a-secret" not in run.to_json()
    assert watch.value("cascade_judge_verdicts_total", judge="self_consistency", verdict="error") == 1


def _raise(error: Exception) -> Any:
    raise error


def test_cancelling_ends_the_spans(watch: Watch) -> None:
    """A cancelled run leaves no span open and none current."""

    async def use() -> None:
        c = make_cascade(watch, b=ScriptedModel("b", ["x"], delay_s=60))
        task = asyncio.create_task(c.arun("q"))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not trace.get_current_span().get_span_context().is_valid

    asyncio.run(use())
    (run,) = watch.spans("cascade.run")
    last = watch.spans("chat b")[-1]
    assert attributes(run)[traces.ERROR_TYPE] == attributes(last)[traces.ERROR_TYPE] == "cancelled"
    assert attributes(run)[traces.REASON] == "cancelled"
    assert watch.value("cascade_runs_total", reason="cancelled") == 1
    assert watch.value("cascade_calls_total", outcome="cancelled") == 1


def test_many_at_once_keep_their_own(watch: Watch) -> None:
    """With 100 runs at once in one loop, each call and verdict belongs to its run's span, under the caller's."""
    tracer = watch.provider.get_tracer("test")

    async def one(c: Cascade, i: int) -> tuple[int, Result]:
        with tracer.start_as_current_span(f"caller {i}") as span:
            return span.get_span_context().span_id, await c.arun(f"question {i}")

    async def use() -> list[tuple[int, Result]]:
        slow = ScriptedModel("a", unsure, delay_s=0.002)
        async with make_cascade(watch, a=slow, content=True) as c:
            return list(await asyncio.gather(*(one(c, i) for i in range(100))))

    results = asyncio.run(use())
    runs = {attributes(s)[traces.RUN_ID]: s for s in watch.spans("cascade.run")}
    of_run = Counter(s.parent.span_id for s in watch.spans("chat") if s.parent is not None)
    for i, (caller, result) in enumerate(results):
        run = runs[result.run_id]
        assert run.context is not None
        assert run.parent is not None
        assert run.parent.span_id == caller
        assert of_run[run.context.span_id] == sum(len(a.call_log) for a in result.attempts)
        assert len(run.events) == sum(len(a.verdicts) for a in result.attempts)
        inside = [s for s in watch.spans("chat") if s.parent is not None and s.parent.span_id == run.context.span_id]
        assert all(f"question {i}" + '"' in attributes(s)[traces.INPUT_MESSAGES] for s in inside)
    assert len(runs) == 100


def test_a_http_client_sees_the_call_as_its_parent(watch: Watch) -> None:
    """While the provider is asked, the call's span is the current one; afterwards the run's, then the caller's."""
    seen: list[Any] = []

    class Looking(ScriptedModel):
        async def answer(self, prompt: Prompt, request: Request) -> Any:
            await asyncio.sleep(0)
            seen.append(trace.get_current_span().get_span_context().span_id)
            return await super().answer(prompt, request)

    with make_cascade(watch, {"tiers": [{"model": "b", "accept_at": 0}]}, b=Looking("b", ["x"])) as c:
        c.run("q")
    (call,) = watch.spans("chat")
    assert call.context is not None
    assert seen == [call.context.span_id]


def test_retries_hedges_and_fallbacks_are_spans_each(watch: Watch) -> None:
    """Whatever resilience makes of a call, there is a span for every request that the log holds, inside the run's."""
    file = parse(
        "models:\n"
        "  a: {provider: scripted, answers: [x], hedge: true, retry: {initial_backoff_s: 0.001}}\n"
        "  b: {provider: scripted, answers: [x]}\n"
        "policies: {default: {tiers: [{model: a, fallbacks: [b], accept_at: 0}]}}"
    )
    count = iter(range(10**6))
    down = ModelError("a: HTTP 500", model="a", status=500, retryable=True)

    class Uneven(ScriptedModel):
        async def answer(self, prompt: Prompt, request: Request) -> Any:
            i = next(count)
            if i > 25:
                await asyncio.sleep(0 if i % 10 else 0.1)
                if i % 7 == 3:
                    raise down
            return await super().answer(prompt, request)

    async def use() -> list[Result]:
        models = {"a": Uneven("a", ["x"]), "b": ScriptedModel("b", ["y"])}
        async with Cascade(file, models=models, telemetry=watch.telemetry()) as c:
            return [await c.arun(f"q{i}") for i in range(60)]

    results = asyncio.run(use())
    log = [record for r in results for a in r.attempts for record in a.call_log]
    faults = Counter(record.fault for record in log)
    assert faults[str(down)] > 0  # retried
    assert faults["cancelled"] > 0  # hedged
    assert len(watch.spans("chat")) == len(log)
    runs = {s.context.span_id: s for s in watch.spans("cascade.run") if s.context is not None}
    assert len(runs) == 60
    assert all(s.parent is not None and s.parent.span_id in runs for s in watch.spans("chat"))
    assert watch.value("cascade_calls_total") == len(log)


def test_a_streamed_run_is_told_as_any_other(watch: Watch) -> None:
    """The same spans and figures, also where the caller stops listening."""

    async def use() -> None:
        slow = ScriptedModel("b", [answer("sure")])
        async with make_cascade(watch, b=slow) as c:
            kinds = [type(event).__name__ async for event in c.astream("q")]
            assert kinds[-1] == "Finished"
            slow.delay_s = 60
            async with aclosing(c.astream("q")) as events:
                async for _ in events:
                    break

    asyncio.run(use())
    first, second = watch.spans("cascade.run")
    assert attributes(first)[traces.ACCEPTED] is False
    assert len(first.events) == 3
    assert attributes(second)[traces.REASON] == "cancelled"
    ids = {s.context.span_id for s in (first, second) if s.context is not None}
    assert all(s.parent is not None and s.parent.span_id in ids for s in watch.spans("chat"))


def test_gate_has_a_span_and_evaluation_alone_no_run(watch: Watch) -> None:
    """``gate`` has a span of its own; ``Cascade.attempt``, which evaluation uses, has spans for its calls only."""
    with make_cascade(watch) as c:
        gated = c.gate("q", "an answer", tier="b")
        asyncio.run(c.attempt("b", "q"))
    (gate,) = watch.spans("cascade.gate default")
    assert attributes(gate)[traces.ACCEPTED] is gated.accepted is False
    assert [e.name for e in gate.events] == [traces.EVALUATION]
    assert not watch.spans("cascade.run")
    (alone,) = watch.spans("chat b")
    assert alone.parent is None
    assert watch.value("cascade_runs_total", kind="gate") == 1


def test_the_provider_and_its_server_are_told(watch: Watch) -> None:
    """Provider, address and port come from the policy file; no other part of the URL is reported."""
    with WireServer() as server:
        server.reply = Reply(chat("yes", choice={"finish_reason": "x" * 100}))
        file = parse(
            f"models: {{m: {{provider: openai, model: gpt-x, base_url: '{server.base_url}/v1', max_tokens: 7}}}}\n"
            "policies: {default: {tiers: [{model: m, accept_at: 0}]}}"
        )
        with Cascade(file, telemetry=watch.telemetry()) as c:
            c.run("q")
        port = int(server.base_url.rsplit(":", 1)[1])
    (call,) = watch.spans("chat gpt-x")
    values = attributes(call)
    assert (values[traces.PROVIDER], values[traces.SERVER_ADDRESS], values[traces.SERVER_PORT]) == (
        "openai",
        "127.0.0.1",
        port,
    )
    assert (values[traces.INPUT_TOKENS], values[traces.OUTPUT_TOKENS]) == (10, 5)
    assert values[traces.FINISH_REASONS] == ("_OTHER",)
    assert traces.COST not in values  # unknown, not 0


def test_a_given_model_has_a_provider_too(watch: Watch) -> None:
    """Without a spec the class gives the provider; the server's address is unknown."""
    with WireServer() as server:
        model = OpenAIModel(name="b", model="gpt-y", base_url=server.base_url, api_key="k")
        with make_cascade(watch, {"tiers": [{"model": "b", "accept_at": 0}]}, b=model) as c:
            c.run("q")
    values = attributes(watch.spans("chat gpt-y")[0])
    assert values[traces.PROVIDER] == "openai"


def test_off_is_nothing_at_all() -> None:
    """A policy file that asks for nothing gives no Telemetry; content without traces is a mistake that says so."""
    assert Cascade(None)._telemetry is None
    text = "models: {m: {provider: scripted, answers: [x]}}\npolicies: {default: {tiers: [{model: m}]}}\ntelemetry: "
    assert Cascade(parse(text + "{}"))._telemetry is None
    with Cascade(parse(text + "{traces: true}")) as c:
        assert isinstance(c._telemetry, Telemetry)
        assert c.run("q").text == "x"
    with pytest.raises(PolicyError, match=r"policies.yaml:3: telemetry: .*needs traces"):
        parse(text + "{content: true}")
    with pytest.raises(PolicyError, match=r"telemetry.trace: unknown key; did you mean 'traces'"):
        parse(text + "{trace: true}")
