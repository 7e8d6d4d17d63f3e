"""Refusals by words, measured on labelled sentences in thirteen languages."""

import json
import time
from collections import defaultdict
from pathlib import Path

import pytest

from judges import Answer, JudgeInput, Prompt, make
from judges.reading import is_refusal

LABELLED = [json.loads(line) for line in (Path(__file__).parents[1] / "refusals.jsonl").read_text("utf-8").splitlines()]


def measured(rows: list[dict[str, object]]) -> tuple[float, float]:
    """Precision and recall."""
    hits = [(bool(row["refusal"]), is_refusal(str(row["text"]))) for row in rows]
    true = hits.count((True, True))
    return true / max(1, true + hits.count((False, True))), true / max(1, true + hits.count((True, False)))


def test_the_set_is_large_and_balanced() -> None:
    """At least 300 sentences, in thirteen languages, with and without a refusal."""
    assert len(LABELLED) >= 300
    kinds = defaultdict(set)
    for row in LABELLED:
        kinds[row["language"]].add(row["refusal"])
    assert len(kinds) == 13
    assert all(labels == {True, False} for labels in kinds.values())


HELD_OUT = [
    json.loads(line) for line in (Path(__file__).parents[1] / "refusals_held_out.jsonl").read_text("utf-8").splitlines()
]


def test_sentences_that_the_patterns_were_not_written_with() -> None:
    """The documentation states these figures: at least 300 sentences that no pattern was changed for.

    A pattern that is added for one of them takes it out of this set; new ones have to be written.
    """
    assert len(HELD_OUT) == 319
    assert len({row["language"] for row in HELD_OUT}) == 13
    assert {row["text"] for row in HELD_OUT}.isdisjoint(row["text"] for row in LABELLED)
    precision, recall = measured(HELD_OUT)
    page = (Path(__file__).parents[3] / "docs/reference/policy.md").read_text(encoding="utf-8")
    assert f"precision {precision:.2f}" in page
    assert f"recall {recall:.2f}" in page


def test_precision_and_recall() -> None:
    """Over all languages nearly every refusal is found, and nearly nothing else."""
    precision, recall = measured(LABELLED)
    assert precision >= 0.98
    assert recall >= 0.95


@pytest.mark.parametrize("language", sorted({row["language"] for row in LABELLED}))
def test_each_language(language: str) -> None:
    """No language is left behind."""
    precision, recall = measured([row for row in LABELLED if row["language"] == language])
    assert precision >= 0.9
    assert recall >= 0.8


@pytest.mark.parametrize(
    "text",
    [
        "Sorry, I can't come to the party on Saturday.",
        "I cannot help but admire her",
        "I won't support this bill",
        "I can't provide enough praise",
        "I can't see why not: 42",
    ],
)
def test_translations_and_idioms_pass(text: str) -> None:
    """What declines something else than the request is an answer."""
    verdict = make("rules").judge(JudgeInput(prompt=Prompt.of("Translate"), answer=Answer(text, finish_reason="stop")))
    assert not verdict.veto, verdict.reason


def test_a_provider_s_refusal_is_one_in_any_language() -> None:
    """Its field needs no words."""
    verdict = make("rules").judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer("Nei takk.", refusal="Nei takk.")))
    assert verdict.reason == "refusal: the provider marked the answer as a refusal"


def test_an_unknown_finish_reason_is_not_complete() -> None:
    """A word that nobody knows may mean that the answer was cut."""
    verdict = make("rules").judge(JudgeInput(prompt=Prompt.of("q"), answer=Answer("42", finish_reason="brand_new")))
    assert verdict.reason == "truncated: the finish reason 'brand_new' is unknown"


def test_hostile_text() -> None:
    """Only the beginning of a text is read, in bounded time."""
    began = time.process_time()
    for piece in ("sorry ", "i can't ", "no puedo ", "ich kann ", "मैं ", "я не могу ", "as an ai "):
        is_refusal(piece * 180)
    assert time.process_time() - began < 1
