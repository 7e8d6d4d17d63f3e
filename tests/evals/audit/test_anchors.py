"""Anchors in the commands: first grades are the baseline, an alarm waits for them, and a changed judge holds it back."""

import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.journal.anchors import AnchorBook
from cascade.journal.open_store import open_store
from cascade.journal.promises import PromiseBook
from cascade.promise.states import Promise, PromiseState
from cascade.shadow.promise_monitor import in_words
from evals.audit.grade_shadows import main
from evals.audit.grading.anchors import read_anchors
from tests.evals.audit.journals import POLICY, fill

PROMISE = Promise(max_loss=0.05)


def grade(reference: Any, text: str) -> float:
    """A judge that is harsh to the answer "a" once a file is there."""
    return 0.0 if Path(os.environ["HARSH_JUDGE"]).is_file() and text == "a" else 1.0


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    """Sixty pairs in which people find no loss."""
    path = tmp_path / "anchors.jsonl"
    rows = [
        {"id": f"a{i}", "prompt": f"question {i}", "returned": "a", "premium": "b", "human": 0.0, "reference": "b"}
        for i in range(60)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def journal(tmp_path: Path) -> str:
    """A journal whose labels break the promise."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    fill(url, np.random.default_rng(1), now=time.time() - 60.0, loss=0.6)
    return url


def run(tmp_path: Path, journal: str, anchors: Path, *more: str) -> int:
    """One `cascade grade-shadows` with the judge above."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HARSH_JUDGE", str(tmp_path / "harsh"))
        grader = f"python:{grade.__module__}:grade"
        return main(["--grader", grader, "--journal", journal, "--anchors", str(anchors), *more])


def look(journal: str) -> Any:
    """Takes the labels into account, as a process in service does."""
    book = PromiseBook(partial(open_store, journal, full=False))
    update = book.update("default", POLICY.hash, PROMISE, 0.5)
    book.close()
    return update


def test_without_anchors_an_alarm_comes_at_once(journal: str) -> None:
    """As before."""
    assert look(journal).state is PromiseState.BROKEN


def test_an_alarm_waits_for_the_anchors_and_comes_where_the_judge_is_the_same(
    tmp_path: Path, journal: str, anchors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In doubt until every anchor was graded again; then broken, and it stays so."""
    assert run(tmp_path, journal, anchors) == 0
    update = look(journal)
    assert update.state is PromiseState.IN_DOUBT
    assert "anchors are graded first" in in_words(update)
    assert run(tmp_path, journal, anchors) == 0
    assert "the judge is not shown to have changed" in capsys.readouterr().out
    assert look(journal).state is PromiseState.BROKEN
    assert look(journal).state is PromiseState.BROKEN


def test_a_changed_judge_holds_the_alarm_back(
    tmp_path: Path, journal: str, anchors: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is called what it is, for as long as the judge stays changed; a new baseline ends that."""
    assert run(tmp_path, journal, anchors) == 0
    assert look(journal).state is PromiseState.IN_DOUBT
    (tmp_path / "harsh").touch()
    assert run(tmp_path, journal, anchors) == 0
    assert "anchors: the judge changed; it finds +0.7500 more loss" in capsys.readouterr().out
    update = look(journal)
    assert update.state is PromiseState.IN_DOUBT
    assert "its alarm is held back: the judge changed, as the anchors show" in in_words(update)
    assert run(tmp_path, journal, anchors, "--new-judge") == 0
    assert run(tmp_path, journal, anchors) == 0
    assert look(journal).state is PromiseState.BROKEN


def test_a_few_anchors_are_graded_while_all_is_well(tmp_path: Path, anchors: Path) -> None:
    """All of them three times at first, then --anchor-grades at a time."""
    journal = f"sqlite:///{tmp_path / 'j.db'}"
    fill(journal, np.random.default_rng(1), now=time.time() - 60.0, n=20)
    counts = []
    book = AnchorBook(partial(open_store, journal, full=False))
    for _ in range(2):
        assert run(tmp_path, journal, anchors, "--anchor-grades", "7") == 0
        counts.append(book.tracker().n)
    book.close()
    assert counts == [7, 14]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "x"}', "needs id, prompt, returned, premium and human"),
        ('{"id": "x", "prompt": "q", "returned": "a", "premium": "b", "human": 3}', "human: the loss lies in"),
        ("", "holds no anchors"),
    ],
)
def test_a_wrong_file_is_refused(tmp_path: Path, line: str, message: str) -> None:
    """With its line."""
    path = tmp_path / "anchors.jsonl"
    path.write_text(line, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        read_anchors(str(path))
