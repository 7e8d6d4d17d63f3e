"""What one call needs: a least confidence, and the seconds that it should take."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import Answer, Cascade, Policy, Result, ScriptedModel
from cascade.commands.explain import explain
from cascade.engine.decide import decide, decide_early, decide_in_time
from cascade.engine.run_ahead import p95_s
from cascade.journal.read.verify import StoredPolicy, verify
from cascade.models.protocol import ModelError
from cascade.policy.thresholds import Thresholds, raised
from cascade.result import Action
from judges import Prompt, Usage
from tests.cascade.journal.cascades import policies, records

probabilities = st.floats(0, 1)
optional = st.one_of(st.none(), probabilities)


def answer(text: str, confidence: float, **more: Any) -> Answer:
    """An answer whose judge ``sure`` says ``confidence``."""
    return Answer(text, verdicts={"rules": confidence}, cost_usd=more.pop("cost_usd", 0.001), **more)


def make_cascade(
    *confidences: float,
    delays: tuple[float, ...] = (),
    p95: tuple[float | None, ...] = (),
    journal: str | None = None,
    **policy: Any,
) -> tuple[Cascade, list[ScriptedModel]]:
    """A tier for each confidence, with the threshold 0.5 and the last with 0."""
    n = len(confidences)
    models = [
        ScriptedModel(f"m{i}", [answer(f"a{i}", c)], delay_s=delays[i] if delays else 0.0) for i, c in enumerate(confidences)
    ]
    tiers = [
        {"model": f"m{i}", "judges": ["rules"], "accept_at": 0.5 if i < n - 1 else 0.0, "p95_s": p95[i] if p95 else None}
        for i in range(n)
    ]
    first = policy.pop("first", {})
    tiers[0] |= first
    ladder = Policy.model_validate({"tiers": tiers, **policy})
    return Cascade(ladder, models={m.name: m for m in models}, journal=journal), models


@given(final=probabilities, at=optional, confidence=probabilities, least=probabilities)
def test_a_least_confidence_accepts_what_both_accept(
    final: float, at: float | None, confidence: float, least: float
) -> None:
    """At every stage an answer is accepted just where the policy accepts it and it is at least that sure."""
    thresholds = Thresholds(final, (at, None), (None, None))
    for stage in (0, 1):
        own, needed = (decide(t, stage, confidence) for t in (thresholds, raised(thresholds, least)))
        assert (needed is Action.ACCEPT) == (own is Action.ACCEPT and confidence >= least)
    assert raised(thresholds, None) is thresholds


def test_a_call_that_needs_more_escalates_and_may_end_unsure() -> None:
    """Thresholds are raised for one call, at the last tier too; other calls are as before."""
    cascade, _ = make_cascade(0.6, 0.8)
    assert cascade.run("q").tier == "m0"
    sure = cascade.run("q", min_confidence=0.7)
    assert (sure.tier, sure.accepted) == ("m1", True)
    unsure = cascade.run("q", min_confidence=0.9)
    assert (unsure.accepted, unsure.reason, unsure.confidence) == (False, "unsure", 0.8)
    assert cascade.run("q", min_confidence=0.1).tier == "m0"
    assert [a.min_confidence for a in sure.attempts] == [0.7, 0.7]
    assert cascade.run("q").tier == "m0"


def test_the_best_of_all_is_accepted_by_the_raised_threshold() -> None:
    """With ``final: best`` an earlier answer is accepted after the last tier only where the call accepts it."""
    cascade, _ = make_cascade(0.6, 0.3, final="best", first={"accept_at": 0.7})
    assert cascade.run("q").accepted
    assert not cascade.run("q", min_confidence=0.65).accepted


def test_a_gate_and_streams_take_the_needs() -> None:
    """``gate`` takes a least confidence; ``stream`` and ``astream`` take what ``run`` takes."""
    cascade, _ = make_cascade(0.6, 0.8)
    assert cascade.gate("q", answer("x", 0.6)).accepted
    assert not cascade.gate("q", answer("x", 0.6), min_confidence=0.7).accepted
    *_, last = cascade.stream("q", min_confidence=0.7, max_latency_s=5)
    result = getattr(last, "result", None)
    assert isinstance(result, Result)
    assert result.tier == "m1"


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"min_confidence": 1.5}, "min_confidence must be from 0 to 1"),
        ({"min_confidence": float("nan")}, "min_confidence must be from 0 to 1"),
        ({"max_latency_s": 0}, "max_latency_s must be more than 0"),
        ({"max_latency_s": float("nan")}, "max_latency_s must be more than 0"),
    ],
)
def test_needs_that_make_no_sense(needs: dict[str, float], words: str) -> None:
    """The error names the keyword."""
    cascade, _ = make_cascade(0.6, 0.8)
    with pytest.raises(ValueError, match=words):
        cascade.run("q", **needs)


@given(p95=st.one_of(st.none(), st.floats(0, 100)), left=st.floats(-10, 100), needed=st.booleans())
def test_decide_in_time(p95: float | None, left: float, needed: bool) -> None:
    """Asked where it fits, where nobody knows, and where nothing else can answer."""
    fits = p95 is None or p95 <= left or needed
    assert decide_in_time(p95, left, needed=needed) is (Action.ASK if fits else Action.SKIP)


@pytest.mark.parametrize(
    ("below", "probability", "early"),
    [(None, 0.0, False), (1.0, None, True), (1.0, 0.99, True), (0.5, None, False), (0.5, 0.49, True), (0.5, 0.5, False)],
)
def test_decide_early(below: float | None, probability: float | None, early: bool) -> None:
    """Always with 1, else below the threshold; an unknown probability is not below it."""
    assert decide_early(below, probability) is early


def tiers(result: Result) -> list[tuple[str, str]]:
    """The tiers of a result with the reasons of their attempts."""
    return [(a.tier, a.reason) for a in result.attempts]


def test_tiers_that_do_not_fit_are_not_asked() -> None:
    """Slow tiers are left out wherever they stand; where only slow ones are left, the best answer so far is returned."""
    cascade, models = make_cascade(0.1, 0.2, 0.9, p95=(1.0, 60.0, 2.0))
    result = cascade.run("q", max_latency_s=10)
    assert tiers(result) == [("m0", "unsure"), ("m1", "too_slow"), ("m2", "accepted")]
    assert models[1].calls == []
    result = cascade.run("q", max_latency_s=1.5)
    assert tiers(result) == [("m0", "unsure"), ("m1", "too_slow"), ("m2", "too_slow")]
    assert (result.tier, result.accepted, result.reason) == ("m0", False, "unsure")


def test_the_fastest_tier_answers_where_none_fits() -> None:
    """A late answer is better than none; a fault of that tier lets the next fastest answer."""
    cascade, models = make_cascade(0.9, 0.9, 0.9, p95=(9.0, 4.0, 5.0))
    assert tiers(cascade.run("q", max_latency_s=1)) == [("m0", "too_slow"), ("m1", "accepted")]
    models[1]._replies = (ModelError("m1: down", model="m1"),)
    assert tiers(cascade.run("q", max_latency_s=1))[1:] == [("m1", "provider_failure"), ("m2", "accepted")]


def test_measured_latencies_take_the_place_of_stated_ones() -> None:
    """Once enough answers are timed, the policy's ``p95_s`` no longer counts."""
    cascade, _ = make_cascade(0.9, 0.9, p95=(60.0, 1.0))

    async def run() -> None:
        compiled = cascade._runtime.compile("default")
        assert p95_s(compiled.tiers[0]) == 60.0
        for _ in range(20):
            await cascade.arun("q")
        assert (await cascade.arun("q", max_latency_s=5)).tier == "m0"

    assert cascade.run("q", max_latency_s=5).tier == "m1"
    asyncio.run(run())


