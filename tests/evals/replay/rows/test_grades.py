"""Rows that are graded because the tiers agree are no sample of the rows that every tier answered."""

import numpy as np
import pytest

from evals.recording import Example
from evals.replay.rows.grades import check_grades
from evals.replay.rows.input_rows import ReplayError

TIERS = ("cheap", "dear")


def row(i: int, alike: bool, graded: bool, **raw: object) -> Example:
    """A row whose tiers say the same or not."""
    answers = {
        "cheap": {"text": "a", "quality": 1.0},
        "dear": {"text": "a " if alike else "b", "quality": 1.0 if graded else None},
    }
    return Example(f"r{i}", f"question {i}", answers, raw=raw)


@pytest.mark.parametrize("graded_where_alike", [True, False])
def test_grades_that_go_with_agreement_are_refused(graded_where_alike: bool) -> None:
    """In either direction, with the figures and the remedy."""
    rows = [row(i, i % 3 > 0, (i % 3 > 0) == graded_where_alike) for i in range(60)]
    with pytest.raises(ReplayError, match=r"of the 60 rows .* not graded.* same answer in \d+ % .*cascade grade"):
        check_grades(rows, TIERS)


def test_all_graded_none_graded_or_few_rows_are_not_refused() -> None:
    """Nor where there is only one tier."""
    for rows in (
        [row(i, i % 2 == 0, True) for i in range(50)],
        [row(i, i % 2 == 0, False) for i in range(50)],
        [row(i, i % 2 == 0, i % 2 == 0) for i in range(6)],
    ):
        check_grades(rows, TIERS)
    check_grades([row(i, i % 2 == 0, i % 2 == 0) for i in range(50)], ("dear",))


def test_where_rows_were_drawn_only_those_count() -> None:
    """Others are not used, whatever their grades."""
    sample = [row(i, i % 2 == 0, True, sampling_probability=0.5) for i in range(30)]
    check_grades([*sample, *(row(i, i % 2 == 0, i % 2 == 0) for i in range(30, 90))], TIERS)


def test_drawn_rows_without_a_grade_are_named_before_the_others() -> None:
    """The others are no sample, whatever their grades; grading the drawn ones is the remedy."""
    sample = [row(i, False, False, sampling_probability=0.5) for i in range(9)]
    with pytest.raises(ReplayError, match=r"none of the 9 rows that were drawn at random is graded .* cascade grade"):
        check_grades([*sample, *(row(i, True, True, escalated=True) for i in range(10, 40))], TIERS)


def test_rows_graded_at_random_are_hardly_ever_refused() -> None:
    """At most one in a thousand draws, within chance."""
    rng, refused = np.random.default_rng(2), 0
    for _ in range(1000):
        alike, graded = rng.random(80) < 0.6, rng.random(80) < 0.5
        try:
            check_grades([row(i, bool(a), bool(g)) for i, (a, g) in enumerate(zip(alike, graded, strict=True))], TIERS)
        except ReplayError:
            refused += 1
    assert refused <= 5
