"""Splits: disjoint, covering, stratified by task, the same for the same seed."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.replay.rows.splits import FIT_SHARE, Splits, halves

TASKS = st.lists(st.integers(1, 40), min_size=1, max_size=8).map(
    lambda sizes: [f"t{i}" for i, m in enumerate(sizes) for _ in range(m)]
)


def shuffled(tasks: list[str], seed: int) -> list[str]:
    """The same tasks in another order of rows."""
    return [tasks[i] for i in np.random.default_rng(seed).permutation(len(tasks))]


def parts(splits: Splits) -> list[list[int]]:
    """The rows of fit, certify and test."""
    return [splits.fit.tolist(), splits.certify.tolist(), splits.test.tolist()]


@given(TASKS, st.integers(0, 1000), st.sampled_from([0.2, FIT_SHARE, 0.5]))
def test_every_row_is_in_one_part(tasks: list[str], seed: int, fit_share: float) -> None:
    """Disjoint and covering; half the rows calibrate, to a row, and the share of them that fits is kept to a row."""
    tasks = shuffled([*tasks, *["filler"] * 12], seed)
    splits = halves(tasks, seed, fit_share=fit_share)
    assert sorted(i for part in parts(splits) for i in part) == list(range(len(tasks)))
    assert len(splits.calibration) - len(splits.test) in (0, 1)
    assert abs(len(splits.fit) - fit_share * len(splits.calibration)) < 1
    assert sorted(splits.calibration.tolist()) == sorted(splits.fit.tolist() + splits.certify.tolist())


@given(TASKS, st.integers(0, 1000), st.sampled_from([0.2, FIT_SHARE, 0.5]))
def test_every_task_keeps_its_shares(tasks: list[str], seed: int, fit_share: float) -> None:
    """Of each task half a row more or less than half is tested on; fit and certify are within a row of their due."""
    tasks = shuffled([*tasks, *["filler"] * 12], seed)
    splits = halves(tasks, seed, fit_share=fit_share)
    fit, certify, test = (Counter(tasks[i] for i in part) for part in parts(splits))
    for task, m in Counter(tasks).items():
        assert abs(test[task] - m / 2) <= 0.5
        due = (m - test[task]) * fit_share
        assert abs(fit[task] - due) < 1
        assert abs(certify[task] - (m - test[task] - due)) < 1


@given(TASKS, st.integers(0, 1000))
def test_the_seed_decides(tasks: list[str], seed: int) -> None:
    """The same seed gives the same rows in the same order; another seed gives others."""
    tasks = [*tasks, *["filler"] * 30]
    assert parts(halves(tasks, seed)) == parts(halves(tasks, seed))
    assert parts(halves(tasks, seed)) != parts(halves(tasks, seed + 1))


def test_the_draw_is_fair() -> None:
    """Over many seeds each row calibrates half of the time, and rows of one task fit equally often, whatever their place."""
    tasks = ["a"] * 3 + ["b"] * 10 + ["c"] + ["d"] * 26
    calibrates, fits, draws = np.zeros(len(tasks)), np.zeros(len(tasks)), 1000
    for seed in range(draws):
        splits = halves(tasks, seed)
        calibrates[splits.calibration] += 1
        fits[splits.fit] += 1
    # Five standard errors of one row's share.
    assert np.abs(calibrates / draws - 0.5).max() < 5 * 0.5 / draws**0.5
    for task in set(tasks):
        share = fits[[t == task for t in tasks]] / draws
        assert np.abs(share - share.mean()).max() < 5 * 0.36 / draws**0.5
        assert 0.05 < share.mean() < 0.25


def test_tasks_of_one_row_are_dealt_like_others() -> None:
    """Where every task has one row, the halves and the fit rows are as large as ever."""
    splits = halves([f"t{i}" for i in range(40)], 3)
    assert (len(splits.fit), len(splits.certify), len(splits.test)) == (6, 14, 20)


@given(st.lists(st.sampled_from(["train", "test", None]), max_size=60), st.integers(0, 100))
def test_the_recorded_split_is_kept(given_split: list[str | None], seed: int) -> None:
    """Rows marked train calibrate, rows marked test are tested on, rows with neither are left out."""
    recorded = [*given_split, *["train"] * 8, "test"]
    splits = halves([f"t{i % 3}" for i in range(len(recorded))], seed, recorded=recorded)
    assert sorted(splits.calibration.tolist()) == [i for i, s in enumerate(recorded) if s == "train"]
    assert sorted(splits.test.tolist()) == [i for i, s in enumerate(recorded) if s == "test"]
    assert not set(splits.fit.tolist()) & set(splits.certify.tolist())


@pytest.mark.parametrize(
    ("tasks", "recorded", "part"),
    [
        ([], None, "fit"),
        (["a"], None, "fit"),
        (["a"] * 8, ["train"] * 8, "test"),
        (["a"] * 8, ["test"] * 8, "fit"),
        (["a"] * 3, ["train", "train", "test"], None),
    ],
)
def test_an_empty_part_is_an_error(tasks: list[str], recorded: list[str | None] | None, part: str | None) -> None:
    """The message names the part and the number of rows; the fewest rows that fill all three parts are enough."""
    if part is None:
        assert [len(p) for p in parts(halves(tasks, 0, recorded=recorded))] == [1, 1, 1]
        return
    with pytest.raises(ValueError, match=f"no rows are left to {part} on: {len(tasks)} are too few"):
        halves(tasks, 0, recorded=recorded)


@given(TASKS, st.integers(0, 1000), st.data())
def test_a_group_is_never_parted(tasks: list[str], seed: int, data: st.DataObject) -> None:
    """Rows with the same prompt are in the same part; the parts are disjoint and cover all rows."""
    tasks = shuffled([*tasks, *["filler"] * 30], seed)
    groups = data.draw(st.lists(st.integers(0, 2 * len(tasks)), min_size=len(tasks), max_size=len(tasks)))
    groups[:12] = [f"own {i}" for i in range(12)]  # so that no part is empty
    splits = halves(tasks, seed, groups=groups)
    assert sorted(i for part in parts(splits) for i in part) == list(range(len(tasks)))
    fit, certify, test = ({groups[i] for i in part} for part in parts(splits))
    assert len(fit) + len(certify) + len(test) == len(set(groups))


def test_groups_change_nothing_where_none_repeats() -> None:
    """Rows that all ask something else are dealt out as without groups."""
    tasks = ["a"] * 30 + ["b"] * 20
    assert parts(halves(tasks, 3, groups=list(range(50)))) == parts(halves(tasks, 3))


def test_groups_keep_to_the_recorded_split() -> None:
    """A prompt that the recording has in both halves stays in both; within the calibration half it is not parted."""
    recorded = ["train", "test"] * 20
    groups = [i // 4 for i in range(40)]
    splits = halves(["t"] * 40, 0, recorded=recorded, groups=groups)
    assert {recorded[i] for i in splits.calibration} == {"train"}
    assert sorted(splits.test.tolist()) == [i for i in range(40) if recorded[i] == "test"]
    assert not {groups[i] for i in splits.fit} & {groups[i] for i in splits.certify}