def test_the_next_tier_starts_early_where_waiting_would_miss_the_time() -> None:
    """The second tier's request is sent while the first one's answer is not there, and cancelled where it is accepted."""
    cascade, _ = make_cascade(0.1, 0.9, delays=(0.3, 0.3), p95=(0.3, 0.3))
    result = cascade.run("q", max_latency_s=0.5)
    assert result.tier == "m1"
    first, second = (a.call_log[0] for a in result.attempts)
    assert second.started_s < first.started_s + first.latency_s
    assert result.latency_s < first.latency_s + second.latency_s


def test_a_tier_that_outlasts_the_time_is_cut_where_the_next_has_begun() -> None:
    """The run then ends with the tier that was asked early."""
    cascade, _ = make_cascade(0.9, 0.9, delays=(60.0, 0.1), p95=(0.2, 0.2))
    result = cascade.run("q", max_latency_s=0.4)
    assert tiers(result) == [("m0", "deadline"), ("m1", "accepted")]
    assert result.latency_s < 30


def test_speculation_overlaps_the_tiers_and_pays_the_loser() -> None:
    """Both are asked at once; an escalated run takes as long as the slower one, an accepted one pays for both."""
    cascade, _ = make_cascade(0.1, 0.9, delays=(0.2, 0.2), first={"speculate_below": 1.0})
    escalated = cascade.run("q")
    assert escalated.tier == "m1"
    assert escalated.latency_s < sum(a.call_log[0].latency_s for a in escalated.attempts)
    assert escalated.cost_usd == pytest.approx(0.002)
    assert [a.calls for a in escalated.attempts] == [1, 1]


