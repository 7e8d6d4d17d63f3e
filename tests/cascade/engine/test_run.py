"""One run, through the public Cascade with scripted models."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import judges
from cascade import (
    Answer,
    BudgetError,
    Cascade,
    DeadlineError,
    Policy,
    Prompt,
    ProviderError,
    ScriptedModel,
    UnsureError,
    Usage,
    Verdict,
)
from cascade.models.protocol import ModelError, Request


def priced(text: str, usd: float | None = 0.01, **more: Any) -> Answer:
    """An answer that states its own cost."""
    return Answer(text, cost_usd=usd, finish_reason="stop", **more)


def scored(text: str) -> Answer:
    """An answer that the logprob judge can score."""
    return priced(text, mean_logprob=-0.1)


def ladder(*scripts: Any, accept_at: float = 0.7, judged: Any = ("logprob",), **limits: Any) -> Cascade:
    """A cascade of scripted tiers t0, t1, ... with the same judges."""
    tiers = [
        {"name": f"t{i}", "model": f"m{i}", "accept_at": accept_at, "judges": list(judged)} for i in range(len(scripts))
    ]
    models = {f"m{i}": s if isinstance(s, ScriptedModel) else ScriptedModel(f"m{i}", s) for i, s in enumerate(scripts)}
    return Cascade(Policy.model_validate({"tiers": tiers, **limits}), models=models)


def ask(c: Cascade, **options: Any) -> Any:
    """One synchronous run."""
    return asyncio.run(c.arun("question", **options))


SURE, UNSURE = {"mean_logprob": -0.01}, {"mean_logprob": -3.0}


def test_the_cheap_answer_is_kept_when_it_is_good() -> None:
    """Nothing beyond the first tier is asked."""
    premium = ScriptedModel("m1", [priced("b")])
    r = ask(ladder([priced("a", **SURE)], premium))
    assert (r.text, r.accepted, r.tier, r.reason, r.cost_usd) == ("a", True, "t0", "accepted", 0.01)
    assert r.confidence > 0.9
    assert not r.calibrated
    assert premium.calls == []


def test_an_unsure_answer_escalates() -> None:
    """The second tier's answer is returned, and both are paid and on record."""
    r = ask(ladder([priced("a", **UNSURE)], [priced("b", 0.1, **SURE)]))
    assert (r.text, r.tier, r.cost_usd) == ("b", "t1", pytest.approx(0.11))
    assert [a.reason for a in r.attempts] == ["unsure", "accepted"]


def test_a_veto_escalates_whatever_the_scores() -> None:
    """An invalid JSON answer with a perfect log-probability is not accepted."""
    schema = {"type": "object", "required": ["x"]}
    c = ladder([priced("{}", **SURE)], [priced('{"x": 1}', **SURE)], judged=("schema", "logprob"))
    r = ask(c, schema=schema)
    assert r.parsed == {"x": 1}
    assert r.attempts[0].vetoed
    assert r.attempts[0].reason == "vetoed"
    assert "'x' is a required property" in r.attempts[0].verdicts[0].reason


def test_when_unsure_best() -> None:
    """Without an accepted answer the best one so far comes back, marked."""
    r = ask(ladder([priced("a", mean_logprob=-1.0)], [priced("b", **UNSURE)]))
    assert (r.text, r.accepted, r.reason) == ("a", False, "unsure")


def test_when_unsure_abstain() -> None:
    """Abstaining returns no text but keeps the attempts."""
    r = ask(ladder([priced("a", **UNSURE)], when_unsure="abstain"))
    assert (r.text, r.answer, r.abstained, r.accepted, len(r.attempts)) == ("", None, True, False, 1)


def test_when_unsure_raise() -> None:
    """The error carries the best result."""
    with pytest.raises(UnsureError) as caught:
        ask(ladder([priced("a", **UNSURE)], when_unsure="raise"))
    assert caught.value.result.text == "a"


def test_a_retryable_fault_is_tried_once_more() -> None:
    """One retry, then the answer."""
    flaky = ScriptedModel("m0", [ModelError("503", model="m0", retryable=True), priced("a", **SURE)])
    assert ask(ladder(flaky)).text == "a"
    assert len(flaky.calls) == 2


def test_a_final_fault_is_not_retried_and_is_no_quality_escalation() -> None:
    """A 400 goes to the next tier without a retry, and its reason is not a low score."""
    broken = ScriptedModel("m0", [ModelError("400", model="m0")])
    r = ask(ladder(broken, [priced("b", **SURE)]))
    assert len(broken.calls) == 1
    assert (r.attempts[0].reason, r.attempts[0].error, r.text) == ("provider_failure", "400", "b")


