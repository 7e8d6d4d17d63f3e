"""``final: vote``: the answer with the highest posterior is returned, with that posterior as its confidence."""

import asyncio
import json
from math import isclose
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import Answer, Cascade, Policy, Result, ScriptedModel
from cascade.engine.decide import decide_vote
from cascade.models.protocol import ModelError

CONFIDENCE = st.sampled_from([0.0, 0.05, 0.3, 0.5, 0.6, 0.9, 0.999, 1.0]) | st.floats(0, 1)
VOTES = st.lists(st.tuples(CONFIDENCE, st.sampled_from([None, 0, 1, 2])), min_size=1, max_size=5)
SETTINGS = {"alternatives": st.sampled_from([2.0, 2.5, 10.0, 1000.0]), "exponent": st.sampled_from([0.0, 0.25, 1.0])}


@given(VOTES, st.sampled_from([3.0, 10.0, 1000.0]))
def test_independent_votes_have_the_posterior_of_bayes(votes: list[tuple[float, int | None]], alternatives: float) -> None:
    """With the exponent 1 it is the product of the likelihoods, over a uniform prior on the plausible answers."""
    votes = [(min(0.99, max(1 / alternatives, p)), cluster) for p, cluster in votes]
    chosen = decide_vote(*zip(*votes, strict=True), alternatives=alternatives, exponent=1.0)  # type: ignore[arg-type]
    voters = [(p, cluster) for p, cluster in votes if cluster is not None]
    if chosen is None:
        assert not voters
        return
    likelihoods = []
    answers = {cluster for _, cluster in voters}
    for answer in [*answers, *[None] * int(alternatives - len(answers))]:  # None: a plausible answer that nobody gave
        product = 1.0
        for p, cluster in voters:
            product *= p if cluster == answer else (1 - p) / (alternatives - 1)
        likelihoods.append(product)
    assert isclose(chosen[1], max(likelihoods[: len(answers)]) / sum(likelihoods), rel_tol=1e-9)


@given(VOTES, SETTINGS["alternatives"], SETTINGS["exponent"])
def test_agreement_never_counts_against_an_answer(
    votes: list[tuple[float, int | None]], alternatives: float, exponent: float
) -> None:
    """One more tier that says the same as the winner leaves it the winner, with a posterior that is no lower."""
    how = {"alternatives": alternatives, "exponent": exponent}
    before = decide_vote(*zip(*votes, strict=True), **how)  # type: ignore[arg-type]
    if before is None:
        return
    p, cluster = votes[before[0]]
    more = [*votes, (p / 2, cluster)]
    after = decide_vote(*zip(*more, strict=True), **how)  # type: ignore[arg-type]
    assert after is not None
    assert more[after[0]][1] == cluster
    assert after[1] >= before[1] - 1.1e-3  # a lone answer keeps its confidence, which is bounded beside others


@given(VOTES, SETTINGS["alternatives"])
def test_without_weight_for_agreement_the_most_confident_answer_wins(
    votes: list[tuple[float, int | None]], alternatives: float
) -> None:
    """The exponent 0 is ``final: best``, apart from the posterior."""
    chosen = decide_vote(*zip(*votes, strict=True), alternatives=alternatives, exponent=0.0)  # type: ignore[arg-type]
    candidates = [(min(0.999, p), p, i) for i, (p, cluster) in enumerate(votes) if cluster is not None]
    if chosen is not None and max(p for _, p, _ in candidates) > 0.001:  # below, confidences are not told apart
        assert votes[chosen[0]][0] == max(p for _, p, _ in candidates)


@given(CONFIDENCE)
def test_a_lone_answer_keeps_its_confidence(p: float) -> None:
    """Nothing supports or contradicts it."""
    assert decide_vote([0.4, p], [None, 0], alternatives=10.0, exponent=0.5) == (1, p)


