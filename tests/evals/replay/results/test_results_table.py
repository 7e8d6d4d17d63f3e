"""The figures of one way of answering, and the table that shows them."""

import json
from dataclasses import replace
from math import ceil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.replay.results.table import ResultRow, as_json, render, result_row
from evals.replay.results.verdict import verdict

NAN = float("nan")


def make_row(
    quality: list[float], usd: list[float], seconds: list[float], by: list[str], premium_usd: float = 2.0
) -> ResultRow:
    """A line against a premium tier that is always right."""
    return result_row(
        name="name",
        kind="cascade",
        quality=np.array(quality, dtype=float),
        usd=np.array(usd, dtype=float),
        seconds=np.array(seconds, dtype=float),
        answered_by=by,
        premium_quality=np.ones(len(quality)),
        premium_usd=premium_usd,
        interval=(-0.5, 0.1),
        note="why",
    )


def test_a_line_holds_the_means() -> None:
    """Quality, cost, its ratio to the premium tier's, latency, shares, and the difference to the premium quality."""
    row = make_row([1.0, 0.0, 0.5, 0.5], [1.0, 1.0, 2.0, 0.0], [1.0, 2.0, 3.0, 4.0], ["a", "b", "a", "a"])
    assert row == ResultRow(
        name="name",
        kind="cascade",
        quality=0.5,
        usd_per_1000=1000.0,
        relative_cost=0.5,
        mean_s=2.5,
        p95_s=4.0,
        shares={"a": 0.75, "b": 0.25},
        difference=-0.5,
        interval=(-0.5, 0.1),
        note="why",
    )


@settings(deadline=None, max_examples=50)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_p95_is_a_latency_that_occurred(seconds: list[float]) -> None:
    """The nearest rank: at least 95 % of the rows were that fast, and one rank less would not do."""
    p95 = make_row([1.0] * len(seconds), [1.0] * len(seconds), seconds, ["a"] * len(seconds)).p95_s
    assert p95 == sorted(seconds)[ceil(95 * len(seconds) / 100) - 1]
    assert sum(s <= p95 for s in seconds) >= 0.95 * len(seconds)


def test_p95_of_twenty_is_the_nineteenth() -> None:
    """Where 95 % is a whole number of rows, that one and not the next."""
    assert make_row([1.0] * 20, [1.0] * 20, [float(i) for i in range(1, 21)], ["a"] * 20).p95_s == 19.0


def test_unknown_is_none_and_never_zero() -> None:
    """One row of unknown cost or latency makes the mean unknown; a free premium tier makes the ratio so."""
    row = make_row([1.0, 1.0], [1.0, NAN], [1.0, NAN], ["a", "a"])
    assert (row.usd_per_1000, row.relative_cost, row.mean_s, row.p95_s) == (None, None, None, None)
    free = make_row([1.0], [0.0], [0.0], ["a"], premium_usd=0.0)
    assert (free.usd_per_1000, free.relative_cost, free.mean_s) == (0.0, None, 0.0)


def test_json_is_plain_and_complete() -> None:
    """Every field, lists for tuples, no NaN, and the same after a round trip."""
    data = as_json(make_row([1.0], [NAN], [NAN], ["a"]))
    assert set(data) == set(ResultRow.__slots__)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["shares"] == {"a": 1.0}
    assert data["interval"] == [-0.5, 0.1]


def test_the_table_is_aligned_and_shows_every_figure() -> None:
    """Each row is one line as wide as the heading; shares are under their tiers, and unknown values are a dash."""
    lines = [make_row([1.0, 0.5], [1.0, 0.5], [1.0, 2.0], ["a", "b"]), make_row([0.0], [NAN], [NAN], ["b"])]
    text = render(lines, ["a", "b"], full=True)
    rows = text.split("\n")
    assert len(rows) == 3
    assert len({len(row) for row in rows}) == 1
    assert all(head in rows[0] for head in ("quality", "vs premium", "95 % interval", "USD/1000", "cost", "by a", "by b"))
    assert " ".join(rows[1].split()) == "name 0.750 -0.250 [-0.500, +0.100] 750 38 % 1.50 2.00 50 % 50 %"
    assert " ".join(rows[2].split()) == "name 0.000 -1.000 [-0.500, +0.100] unknown — — — — 100 %"


@pytest.mark.parametrize("tiers", [[], ["a"], ["a tier with a long name", "b"]])
def test_heads_may_be_wider_than_figures(tiers: list[str]) -> None:
    """Any tiers can have a column, also those that answered nothing."""
    rows = render([make_row([1.0], [1.0], [1.0], ["b"])], tiers, full=True).split("\n")
    assert len(rows[0]) == len(rows[1])
    assert rows[0].count("by ") == len(tiers)


@pytest.mark.parametrize("name", ["a", "qwen2.5-coder-1.5b-instruct", "x" * 300])
def test_the_table_fits_a_terminal(name: str) -> None:
    """Without ``full`` it has at most 100 columns, however long a name is; a shortened name keeps both ends."""
    row = replace(make_row([1.0], [1.0], [1.0], ["b"]), name=name, usd_per_1000=123456.7, relative_cost=99.99)
    text = render([row], ["b" * 200])
    assert max(map(len, text.split("\n"))) <= 100
    assert name[:10] in text
    assert name[-10:] in text


def test_a_loss_of_nothing_has_no_sign() -> None:
    """Not "-0.0 points", whichever of two equal qualities was subtracted from the other."""
    for zero in (0.0, -0.0, 1e-5, -1e-5):
        chosen = {
            "tiers": ["small", "large"], "cost_ratio": 0.3, "usd_per_1000": 0.3, "premium_usd_per_1000": 1.0,
            "judging_usd_per_1000": 0.0, "quality_difference": zero, "interval": [-zero, zero],
        }  # fmt: skip
        data = {
            "chosen": chosen, "certificate": {"certified": True, "words": "Shown."}, "tiers": ["small", "large"],
            "test": {"n": 9},
        }  # fmt: skip
        assert verdict(data)[1] == "loses  0.0 points of quality against large (95 % interval 0.0 to 0.0), on 9 test rows"