def test_all_tiers_down() -> None:
    """One exception says what was tried; there is no empty answer."""
    down = [ModelError("401", model="m")]
    with pytest.raises(ProviderError, match=r"t0 \(m0\): 401; t1 \(m1\): 401") as caught:
        ask(ladder(down, down))
    assert len(caught.value.attempts) == 2


def test_every_failed_request_is_in_the_error() -> None:
    """Each status once, with how many requests it ended."""
    faults = [ModelError(text, model="m0", retryable=True) for text in ("m0: HTTP 429: slow down", *["m0: HTTP 503"] * 2)]
    words = r"t0 \(m0\): m0: HTTP 429: slow down; m0: HTTP 503 \(2 requests\); t1 \(m1\): m1: HTTP 404$"
    with pytest.raises(ProviderError, match=words):
        ask(ladder(ScriptedModel("m0", faults), [ModelError("m1: HTTP 404", model="m1")]))


def test_an_earlier_answer_survives_a_later_fault() -> None:
    """The best answer so far comes back with the fault as reason."""
    r = ask(ladder([priced("a", **UNSURE)], [ModelError("401", model="m")]))
    assert (r.text, r.accepted, r.reason) == ("a", False, "provider_failure")


def test_budget_stops_before_the_call() -> None:
    """A spent budget leaves the answer so far, not accepted."""
    premium = ScriptedModel("m1", [priced("b", 1.0)])
    r = ask(ladder([priced("a", 0.5, **UNSURE)], premium), budget_usd=0.5)
    assert (r.text, r.accepted, r.reason, premium.calls) == ("a", False, "budget", [])
    with pytest.raises(BudgetError):
        ask(ladder([priced("a")]), budget_usd=0.0)


def test_an_unknown_price_makes_the_total_unknown() -> None:
    """None is never counted as 0."""
    r = ask(ladder([priced("a", None, **UNSURE)], [priced("b", 0.1, **SURE)]))
    assert r.cost_usd is None
    assert r.attempts[0].cost_usd is None
    assert r.attempts[1].cost_usd == 0.1


def test_deadline_keeps_the_best_answer() -> None:
    """A slow premium tier does not cost the caller the answer that is there."""
    slow = ScriptedModel("m1", [priced("b")], delay_s=5)
    r = ask(ladder([priced("a", **UNSURE)], slow), deadline_s=0.05)
    assert (r.text, r.accepted, r.reason, r.attempts[1].reason) == ("a", False, "deadline", "deadline")
    with pytest.raises(DeadlineError):
        ask(ladder(slow), deadline_s=0.05)


def test_samples_are_paid_and_the_majority_is_returned() -> None:
    """Self-consistency replaces the odd first answer by the cluster's representative and counts every sample."""
    replies = ["41", "51", "51", "51", "51", "51", "51", "51", "51", "51"]
    c = ladder([priced(t, 0.001) for t in replies], judged=({"use": "self_consistency", "samples": 8},))
    r = ask(c)
    assert (r.text, r.accepted) == ("51", True)
    assert r.cost_usd == pytest.approx(0.001 * r.attempts[0].calls)
    assert r.attempts[0].judge_cost_usd == pytest.approx(r.cost_usd - 0.001)


def test_a_replacement_must_pass_the_earlier_vetoes() -> None:
    """A majority of samples that break the schema is not accepted."""
    replies = [priced('{"x": 1}'), *[priced('{"y": 2}')] * 9]
    c = ladder(replies, judged=("schema", {"use": "self_consistency", "samples": 8}))
    r = ask(c, schema={"type": "object", "required": ["x"]})
    assert not r.accepted
    assert r.attempts[0].vetoed


def test_two_sided_stage_saves_the_dear_judge() -> None:
    """An answer that is sure enough after the cheap judge is accepted without samples."""
    judged = ({"use": "logprob", "accept_at": 0.9, "reject_below": 0.1}, "self_consistency")
    sure = ScriptedModel("m0", [priced("a", **SURE)])
    assert ask(ladder(sure, judged=judged)).accepted
    assert len(sure.calls) == 1
    hopeless = ScriptedModel("m0", [priced("a", **UNSURE)])
    r = ask(ladder(hopeless, [priced("b", **SURE)], judged=judged))
    assert len(hopeless.calls) == 1
    assert r.text == "b"


@judges.judge("test-broken")
def broken_judge(prompt: Any, answer: Any) -> float:
    """A judge that always fails."""
    raise KeyError("boom")


@pytest.mark.parametrize(("rule", "reason"), [("escalate", "judge_failure"), ("ignore", "accepted")])
def test_a_failed_judge_is_never_a_low_score(rule: str, reason: str) -> None:
    """Escalating names the judge; ignoring goes on with the other verdicts."""
    c = ladder([priced("a", **SURE)], [priced("b", **SURE)], judged=("test-broken", "logprob"), on_judge_error=rule)
    r = ask(c)
    assert r.attempts[0].reason == reason
    assert all(v.score is None for a in r.attempts for v in a.verdicts if v.judge == "test-broken")


