"""The demo from end to end: a real model in a real server on this machine, asked by the real SDK."""

import asyncio
from collections.abc import Iterator

import pytest

from cascade import Result
from cascade.data import STARTER_RECORDING
from evals.demo import demo
from evals.recording import Example, read

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """A server with the model; skipped where the two packages are not installed."""
    try:
        file = demo.model_file()
    except demo.DemoError as error:
        pytest.skip(str(error))
    with demo.served(file) as base_url:
        yield base_url


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    """One question of each family."""
    every = list(read(STARTER_RECORDING))
    return demo.chosen(every, len({e.task for e in every}), seed=0)


@pytest.fixture(scope="module")
def results(address: str, examples: list[Example]) -> list[Result]:
    """The runs that all tests look at."""
    return asyncio.run(demo.ask(address, examples, demo.Show(colour=False)))


def test_the_cheap_tier_answers_live(results: list[Result]) -> None:
    """Every question is put to the live model first, which answers with text, tokens, log-probabilities and a cost."""
    for result in results:
        live = result.attempts[0]
        assert live.tier == "cheap"
        assert live.error is None
        assert live.answer is not None
        assert live.answer.text
        assert live.answer.logprobs
        assert live.cost_usd is not None
        assert live.cost_usd > 0
        assert live.calls >= 1


def test_the_judges_judge(results: list[Result]) -> None:
    """Each live answer has a score by its log-probability, and by votes of real samples unless a veto came before."""
    for result in results:
        live = result.attempts[0]
        scores = {v.judge: v.score for v in live.verdicts if v.score is not None}
        assert live.vetoed or {"logprob", "self_consistency"} <= set(scores)
        assert all(0.0 <= score <= 1.0 for score in scores.values())


def test_what_is_unsure_goes_to_the_recorded_tiers(results: list[Result]) -> None:
    """Every run ends accepted or with the premium tier, and some leave the cheap one."""
    for result in results:
        assert result.accepted or result.tier == "premium"
        assert result.text
    assert any(len(result.attempts) > 1 for result in results)


def test_the_command(address: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The command with a server of its own shows the tiers, says which of them is recorded, and sums up."""
    assert demo.main(["--questions", "2"]) == 0
    out = capsys.readouterr().out
    for words in ("live", "from the shipped recording", "self_consistency", "of 2 right"):
        assert words in out
