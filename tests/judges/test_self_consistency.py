"""Self-consistency: votes, early stopping and what the verdict says of them."""

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Unpack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges.protocol import AskOptions, Judge, JudgeInput
from judges.self_consistency import SelfConsistencyJudge, beta_stop
from judges.types import Answer, Prompt, Verdict

PROMPT = Prompt.of("How many?")


@dataclass
class Sampler:
    """Hands out recorded answers in order, fewer when they run out, and keeps the size of each request."""

    answers: list[Answer]
    sizes: list[int] = field(default_factory=list)

    async def __call__(self, prompt: Prompt, *, model: str | None = None, **options: Unpack[AskOptions]) -> Sequence[Answer]:
        n = options["n"]
        assert (prompt, model, options) == (PROMPT, None, {"n": n, "temperature": 0.7})
        self.sizes.append(n)
        batch, self.answers = self.answers[:n], self.answers[n:]
        return batch


def run(first: str | Answer, further: Sequence[str | Answer], **options: Any) -> tuple[Verdict, Sampler]:
    answers = [a if isinstance(a, Answer) else Answer(a) for a in (first, *further)]
    sampler = Sampler(answers[1:])
    case = JudgeInput(prompt=PROMPT, answer=answers[0], ask=sampler)
    return asyncio.run(SelfConsistencyJudge(**options).judge(case)), sampler


def test_it_is_a_judge() -> None:
    """It satisfies the protocol under its usual name and gives scores."""
    judge = SelfConsistencyJudge()
    assert isinstance(judge, Judge)
    assert (judge.name, judge.only_vetoes) == ("self_consistency", False)


@pytest.mark.parametrize(
    ("a", "b", "value"), [(0, 0, 1 / 2), (1, 0, 3 / 4), (3, 0, 15 / 16), (4, 0, 31 / 32), (2, 1, 11 / 16), (5, 1, 120 / 128)]
)
def test_the_stopping_rule_has_its_known_values(a: int, b: int, value: float) -> None:
    """The closed form equals the tail of the Beta distribution worked out by hand."""
    assert beta_stop(a, b) == pytest.approx(value, abs=1e-15)


@given(st.integers(0, 25), st.integers(0, 25))
def test_the_stopping_rule_is_monotone_and_antisymmetric(a: int, b: int) -> None:
    """More votes for the leader settle it, more for the other unsettle it, and the two sides sum to one."""
    assert beta_stop(a, b) < beta_stop(a + 1, b) or math.isclose(beta_stop(a, b), 1)
    assert beta_stop(a, b + 1) < beta_stop(a, b)
    assert beta_stop(a, b) + beta_stop(b, a) == pytest.approx(1)


def test_agreement_settles_it_in_one_request() -> None:
    """Three further samples are the fewest that can reach 0.95, and where all agree no more are asked."""
    verdict, sampler = run("Answer: 5", ["5", "#### 5", "5.0", "6"])
    assert sampler.sizes == [3]
    assert (verdict.score, verdict.answer) == (1.0, None)
    assert verdict.details == {"share": 1.0, "margin": 1.0, "semantic_entropy": 0.0, "samples": 3, "clusters": 1}


def test_another_answer_with_more_votes_takes_the_place() -> None:
    """The representative is the first member of the largest cluster, and the figures are counted over all votes."""
    verdict, _ = run("9", ["x is\nAnswer: 5", "5", "7", "5", "9", "5", "5", "5"])
    assert verdict.answer == Answer("x is\nAnswer: 5")
    assert verdict.score == verdict.details["share"] == pytest.approx(6 / 9)
    assert verdict.details["margin"] == pytest.approx((6 - 2) / 9)
    shares = (6 / 9, 2 / 9, 1 / 9)
    assert verdict.details["semantic_entropy"] == pytest.approx(-sum(p * math.log(p) for p in shares))
    assert (verdict.details["samples"], verdict.details["clusters"]) == (8, 3)