def test_a_failed_judge_can_raise() -> None:
    """With ``raise`` the judge's own exception reaches the caller."""
    with pytest.raises(KeyError):
        ask(ladder([priced("a", **SURE)], judged=("test-broken",), on_judge_error="raise"))


@judges.judge("test-breaks-on-more", only_vetoes=True)
def breaks_on_more(prompt: Any, answer: Any) -> None:
    """Passes the answer, and fails on the one that another judge puts in its place."""
    if answer.text == "more":
        raise KeyError("boom")


@judges.judge("test-prefers-more")
def prefers_more(prompt: Any, answer: Any) -> Verdict:
    """Puts another answer in the place of the first."""
    return Verdict("test-prefers-more", 1.0, answer=replace(answer, text="more"))


@pytest.mark.parametrize(("rule", "reason"), [("escalate", "judge_failure"), ("ignore", "accepted"), ("raise", None)])
def test_a_judge_that_fails_when_it_is_run_again(rule: str, reason: str | None) -> None:
    """On the answer that took the place of the first, too, the policy says what a failure means."""
    names = ("test-breaks-on-more", "test-prefers-more")
    c = ladder([priced("a", **SURE)], [priced("b", **SURE)], judged=names, on_judge_error=rule)
    if reason is None:
        with pytest.raises(KeyError):
            ask(c)
    else:
        first = ask(c).attempts[0]
        assert first.reason == reason
        assert ("test-breaks-on-more" in (first.error or "")) == (reason == "judge_failure")


step = st.one_of(
    st.builds(lambda s: Verdict("x", s), st.one_of(st.none(), st.floats(0, 1))),
    st.just(Verdict("x", veto=True, reason="no")),
    st.builds(lambda t: Verdict("x", 1.0, answer=priced(t)), st.text(max_size=3)),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(step, min_size=1, max_size=4), min_size=1, max_size=3), st.floats(0, 1), st.integers(1, 6))
def test_invariants(plan: list[list[Verdict]], accept_at: float, max_calls: int) -> None:
    """No vetoed answer is accepted, the cost is the sum of its parts, and no run asks more than it may."""
    tiers, models = [], {}
    for i, verdicts in enumerate(plan):
        names = []
        for j, verdict in enumerate(verdicts):
            name = f"plan-{i}-{j}"
            judges.register(name, lambda v=verdict, n=name: judges.FunctionJudge(n, lambda p, a: v, v.veto))
            names.append(name)
        tiers.append({"name": f"t{i}", "model": f"m{i}", "accept_at": accept_at, "judges": names})
        models[f"m{i}"] = ScriptedModel(f"m{i}", [priced("a", 0.25)])
    c = Cascade(Policy.model_validate({"tiers": tiers, "max_calls": max_calls}), models=models)
    r = ask(c)
    assert not (r.accepted and (r.attempts[-1].vetoed or any(v.veto for v in r.attempts[-1].verdicts)))
    assert r.cost_usd == pytest.approx(sum(a.cost_usd for a in r.attempts))
    assert sum(len(m.calls) for m in models.values()) <= max_calls
    assert len(r.attempts) <= len(plan)
    if r.accepted:
        assert r.confidence >= accept_at


def test_usage_is_priced_by_the_policy() -> None:
    """A policy file's own price turns usage into USD."""
    from cascade.policy.schema import PolicyFile

    file = PolicyFile.model_validate(
        {
            "models": {
                "m": {"provider": "scripted", "answers": ["x"], "price": {"input_per_mtok": 1.0, "output_per_mtok": 2.0}}
            },
            "policies": {"default": {"tiers": [{"model": "m", "accept_at": 0}]}},
        }
    )
    c = Cascade(file, models={"m": ScriptedModel("m", [Answer("x", usage=Usage(1_000_000, 500_000))])})
    assert ask(c).cost_usd == 2.0


def mapped(*stages: Any) -> list[dict[str, Any]]:
    """Constants as the mappings of the judge prefixes, or what is given."""
    return [s if isinstance(s, dict) else {"method": "constant", "p": s} for s in stages]


def calibrated(tiers: list[dict[str, Any]], *answers: Answer, **policy: Any) -> Any:
    """One run of calibrated tiers, each with one answer."""
    steps = [{"model": f"m{i}", **tier} for i, tier in enumerate(tiers)]
    models = {f"m{i}": ScriptedModel(f"m{i}", [a]) for i, a in enumerate(answers)}
    return ask(Cascade(Policy.model_validate({"tiers": steps, **policy}), models=models))


