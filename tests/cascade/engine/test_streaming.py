"""Runs as events: the same run as ``arun``'s, and the text that was sent is the text of the result."""

import asyncio
import gc
import threading
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Any
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import cascade
import judges
from cascade import (
    Answer,
    Cascade,
    DeadlineError,
    Escalated,
    Event,
    Finished,
    Policy,
    Prompt,
    ProviderError,
    Reasoning,
    Result,
    Retracted,
    ScriptedModel,
    TierStarted,
    Token,
    UnsureError,
    Verdict,
    VerdictGiven,
)
from cascade.costs.prices import Pricer
from cascade.engine.model_handle import ModelHandle
from cascade.engine.plan import CompiledTier
from cascade.engine.streaming import EventStream
from cascade.journal.open_store import open_store
from cascade.models.openai import OpenAIModel
from cascade.models.protocol import Chunk, ModelError, Request
from cascade.models.scripted import Cut
from cascade.policy.schema import PolicyFile
from cascade.policy.thresholds import Thresholds
from cascade.result import Attempt
from tests.wire_server import Reply, WireServer, chat, chat_events

SURE, UNSURE = {"mean_logprob": -0.01}, {"mean_logprob": -3.0}


def answer_of(text: str, **more: Any) -> Answer:
    """An answer that states its own cost."""
    return Answer(text, cost_usd=0.01, finish_reason="stop", **more)


@dataclass
class Whole:
    """A model that knows no streams."""

    inner: ScriptedModel

    @property
    def name(self) -> str:
        return self.inner.name

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        return await self.inner.answer(prompt, request)

    async def close(self) -> None:
        await self.inner.close()


def ladder(*scripts: Any, accept_at: float = 0.7, judged: Any = ("logprob",), **limits: Any) -> Cascade:
    """A cascade of scripted tiers t0, t1, ... with the same judges."""
    tiers = [
        {"name": f"t{i}", "model": f"m{i}", "accept_at": accept_at, "judges": list(judged)} for i in range(len(scripts))
    ]
    models = {f"m{i}": s if hasattr(s, "answer") else ScriptedModel(f"m{i}", s) for i, s in enumerate(scripts)}
    return Cascade(Policy.model_validate({"tiers": tiers, **limits}), models=models)


def watch(c: Cascade, **options: Any) -> list[Event]:
    """All events of one run."""

    async def go() -> list[Event]:
        return [event async for event in c.astream("question", **options)]

    return asyncio.run(go())


def text_of(events: Sequence[Event]) -> str:
    """What a reader has on the screen after the events."""
    text = ""
    for event in events:
        text = "" if isinstance(event, Retracted) else text + event.text if isinstance(event, Token) else text
    return text


def kinds(events: Sequence[Event]) -> str:
    """The events in short."""
    return " ".join(type(e).__name__ if not isinstance(e, Token) else e.text.strip() for e in events)


def test_held_tokens_wait_for_the_judges() -> None:
    """A rejected answer is never seen; the accepted one comes in its own pieces, after its verdict."""
    events = watch(ladder([answer_of("no no", **UNSURE)], [answer_of("yes yes", **SURE)]))
    assert kinds(events) == "TierStarted VerdictGiven Escalated TierStarted VerdictGiven yes yes Finished"
    assert events[2] == Escalated("t0", "unsure", "t1")
    assert events[3] == TierStarted("t1", "m1")
    assert events[5:7] == [Token("t1", "yes "), Token("t1", "yes")]
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.result.text, last.result.tier, last.result.accepted) == ("yes yes", "t1", True)


@pytest.mark.parametrize("stream", ["held", "optimistic"])
def test_reasoning_waits_as_its_text_does(stream: Any) -> None:
    """The texts of Reasoning since the last Retracted are the returned answer's thoughts, before its first Token."""
    small, large = answer_of("no no", **UNSURE, reasoning="a guess"), answer_of("yes yes", **SURE, reasoning="six sevens")
    events = watch(ladder([small], [large]), stream=stream)
    retractions = [i for i, e in enumerate(events) if isinstance(e, Retracted)]
    rest = events[retractions[-1] :] if retractions else events
    assert bool(retractions) == (stream == "optimistic")
    sent = [e for e in rest if isinstance(e, Reasoning | Token)]
    assert sent == [Reasoning("t1", "six sevens"), Token("t1", "yes "), Token("t1", "yes")]