def test_a_tie_keeps_the_judged_answer() -> None:
    """With as many votes on both sides the judged answer stays; among others the first seen is taken."""
    assert run("1", ["2", "2", "1"], samples=3)[0].answer is None
    assert run("1", ["2", "3", "3", "2"], samples=4)[0].answer == Answer("2")


def test_nothing_to_ask_or_to_be_had_is_no_score() -> None:
    """Without a model, or without a sample from it, the judge has no score."""
    alone = asyncio.run(SelfConsistencyJudge().judge(JudgeInput(prompt=PROMPT, answer=Answer("1"))))
    assert alone.score is None
    verdict, sampler = run("1", [])
    assert (verdict.score, verdict.reason, sampler.sizes) == (None, "no samples", [3])


def test_an_exhausted_recording_ends_the_asking() -> None:
    """Fewer answers than asked for are counted and no further request is made."""
    verdict, sampler = run("1", ["2"])
    assert (verdict.score, sampler.sizes) == (0.5, [3])


def test_a_low_bar_still_asks_once() -> None:
    """The judged answer's own vote never settles it."""
    verdict, sampler = run("1", ["1", "1"], stop_at=0.6)
    assert (verdict.score, sampler.sizes) == (1.0, [1])


def test_empty_answers_vote_but_never_win() -> None:
    """They lower the share of what was said, replace nothing, and alone they give no score."""
    verdict, _ = run("1", ["", " ", "\n"], samples=3)
    assert (verdict.score, verdict.answer, verdict.details["margin"]) == (0.25, None, -0.5)
    assert run("", ["", "", ""], samples=3)[0].score is None
    assert run("", ["4", "4", "4"], samples=3)[0].answer == Answer("4")


def test_tool_calls_are_compared_by_what_they_call() -> None:
    """Ids and the layout of the arguments do not matter, names and values do."""

    def call(id: str, name: str, arguments: str) -> Answer:
        return Answer("", tool_calls=({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}},))

    verdict, _ = run(
        call("1", "f", '{"a":1,"b":2}'), [call("2", "f", '{"b": 2, "a": 1.0}'), call("3", "f", "{}")], samples=2
    )
    assert verdict.score == pytest.approx(2 / 3)
    assert verdict.details["clusters"] == 2


@pytest.mark.parametrize(
    "options",
    [{"samples": 0}, {"samples": True}, {"temperature": 0}, {"temperature": 3.0}, {"equivalence": "x"}, {"stop_at": 0.5}],
)
def test_a_bad_option_is_named(options: dict[str, Any]) -> None:
    """The error says which option is wrong."""
    with pytest.raises(ValueError, match=next(iter(options))):
        SelfConsistencyJudge(**options)


def test_what_the_model_raises_is_passed_on() -> None:
    """A failed request is the engine's business."""

    async def broken(*args: Any, **options: Any) -> Sequence[Answer]:
        raise ConnectionError("down")

    with pytest.raises(ConnectionError):
        asyncio.run(SelfConsistencyJudge().judge(JudgeInput(prompt=PROMPT, answer=Answer("1"), ask=broken)))


@given(st.lists(st.sampled_from("123"), min_size=1, max_size=14), st.integers(1, 12), st.sampled_from([0.6, 0.9, 0.95, 1.0]))
def test_votes_are_counted_and_never_more_are_asked_than_allowed(votes: list[str], samples: int, stop_at: float) -> None:
    """The share is that of the most common answer among the votes, and requests do not exceed ``samples``."""
    verdict, sampler = run(votes[0], votes[1:], samples=samples, stop_at=stop_at)
    assert sum(sampler.sizes) <= samples
    if verdict.score is None:
        assert len(votes) == 1
        return
    sample = votes[: 1 + verdict.details["samples"]]
    assert 0 < verdict.score <= 1
    assert verdict.score == pytest.approx(max(Counter(sample).values()) / len(sample))
    assert verdict.details["clusters"] == len(set(sample))
    chosen = verdict.answer.text if verdict.answer else votes[0]
    assert sample.count(chosen) == max(Counter(sample).values())
