"""The shipped starter recording agrees with its questions, its grader and its data card."""

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean

import pytest

from cascade.data import STARTER_RECORDING
from evals.demo.starter import card
from evals.demo.starter.questions import GRADERS, questions
from evals.grade.command import grade
from evals.recording import Example, models_of, read

README = Path(card.__file__).with_name("README.md")
EXAMPLES = list(read(STARTER_RECORDING))
SMALL, MEDIUM, LARGE = "smollm2-135m-instruct", "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"


def test_questions_are_the_shipped_ones() -> None:
    """Ids, prompts, references, schemas and splits are what the generator gives today."""
    keys = ("id", "task", "split", "prompt", "reference")
    shipped = {e.id: (*(getattr(e, k) for k in keys), e.schema) for e in EXAMPLES}
    assert len(shipped) == len(EXAMPLES)
    assert {q["id"]: (*(q[k] for k in keys), q.get("schema")) for q in questions()} == shipped


def test_every_row_has_three_graded_models() -> None:
    """Each model answered each question, with cost, latency, log-probabilities, eight samples and a verifier's P(True)."""
    assert models_of(EXAMPLES) == [SMALL, MEDIUM, LARGE]
    for example in EXAMPLES:
        assert list(example.answers) == [SMALL, MEDIUM, LARGE]
        for answer in example.answers.values():
            assert answer["cost_usd"] > 0
            assert answer["latency_s"] > 0
            assert all(math.isfinite(p) and p <= 0 for p in answer["token_logprobs"])
            assert len(answer["samples"]) == 8
            assert answer["sample_cost_usd"] > 0
            assert 0 <= answer["verdicts"]["verifier"] <= 1
            assert answer["verdict_cost_usd"]["verifier"] > 0


def test_the_models_are_a_ladder() -> None:
    """The cheapest is right on at most 55 % of the questions, the most expensive on at least 80 %; costs rise."""
    models = (SMALL, MEDIUM, LARGE)
    quality, cost = ([fmean(e.answers[m][k] for e in EXAMPLES) for m in models] for k in ("quality", "cost_usd"))
    assert quality == sorted(quality)
    assert quality[0] <= 0.55
    assert quality[-1] >= 0.8
    assert cost == sorted(cost)


def test_recorded_qualities_are_what_the_grader_says() -> None:
    """Grading the recorded texts again changes nothing."""
    for example in EXAMPLES:
        for answer in example.answers.values():
            for sample in (answer, *answer["samples"]):
                assert sample["quality"] == grade(example.reference, sample["text"], GRADERS[example.task]), example.id


def test_file_is_small() -> None:
    """The package stays small."""
    assert STARTER_RECORDING.stat().st_size < 3_000_000


TABLES = (card.quality, card.signals, card.cost)


@cache
def figures(table: Callable[[Sequence[Example]], str]) -> str:
    """A table of the data card, of the shipped file."""
    return table(EXAMPLES)


@pytest.mark.parametrize("table", TABLES)
def test_the_card_states_the_recordings_figures(table: Callable[[Sequence[Example]], str]) -> None:
    """The tables of the data card are what the file gives."""
    assert figures(table) in README.read_text(encoding="utf-8")


def test_the_card_prints_its_tables(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The command prints all of them, of the shipped file; they are computed once here."""

    def computed(table: Callable[[Sequence[Example]], str]) -> Callable[[Sequence[Example]], str]:
        def print_shipped(examples: Sequence[Example]) -> str:
            assert examples == EXAMPLES
            return figures(table)

        return print_shipped

    for table in TABLES:
        monkeypatch.setattr(card, table.__name__, computed(table))
    assert card.main() == 0
    assert capsys.readouterr().out.strip() == "\n\n".join(map(figures, TABLES))