def test_optimistic_tokens_are_retracted() -> None:
    """They flow before the verdict, and a rejection takes them back."""
    events = watch(ladder([answer_of("no no", **UNSURE)], [answer_of("yes", **SURE)], stream="optimistic"))
    assert kinds(events) == "TierStarted no no VerdictGiven Retracted Escalated TierStarted yes VerdictGiven Finished"
    assert Retracted("t0") in events


@pytest.mark.parametrize(
    ("tier", "flows"),
    [
        ({"accept_at": 0.0}, True),
        ({"accept_at": 0.0, "judges": ["logprob"]}, True),
        ({"accept_at": 0.5, "prior": 0.6}, True),
        ({"accept_at": 0.6, "prior": 0.5}, False),
        ({"accept_at": 0.0, "confidence": [{"method": "constant", "p": 0.0}]}, True),
        ({"accept_at": 0.5, "prior": 0.6, "confidence": [{"method": "constant", "p": 0.9}]}, False),
        ({"accept_at": 0.1, "judges": ["logprob"]}, False),
        ({"accept_at": 0.0, "judges": ["rules"]}, False),
        ({"accept_at": 0.0, "judges": ["self_consistency"]}, False),
        ({"accept_at": 0.0, "judges": [{"use": "logprob", "reject_below": 0.1}, "logprob"]}, False),
        ({"accept_at": 0.0, "judges": [{"use": "logprob", "reject_below": 0.1}]}, True),
    ],
)
def test_what_cannot_be_rejected_flows(tier: dict[str, Any], flows: bool) -> None:
    """Tokens wait for nothing where no judge could reject the answer, and for the judges where one could."""

    async def is_heard_before_the_end() -> bool:
        heard, go_on = asyncio.Event(), asyncio.Event()

        class Halting(ScriptedModel):
            """Stops before its last word until it is told to go on."""

            async def stream(self, prompt: Prompt, request: Request) -> AsyncGenerator[Chunk]:
                async for chunk in super().stream(prompt, request):
                    if chunk.answer is not None:
                        await go_on.wait()
                    yield chunk

        c = Cascade(Policy.model_validate({"tiers": [{"model": "m", **tier}]}), models={"m": Halting("m", ["a b c d"])})

        async def listens() -> None:
            async for event in c.astream("q"):
                if isinstance(event, Token):
                    heard.set()

        listening = asyncio.create_task(listens())
        try:
            await asyncio.wait_for(heard.wait(), 5.0 if flows else 0.2)
        except TimeoutError:
            return False
        finally:
            go_on.set()
            await listening
        return True

    assert asyncio.run(is_heard_before_the_end()) is flows


def test_the_best_of_all_waits_for_the_last_tier() -> None:
    """With ``final: best`` even an accepted last answer may lose to an earlier one, which is then the one that is sent."""
    mapped = [{"accept_at": 0.9, "confidence": [{"method": "constant", "p": 0.6}]},
              {"accept_at": 0.0, "confidence": [{"method": "constant", "p": 0.3}]}]  # fmt: skip
    tiers = [{"name": f"t{i}", "model": f"m{i}", **m} for i, m in enumerate(mapped)]
    models = {"m0": ScriptedModel("m0", ["a a"]), "m1": ScriptedModel("m1", ["b b"])}
    for stream, expected in (
        ("held", "TierStarted Escalated TierStarted a a Finished"),
        ("optimistic", "TierStarted a a Retracted Escalated TierStarted b b Retracted a a Finished"),
    ):
        events = watch(Cascade(Policy.model_validate({"tiers": tiers, "final": "best", "stream": stream}), models=models))
        assert kinds(events) == expected
        assert text_of(events) == "a a"


def test_the_replacement_is_what_is_sent() -> None:
    """Self-consistency puts another answer in the place of the first: that one is shown, in one piece."""
    replies = ["41", *["5 1"] * 9]
    for stream in ("held", "optimistic"):
        c = ladder(replies, judged=({"use": "self_consistency", "samples": 8, "equivalence": "text"},), stream=stream)
        events = watch(c)
        assert text_of(events) == "5 1"
        assert [e for e in events if isinstance(e, Retracted)] == ([Retracted("t0")] if stream == "optimistic" else [])


