"""Token log-probabilities: which tokens count, and what stands in where there are none."""

from math import exp, inf, isclose, nan

import pytest
from hypothesis import given
from hypothesis import strategies as st

from judges import Answer, JudgeInput, Prompt, TokenLogprob, Verdict
from judges.logprob import LogprobJudge, own_logprobs


def run(*tokens: tuple[str, float], statistic: str = "mean", mean: float | None = None) -> Verdict:
    logprobs = tuple(TokenLogprob(*t) for t in tokens) if tokens else None
    answer = Answer("x", logprobs=logprobs, mean_logprob=mean)
    return LogprobJudge(statistic=statistic).judge(JudgeInput(prompt=Prompt.of("q"), answer=answer))  # type: ignore[arg-type]


def own(*tokens: str) -> list[int]:
    """The places of the tokens that count."""
    return [round(-p) - 1 for p in own_logprobs([TokenLogprob(t, -i - 1.0) for i, t in enumerate(tokens)])]


def test_mean_and_min() -> None:
    """The score is exp of the mean or of the minimum; details hold both."""
    tokens = ("4", -0.1), ("2", -0.3)
    verdict = run(*tokens)
    assert verdict.score is not None
    assert isclose(verdict.score, exp(-0.2))
    assert dict(verdict.details) == {"mean": pytest.approx(-0.2), "min": -0.3, "tokens": 2}
    assert run(*tokens, statistic="min").score == exp(-0.3)


@pytest.mark.parametrize(
    "end", ["<|im_end|>", "<|endoftext|>", "</s>", "<eos>", "<end_of_turn>", "<|eot_id|>", "<|im_end|>\n"]
)
def test_special_tokens_do_not_count(end: str) -> None:
    """An end-of-sequence token says nothing of the answer, nor does whitespace next to it."""
    assert own("42", end) == [0]
    assert own("42", "\n", end, "\n") == [0]


@pytest.mark.parametrize(
    ("tokens", "counted"),
    [
        (["```", "json", "\n", "{", "}", "\n", "```"], [3, 4]),
        (["```json", "\n", "{", "}", "\n", "```", "<|im_end|>"], [2, 3]),
        (["```", "py", "thon", "\n", "x", "\n", "```\n", "Done"], [4, 7]),
        (["Here", ":\n\n", "```", "\n", "x", "```", "\n\n", "Done", "."], [0, 1, 4, 7, 8]),
        (["```", "json\n", "1", "\n```"], [2]),
        (["a", " ", "b"], [0, 1, 2]),
        (["`", "x", "`"], [0, 1, 2]),
        (["<", "b", ">"], [0, 1, 2]),
    ],
)
def test_fences_do_not_count(tokens: list[str], counted: list[int]) -> None:
    """Fences, the language after an opening one and whitespace next to them do not count; all else does."""
    assert own(*tokens) == counted


def test_mean_stands_in() -> None:
    """Without tokens the given mean is used, for the statistic "mean" only."""
    verdict = run(mean=-0.5)
    assert verdict.score == exp(-0.5)
    assert dict(verdict.details) == {"mean": -0.5}
    assert run(mean=0.001).score == 1.0
    assert run(mean=-inf).score == 0.0
    assert run(mean=-0.5, statistic="min") == Verdict("logprob", reason="the provider gave only the mean log-probability")


@pytest.mark.parametrize("mean", [None, nan])
def test_nothing_given(mean: float | None) -> None:
    """Without log-probabilities there is no score; it is never 0."""
    assert run(mean=mean) == Verdict("logprob", reason="the provider gave no log-probabilities")


def test_nothing_left() -> None:
    """Nothing but special tokens is not a score."""
    verdict = run(("<|im_end|>", -0.1), ("\n", -0.1))
    assert verdict.score is None
    assert "own" in verdict.reason


def test_tokens_without_texts() -> None:
    """Where a recording kept no texts, every token counts, rather than none as if all were white space."""
    assert run(("", -0.2), ("", -0.4)).score == pytest.approx(exp(-0.3))
    assert run(("", -0.2), ("", -0.4), statistic="min").score == exp(-0.4)


def test_strange_numbers() -> None:
    """Minus infinity is 0, not-a-number does not count, slightly above 0 is 0."""
    assert run(("a", -inf), ("b", -0.1)).score == 0.0
    assert run(("a", nan), ("b", -0.5)).score == exp(-0.5)
    assert run(("a", nan)).score is None
    assert run(("a", 1e-6)).score == 1.0


def test_wrong_statistic() -> None:
    """The option is named."""
    with pytest.raises(ValueError, match="statistic must be mean or min"):
        LogprobJudge(statistic="max")  # type: ignore[arg-type]


pieces = st.text(max_size=6) | st.sampled_from(["```", "```json", "\n", "<|im_end|>", "</s>", " ", "json"])


@given(st.lists(st.tuples(pieces, st.floats())), st.sampled_from(["mean", "min"]))
def test_any_tokens(tokens: list[tuple[str, float]], statistic: str) -> None:
    """For anything that a provider sends, the score is in [0, 1] or None."""
    verdict = run(*tokens, statistic=statistic)
    assert verdict.score is None or 0 <= verdict.score <= 1
    assert not verdict.veto