def run(*answers: Any, **policy: Any) -> Result:
    """One run of tiers t0, t1, ... that accept nothing before the last, by the log-probabilities of their answers."""
    tiers = [
        {"name": f"t{i}", "model": f"m{i}", "accept_at": 1.0 if i < len(answers) - 1 else 0.0, "judges": ["logprob"]}
        for i in range(len(answers))
    ]
    models = {f"m{i}": ScriptedModel(f"m{i}", [answer]) for i, answer in enumerate(answers)}
    vote = policy.pop("vote", {"alternatives": 10, "exponent": 1})
    ladder = Policy.model_validate({"tiers": tiers, "final": "vote", "vote": vote, **policy})

    async def one_run() -> Result:
        async with Cascade(ladder, models=models) as cascade:
            return await cascade.arun("question")

    return asyncio.run(one_run())


def answer_of(text: str, logprob: float = -0.5, **more: Any) -> Answer:
    """An answer with a mean log-probability."""
    return Answer(text, cost_usd=0.01, finish_reason="stop", mean_logprob=logprob, **more)


def test_two_tiers_outvote_a_surer_one() -> None:
    """The answer of the most confident tier that agrees is returned, as that tier wrote it."""
    result = run(answer_of("4", -0.6), answer_of("4.0", -0.5), answer_of("5", -0.4))
    assert (result.text, result.tier, result.model, result.reason) == ("4.0", "t1", "m1", "accepted")
    assert result.vote is not None
    assert result.vote.to_dict() == {"agree": 2, "answers": 3, "clusters": 2}
    assert result.confidence > max(attempt.confidence for attempt in result.attempts)
    assert result.cost_usd == pytest.approx(0.03)
    assert [attempt.cluster for attempt in result.attempts] == [0, 0, 1]
    assert json.loads(json.dumps(result.to_dict()))["vote"] == {"agree": 2, "answers": 3, "clusters": 2}


def test_an_accepted_answer_is_not_put_to_the_vote() -> None:
    """A tier that accepts ends the run with its own answer; there was nobody to vote against it."""
    result = run(answer_of("4", 0.0), answer_of("5"))
    assert (result.text, result.tier, result.vote, result.confidence) == ("4", "t0", None, 1.0)


def test_what_is_vetoed_or_empty_has_no_vote() -> None:
    """Only the answer that is left counts, and keeps its confidence."""
    result = run(answer_of("  "), answer_of(""), answer_of("5", -0.9))
    assert result.vote is not None
    assert (result.vote.answers, result.text) == (1, "5")
    assert result.confidence == result.attempts[2].confidence
    nothing = run(answer_of(""), answer_of(" "))
    assert (nothing.vote, nothing.tier) == (None, "t1")


def test_a_failed_last_tier_leaves_the_vote_to_the_others() -> None:
    """What they agree on is returned, and is not accepted: the last tier would have had to decide."""
    result = run(answer_of("4", -0.9), answer_of("4"), answer_of("5", -0.4), ModelError("down", model="m3"))
    assert (result.text, result.tier, result.accepted, result.reason) == ("4", "t1", False, "provider_failure")


def test_the_same_tool_calls_are_one_answer() -> None:
    """Whatever their ids, and in whichever order their arguments stand."""

    def call(id: str, arguments: str) -> Answer:
        function = {"name": "f", "arguments": arguments}
        return answer_of("", -0.5, tool_calls=({"id": id, "type": "function", "function": function},))

    result = run(call("a", '{"x": 1, "y": 2}'), call("b", '{"y": 2, "x": 1}'), call("c", '{"x": 2}'))
    assert [attempt.cluster for attempt in result.attempts] == [0, 0, 1]
    assert result.tier == "t1"


def test_a_policy_that_does_not_vote_numbers_no_clusters() -> None:
    """Its runs pay nothing for a vote, and their results do not name one."""
    result = run(answer_of("4"), answer_of("4"), final="best", vote=None)
    assert result.vote is None
    assert "vote" not in result.to_dict()
    assert [attempt.cluster for attempt in result.attempts] == [None, None]


def test_weights_without_a_vote_are_refused() -> None:
    """They would be read by nothing."""
    tiers = [{"name": "t0", "model": "m0"}]
    with pytest.raises(ValueError, match="vote: is read only with final: vote"):
        Policy.model_validate({"tiers": tiers, "vote": {"exponent": 1}})