@pytest.mark.parametrize("stream", ["held", "optimistic"])
def test_when_unsure(stream: str) -> None:
    """The best one so far comes in its own pieces, no answer in none, and an exception after the events."""
    scripts = ([answer_of("a a", mean_logprob=-1.0)], [answer_of("b", **UNSURE)])
    events = watch(ladder(*scripts, stream=stream))
    assert [e for e in events if isinstance(e, Token)][-2:] == [Token("t0", "a "), Token("t0", "a")]
    assert text_of(events) == "a a"
    assert text_of(watch(ladder(*scripts, stream=stream, when_unsure="abstain"))) == ""

    async def go() -> list[Event]:
        seen = []
        with pytest.raises(UnsureError) as caught:  # noqa: PT012
            async for event in ladder(*scripts, stream=stream, when_unsure="raise").astream("q"):
                seen.append(event)
        assert caught.value.result.text == "a a"
        return seen

    seen = asyncio.run(go())
    assert any(isinstance(e, VerdictGiven) for e in seen)
    assert not any(isinstance(e, Finished) for e in seen)


def test_a_cut_stream_is_tried_again_and_retracted_where_it_flowed() -> None:
    """Text sent before the cut is retracted; in held mode none was sent."""
    error = ModelError("cut", model="m0", retryable=True)
    for accept_at, expected in ((0.0, "TierStarted half of Retracted whole answer"), (0.7, "TierStarted")):
        c = ladder([Cut("half of", error), answer_of("whole answer", **SURE)], accept_at=accept_at)
        events = watch(c)
        assert kinds(events).startswith(expected)
        assert text_of(events) == "whole answer"
        assert kinds(events).count("half") == (accept_at == 0.0)


def test_a_provider_failure_escalates_with_its_own_reason() -> None:
    """Events distinguish the two reasons, too."""
    events = watch(ladder([Cut("half", ModelError("cut", model="m0"))], [answer_of("b", **SURE)], stream="optimistic"))
    assert Escalated("t0", "provider_failure", "t1") in events
    assert text_of(events) == "b"