def test_an_answer_that_no_judge_scored_is_not_accepted() -> None:
    """It is returned, its confidence is the tier's base rate or its prior, and judging or escalating goes on as before."""
    tiers: list[dict[str, Any]] = [
        {"accept_at": 0.9, "judges": ["rules"]},
        {"accept_at": 0.0, "judges": ["schema", "rules"], "prior": 0.8},
    ]
    r = calibrated(tiers, priced("a"), priced("b"), when_unsure="raise")
    assert (r.text, r.confidence, r.accepted, r.judged, r.reason) == ("b", 0.8, False, False, "last_tier")
    assert [a.judged for a in r.attempts] == [False, False]
    with_base_rate = calibrated([{"accept_at": 0.0, "judges": ["logprob"], "confidence": mapped(0.6, 0.7)}], priced("a"))
    assert (with_base_rate.confidence, with_base_rate.judged, with_base_rate.calibrated) == (0.7, False, True)
    first = calibrated([{"accept_at": 0.4}, {"accept_at": 0.0}], priced("a"), priced("b"))
    assert (first.text, first.accepted, first.reason, len(first.attempts)) == ("a", False, "unjudged", 1)
    with_score = calibrated([{"accept_at": 0.0, "judges": ["logprob"]}], scored("a"))
    assert (with_score.accepted, with_score.judged, with_score.reason) == (True, True, "accepted")
    vetoed = calibrated([{"accept_at": 0.0, "judges": ["rules"]}], priced(""))
    assert (vetoed.accepted, vetoed.judged, vetoed.reason) == (False, True, "vetoed")


@pytest.mark.parametrize(("final", "text", "confidence"), [("last", "b", 0.3), ("best", "a", 0.6)])
def test_final_says_which_answer_counts(final: str, text: str, confidence: float) -> None:
    """After the last tier, its own answer or the surest of all is returned, and accepted by the last threshold."""
    judges = ["logprob"]
    tiers = [
        {"accept_at": 0.9, "judges": judges, "confidence": mapped(0.6, 0.6)},
        {"accept_at": 0.0, "judges": judges, "confidence": mapped(0.3, 0.3)},
    ]
    r = calibrated(tiers, scored("a"), scored("b"), final=final)
    assert (r.text, r.confidence, r.accepted, r.reason) == (text, confidence, True, "accepted")
    assert len(r.attempts) == 2


def test_agreement_between_tiers_is_evidence() -> None:
    """A mapping may read whether the answer says the same as an earlier tier's."""
    feature = {"judge": "agrees:0", "transform": "identity", "fill": 0.5, "coefficient": 4.0, "missing": 0.0}
    reads = {"method": "logistic", "intercept": -2.0, "features": [feature]}
    tiers = [{"accept_at": 0.9, "confidence": mapped(0.1)}, {"accept_at": 0.5, "confidence": mapped(reads)}]
    same = calibrated(tiers, priced("51"), priced("51."))
    other = calibrated(tiers, priced("51"), priced("52"))
    assert same.confidence == pytest.approx(0.880797)
    assert other.confidence == pytest.approx(0.119203)
    assert (same.accepted, other.accepted) == (True, False)


def test_each_stage_has_its_own_mapping() -> None:
    """A stage's threshold is compared with the confidence fitted for the judges so far."""
    judged = [{"use": "rules", "reject_below": 0.5}, "logprob"]
    tier = {"accept_at": 0.5, "judges": judged, "confidence": mapped(0.9, 0.4, 0.95)}
    r = calibrated([tier, {"accept_at": 0.0}], priced("a", **SURE), priced("b"))
    assert [v.judge for v in r.attempts[0].verdicts] == ["rules"]
    assert (r.attempts[0].confidence, r.attempts[0].calibrated, r.tier) == (0.4, True, "m1")


def test_every_request_and_every_decision_stands_in_the_attempt() -> None:
    """The attempt lists, in order, a retried fault, the judge's samples and each decision."""
    failing = iter([ModelError("m: HTTP 503", model="m", retryable=True, status=503)])

    def script(prompt: Prompt, request: Request) -> str:
        for error in failing:
            raise error
        return "51"

    policy = Policy.model_validate(
        {"tiers": [{"model": "m", "accept_at": 0.6, "judges": ["rules", {"use": "self_consistency", "samples": 3}]}]}
    )
    with Cascade(policy, models={"m": ScriptedModel("m", script)}) as service:
        attempt = service.run("What is 17 * 3?").attempts[0]
    first, second, *samples = attempt.call_log
    assert (first.fault, first.status, second.fault) == ("m: HTTP 503", 503, None)
    assert {c.purpose for c in samples} == {"self_consistency"}
    assert [d.stage for d in attempt.decisions] == [0, 1]
    assert [d.action.value for d in attempt.decisions] == ["judge", "accept"]
    assert attempt.decisions[-1].confidence == attempt.confidence
    starts = [c.started_s for c in attempt.call_log]
    assert starts == sorted(starts)
