"""The shipped starter recording agrees with its questions and its grader."""

from evals.grade import grade
from evals.recording import models_of, read
from evals.starter.build import FILE, KINDS, MODELS
from evals.starter.first import questions

EXAMPLES = list(read(FILE))


def test_questions_are_the_shipped_ones() -> None:
    """Ids, prompts, references, schemas and splits are what the generator gives today."""
    keys = ("id", "task", "split", "prompt", "reference")
    assert [tuple(q[k] for k in keys) for q in questions()] == [tuple(getattr(e, k) for k in keys) for e in EXAMPLES]
    assert [q.get("schema") for q in questions()] == [e.schema for e in EXAMPLES]
    assert {e.split for e in EXAMPLES} == {"train", "test"}


def test_every_row_has_three_graded_models() -> None:
    """Each model answered each question, with cost, latency, log-probabilities and five samples."""
    assert models_of(EXAMPLES) == list(MODELS.values())
    for example in EXAMPLES:
        assert list(example.answers) == list(MODELS.values())
        for answer in example.answers.values():
            assert answer["cost_usd"] > 0
            assert answer["sample_cost_usd"] > 0
            assert answer["latency_s"] > 0
            assert len(answer["samples"]) == 5


def test_recorded_qualities_are_what_the_grader_says() -> None:
    """Grading the recorded texts again changes nothing."""
    for example in EXAMPLES:
        for answer in example.answers.values():
            for said in (answer, *answer["samples"]):
                assert said["quality"] == grade(example.reference, said["text"], KINDS[example.task]), example.id


def test_file_is_small() -> None:
    """The package stays small."""
    assert FILE.stat().st_size < 3_000_000