@pytest.mark.parametrize("stream", ["held", "optimistic"])
def test_two_requests_at_once_never_mix(stream: str) -> None:
    """Where a tier calls two models at once, only one's text is streamed at a time; the loser's is retracted."""
    policy = Policy.model_validate({"tiers": [{"model": "m0", "judges": ["logprob"]}], "stream": stream})
    slow = ScriptedModel("m0", ["slow words " * 20], word_delay_s=0.01)
    fast = ScriptedModel("m1", ["fast words"], delay_s=0.05)
    seen: list[Event] = []
    events = EventStream(policy, seen.append)
    tier = CompiledTier(
        name="t0", handle=ModelHandle(slow, Pricer("m0", None)), thresholds=Thresholds(0.7), prior=0.5, judges=()
    )

    async def race() -> Answer:
        events.tier_started(tier, True)
        sends = [asyncio.ensure_future(events.send(m, Prompt.of("q"), Request())) for m in (slow, fast)]
        done, late = await asyncio.wait(sends, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.wait(late)
        (answer,) = done.pop().result()
        return answer

    answer = asyncio.run(race())
    attempt = Attempt(
        tier="t0",
        model="m1",
        answer=answer,
        verdicts=(),
        confidence=0.9,
        vetoed=False,
        cost_usd=0.0,
        judge_cost_usd=0.0,
        latency_s=0.0,
        calls=2,
        reason="accepted",
    )
    events.tier_ended(attempt, None)
    assert text_of(seen) == answer.text == "fast words"
    assert [e.text for e in seen if isinstance(e, Token)][-2:] == ["fast ", "words"]
    assert [e for e in seen if isinstance(e, Retracted)] == ([Retracted("t0")] if stream == "optimistic" else [])


def test_a_deadline_takes_a_flowing_answer_back() -> None:
    """The best answer so far takes its place; without one the run raises."""
    slow = ScriptedModel("m1", ["word " * 50], word_delay_s=0.01)
    tiers = [{"name": "t0", "model": "m0", "judges": ["logprob"]}, {"name": "t1", "model": "m1", "accept_at": 0.0}]
    first = ScriptedModel("m0", [answer_of("a a", **UNSURE)])
    c = Cascade(Policy.model_validate({"tiers": tiers}), models={"m0": first, "m1": slow})
    start = perf_counter()
    events = watch(c, deadline_s=0.1)
    assert perf_counter() - start < 5
    last = events[-1]
    assert isinstance(last, Finished)
    assert (text_of(events), last.result.text, last.result.reason) == ("a a", "a a", "deadline")
    assert Retracted("t1") in events
    with pytest.raises(DeadlineError):
        watch(ladder(slow), deadline_s=0.05)


def test_bad_arguments_and_dead_providers_raise() -> None:
    """As from arun."""
    with pytest.raises(ValueError, match="budget_usd"):
        watch(ladder(["a"]), budget_usd=-1)
    with pytest.raises(ProviderError):
        watch(ladder([ModelError("401", model="m")]))
    with pytest.raises(ProviderError):
        list(ladder([ModelError("401", model="m")]).stream("q"))


def test_on_event_is_the_same_stream() -> None:
    """``arun`` gives the events to a function, for code that has a loop of its own."""
    seen: list[Event] = []
    result = asyncio.run(ladder([answer_of("a b", **SURE)]).arun("q", on_event=seen.append))
    assert kinds(seen) == "TierStarted VerdictGiven a b Finished"
    assert seen[-1] == Finished(result)


def cancelled_calls(release: str) -> tuple[ScriptedModel, list[str]]:
    """A model that says one word, then waits until it is cancelled, and the list where it notes that."""
    noted: list[str] = []

    class Endless(ScriptedModel):
        async def stream(self, prompt: Prompt, request: Request) -> Any:
            async for chunk in super().stream(prompt, request):
                yield chunk
                try:
                    await asyncio.sleep(9)
                except asyncio.CancelledError:
                    noted.append(release)
                    raise

    return Endless("m0", ["a b c"]), noted


def test_leaving_the_async_loop_cancels_the_run() -> None:
    """By aclose, by break and by cancelling the reader."""

    async def closed(c: Cascade) -> None:
        async with aclosing(c.astream("q")) as events:
            async for event in events:
                if isinstance(event, Token):
                    return

    async def broken(c: Cascade) -> None:
        async for event in c.astream("q"):
            if isinstance(event, Token):
                break
        gc.collect()
        await asyncio.sleep(0.05)

    async def cancelled(c: Cascade) -> None:
        task = asyncio.ensure_future(closed_never(c))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait([task])

    async def closed_never(c: Cascade) -> None:
        async for _ in c.astream("q"):
            pass

    for leave in (closed, broken, cancelled):
        model, noted = cancelled_calls(leave.__name__)
        asyncio.run(leave(ladder(model, accept_at=0.0)))
        assert noted == [leave.__name__]


def test_leaving_the_sync_loop_cancels_the_run() -> None:
    """Breaking out of a plain for loop does, too."""
    model, noted = cancelled_calls("x")
    for event in ladder(model, accept_at=0.0).stream("q"):
        if isinstance(event, Token):
            break
    for _ in range(100):
        if noted:
            break
        threading.Event().wait(0.01)
    assert noted == ["x"]


def test_the_sync_stream_gives_events_as_they_come() -> None:
    """The first token is there long before the last, and the run begins with the first event that is asked for."""
    model = ScriptedModel("m0", ["a b c d e"], word_delay_s=0.02)
    events = ladder(model, accept_at=0.0).stream("q")
    assert model.calls == []
    times = [(perf_counter(), event) for event in events]
    tokens = [at for at, event in times if isinstance(event, Token)]
    assert len(tokens) == 5
    assert tokens[-1] - tokens[0] > 0.05
    assert isinstance(times[-1][1], Finished)


def test_module_level(tmp_path: Any) -> None:
    """``cascade.stream`` and ``cascade.astream`` share one Cascade per policy file, as ``run`` does."""
    file = tmp_path / "policies.yaml"
    file.write_text(
        "models: {m: {provider: scripted, answers: [a b]}}\npolicies: {default: {tiers: [{model: m, accept_at: 0}]}}\n"
    )

    async def go() -> list[Event]:
        return [event async for event in cascade.astream("q", policy_file=file)]

    for events in (list(cascade.stream("q", policy_file=file)), asyncio.run(go())):
        assert kinds(events) == "TierStarted a b Finished"


# Random policies over random scripts, with every way to fail.
text = st.sampled_from(["", "a", "a b", " b\n", "51", "fifty one", "the answer is 51"])
error = st.builds(lambda r: ModelError("down", model="m", retryable=r), st.booleans())
reply = st.one_of(
    text.map(answer_of),
    st.builds(lambda t, p: answer_of(t, mean_logprob=p), text, st.floats(-3, 0)),
    error,
    st.builds(Cut, text, error),
)
verdict = st.one_of(
    st.builds(lambda s: Verdict("x", s), st.one_of(st.none(), st.floats(0, 1))),
    st.just(Verdict("x", veto=True, reason="no")),
    st.builds(lambda t: Verdict("x", 1.0, answer=answer_of(t)), text),
    st.just(KeyError("boom")),
)
threshold = st.sampled_from([0.0, 0.3, 0.7, 1.0])
judge = st.one_of(
    verdict,
    st.sampled_from(["rules", "logprob", {"use": "logprob", "accept_at": 0.9, "reject_below": 0.2}]),
    st.just({"use": "self_consistency", "samples": 3, "equivalence": "text"}),
)
tier = st.fixed_dictionaries(
    {
        "accept_at": threshold,
        "prior": threshold,
        "judges": st.lists(judge, max_size=3),
        "script": st.lists(reply, min_size=1, max_size=4),
        "streams": st.booleans(),
    }
)
limits = st.fixed_dictionaries(
    {
        "stream": st.sampled_from(["held", "optimistic"]),
        "when_unsure": st.sampled_from(["best", "best", "abstain", "raise"]),
        "final": st.sampled_from(["last", "best"]),
        "on_judge_error": st.sampled_from(["escalate", "ignore", "raise"]),
        "max_calls": st.sampled_from([1, 2, 4, 64]),
    },
    optional={"budget_usd": st.sampled_from([0.0, 0.015, 0.05])},
)


def build(plan: list[dict[str, Any]], policy: dict[str, Any]) -> Cascade:
    """A fresh cascade after the plan; twice the same for the same plan."""
    tiers, models = [], {}
    for i, one in enumerate(plan):
        names = []
        for j, rule in enumerate(one["judges"]):
            if isinstance(rule, str | dict):
                names.append(rule)
                continue
            name = f"plan-{i}-{j}"
            judges.register(name, lambda v=rule, n=name: judges.FunctionJudge(n, lambda p, a: give(v)))
            names.append(name)
        more = {k: one[k] for k in ("accept_at", "prior")}
        tiers.append({"name": f"t{i}", "model": f"m{i}", "judges": names, **more})
        scripted = ScriptedModel(f"m{i}", one["script"])
        models[f"m{i}"] = scripted if one["streams"] else Whole(scripted)
    return Cascade(Policy.model_validate({"tiers": tiers, **policy}), models=models)  # type: ignore[arg-type]


def give(outcome: Verdict | Exception) -> Verdict:
    """The verdict, or the exception raised."""
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def timeless(result: Result) -> Result:
    """Without what differs between two equal runs: times and the id."""
    attempts = tuple(
        replace(a, latency_s=0.0, call_log=tuple(replace(c, started_s=0.0, latency_s=0.0) for c in a.call_log))
        for a in result.attempts
    )
    return replace(result, attempts=attempts, latency_s=0.0, run_id="")


async def collect(c: Cascade) -> list[Result | BaseException]:
    """What ``arun`` returns or raises."""
    return await asyncio.gather(c.arun("q"), return_exceptions=True)


@pytest.fixture
def at_once() -> Iterator[None]:
    """Retries without waiting."""
    with mock.patch("cascade.resilience.retry.backoff_s", lambda retry, attempt, after: 0.0 if attempt == 1 else None):
        yield


@settings(max_examples=300, deadline=None)
@given(st.lists(tier, min_size=1, max_size=3), limits)
@pytest.mark.usefixtures("at_once")
def test_a_stream_is_the_run(plan: list[dict[str, Any]], policy: dict[str, Any]) -> None:
    """For every policy and script the result, or the exception, is arun's, and what was shown is the result's text."""

    async def go() -> tuple[list[Event], Exception | None]:
        seen: list[Event] = []
        try:
            async for event in build(plan, policy).astream("q"):
                seen.append(event)
        except Exception as error:
            return seen, error
        return seen, None

    events, raised = asyncio.run(go())
    (expected,) = asyncio.run(collect(build(plan, policy)))
    if isinstance(expected, BaseException):
        assert type(expected) is type(raised)
        assert str(expected) == str(raised)
        assert not any(isinstance(e, Finished) for e in events)
        return
    assert raised is None
    last = events[-1]
    assert isinstance(last, Finished)
    assert timeless(last.result) == timeless(expected)
    assert text_of(events) == expected.text
    assert [e.verdict for e in events if isinstance(e, VerdictGiven)] == [v for a in expected.attempts for v in a.verdicts]
    assert [e.tier for e in events if isinstance(e, TierStarted)] == [a.tier for a in expected.attempts]
    if policy["stream"] == "held" and not any(isinstance(r, Cut) for one in plan for r in one["script"]):
        assert not any(isinstance(e, Retracted) for e in events)


def test_a_streamed_run_is_recorded_as_any_other(tmp_path: Any) -> None:
    """The same record but for times, also of one whose reader left."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    tiers = [{"name": f"t{i}", "model": f"m{i}", "judges": ["rules", "logprob"]} for i in (0, 1)]

    def fresh() -> Cascade:
        models = {"m0": ScriptedModel("m0", [answer_of("a", **UNSURE)]), "m1": ScriptedModel("m1", [answer_of("b", **SURE)])}
        return Cascade(Policy.model_validate({"tiers": tiers}), models=models, journal=url)

    with fresh() as c:
        result = c.run("q", tags={"user": "ana"})
    with fresh() as c:
        *_, last = c.stream("q", tags={"user": "ana"})
    with fresh() as c:
        for event in c.stream("q"):
            if isinstance(event, Token):
                break
    assert isinstance(last, Finished)
    store = open_store(url)
    first, second, left = [record for _, record in store.last(3)]
    store.close()
    assert (first.run_id, second.run_id) == (result.run_id, last.result.run_id)
    times = ("started", "ended", "latency_s", "started_s")

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: without(v) for k, v in value.items() if k not in times}
        return [without(v) for v in value] if isinstance(value, list | tuple) else value

    plain = [without({**record._asdict(), "run_id": ""}) for record in (first, second)]
    assert plain[0] == plain[1]
    assert [a["tier"] for a in left.attempts] == ["t0", "t1"]


def test_over_http() -> None:
    """The real SDK on a real server: tokens flow through both tiers, and leaving closes the upstream connection."""
    with WireServer() as server:
        models = {f"m{i}": OpenAIModel(name=f"m{i}", model=f"m{i}", base_url=server.base_url) for i in (0, 1)}
        tiers = [{"name": "t0", "model": "m0", "accept_at": 0.9, "judges": ["rules"]},
                 {"name": "t1", "model": "m1", "accept_at": 0.0}]  # fmt: skip
        c = Cascade(Policy.model_validate({"tiers": tiers}), models=models)
        server.reply = Reply(events=chat_events(chat("one two three")))
        events = list(c.stream("q"))
        assert kinds(events) == "TierStarted VerdictGiven Escalated TierStarted one two three Finished"
        server.reply = Reply(events=chat_events(chat("word " * 99)), gap_s=0.02)
        flowing = Cascade(Policy.model_validate({"tiers": tiers[1:]}), models=models)
        for event in flowing.stream("q", deadline_s=9):
            if isinstance(event, Token):
                assert not server.left.is_set()
                break
        assert server.left.wait(1.0)
        c.close()


@pytest.mark.parametrize(("keep", "with_usage"), [(4, False), (-1, True)])
def test_what_a_cut_stream_cost(keep: int, with_usage: bool) -> None:
    """Unknown, unless the provider had counted before it broke off; and the fallback's words are all that is shown."""
    price = {"input_per_mtok": 1.0, "output_per_mtok": 2.0}
    events = chat_events(chat("one two three"))
    with WireServer() as server:
        spec = {"provider": "openai", "base_url": server.base_url, "price": price, "retry": {"attempts": 1}}
        tier = {"model": "a", "accept_at": 0.0, "fallbacks": ["b"]}
        policy = {"tiers": [tier]}
        file = PolicyFile.model_validate({"models": {"a": spec, "b": spec}, "policies": {"default": policy}})
        cut = Reply(events=events, reset_after=keep % len(events))
        server.reply = lambda received: cut if received.body["model"] == "a" else Reply(events=events)
        with Cascade(file) as c:
            seen = list(c.stream("q"))
    last = seen[-1]
    assert isinstance(last, Finished)
    assert (last.result.model, text_of(seen)) == ("b", "one two three")
    assert [e for e in seen if isinstance(e, Retracted)] == [Retracted("a")]
    one = (10 * 1.0 + 5 * 2.0) / 1e6
    assert last.result.cost_usd == (pytest.approx(2 * one) if with_usage else None)