def test_a_cancelled_request_is_estimated_in_full() -> None:
    """The dear tier's price on the tokens of the answer that is returned; marked as an estimate."""
    from cascade.policy.schema import PolicyFile

    price = {"input_per_mtok": 1000.0, "output_per_mtok": 2000.0}
    file = PolicyFile.model_validate(
        {
            "models": {
                "m0": {"provider": "scripted", "answers": ["-"]},
                "m1": {"provider": "scripted", "answers": ["-"], "price": price},
            },
            "policies": {
                "default": {
                    "tiers": [
                        {"model": "m0", "judges": ["rules"], "accept_at": 0.5, "speculate_below": 1.0},
                        {"model": "m1", "accept_at": 0.0},
                    ]
                }
            },
        }
    )
    fast = ScriptedModel("m0", [answer("a0", 0.9, usage=Usage(10, 20))], delay_s=0.05)
    slow = ScriptedModel("m1", [Answer("a1", usage=Usage(10, 20))], delay_s=60.0)
    result = Cascade(file, models={"m0": fast, "m1": slow}).run("q")
    assert (result.tier, result.reason) == ("m0", "accepted")
    lost, own = result.attempts[0].call_log
    assert (lost.model, lost.fault, lost.estimated, own.estimated) == ("m1", "cancelled", True, False)
    assert lost.cost_usd == pytest.approx(10 * 0.001 + 20 * 0.002)
    assert result.cost_usd == pytest.approx(0.001 + lost.cost_usd)
    assert result.latency_s < 30


def test_a_cancelled_run_leaves_no_request_behind() -> None:
    """Both tiers' requests end with the run."""
    ended: list[str] = []

    class Slow(ScriptedModel):
        async def answer(self, prompt: Prompt, request: Any) -> Any:
            try:
                await asyncio.sleep(60)
            finally:
                ended.append(self.name)

    ladder = Policy.model_validate(
        {"tiers": [{"model": "a", "accept_at": 0.5, "speculate_below": 1.0}, {"model": "b", "accept_at": 0.0}]}
    )

    async def run() -> None:
        async with Cascade(ladder, models={name: Slow(name, ["x"]) for name in "ab"}) as cascade:
            task = asyncio.create_task(cascade.arun("q"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sorted(ended) == ["a", "b"]

    asyncio.run(run())


def test_verify_takes_the_needs_again(tmp_path: Path) -> None:
    """Records of calls with needs verify; changed ones do not."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    cascade, _ = make_cascade(0.6, 0.2, 0.8, p95=(1.0, 60.0, 2.0), journal=url)
    with cascade:
        cascade.run("q", min_confidence=0.7, max_latency_s=10)
        cascade.run("q", min_confidence=0.9, max_latency_s=1.5)
        cascade.run("q")
    ((hash, text),) = policies(url).items()
    stored = StoredPolicy.of(hash, text)
    every = records(url)
    assert [verify(record, stored) for record in every] == [[], [], []]
    (record,) = [r for r in every if r.tier == "m2"]
    assert [a.get("min_confidence") for a in record.attempts] == [0.7, 0.7, 0.7]
    unraised = [{k: v for k, v in a.items() if k != "min_confidence"} for a in record.attempts]
    assert verify(record._replace(attempts=unraised), stored)
    slow = record.attempts[1]
    (decision,) = slow["decisions"]
    faster = {**slow, "decisions": [{**decision, "compared": {**decision["compared"], "p95_s": 0.1}}]}
    changed = [record.attempts[0], faster, record.attempts[2]]
    assert any("in the time left" in d for d in verify(record._replace(attempts=changed), stored))


def test_explain_takes_the_needs() -> None:
    """Raised thresholds and slow tiers are printed."""
    cascade, _ = make_cascade(0.6, 0.8, p95=(1.0, 60.0))
    lines = list(explain(cascade.policies["default"], Prompt.of("q"), {}, min_confidence=0.7, max_latency_s=10))
    assert "accepts from 0.7" in lines[2]
    assert "too slow by its p95_s of 60 s" in lines[3]


@pytest.mark.parametrize(
    ("tier", "words"),
    [({"speculate_below": 0.5}, "needs a predictor"), ({"p95_s": -1}, "p95_s"), ({"speculate_below": 2}, "speculate_below")],
)
def test_settings_that_make_no_sense(tier: dict[str, Any], words: str) -> None:
    """They are refused where the policy is read."""
    with pytest.raises(ValueError, match=words):
        Policy.model_validate({"tiers": [{"model": "a", **tier}, {"model": "b"}]})
    with pytest.raises(ValueError, match="no tier follows"):
        Policy.model_validate({"tiers": [{"model": "a"}, {"model": "b", "speculate_below": 1.0}]})


def test_policies_that_use_none_of_it_keep_their_hash() -> None:
    """The new keys are not part of what is hashed unless they are set."""
    assert "speculate_below" not in Policy.model_validate({"tiers": [{"model": "a"}]}).canonical
