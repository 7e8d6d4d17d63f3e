"""The frontier kernel against direct evaluation: every threshold vector, ties, vetoes, chunks, Parquet, Pareto points."""

import math
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from evals.replay import parquet_tally, threshold_sweep
from evals.replay.parquet_tally import tally_parquet
from evals.replay.threshold_sweep import ACCEPT_NONE, Tally, TierColumns, cut_points, pareto, sweep_surface
from tests.evals.engines.serial_engine import SerialEngine

# Few values, so that ties and empty bins are the rule; several fall between two neighbouring entries of the look-up table.
CLOSE = [0.5, math.nextafter(0.5, 1), 0.5 + 1e-9, 0.5 + 2**-24, math.nextafter(0.5 + 2**-16, 0), 0.5 + 2**-16]
VALUES = [0.0, 5e-324, 0.1, 0.25, *CLOSE, 0.7, math.nextafter(1.0, 0), 1.0]
CONFIDENCE = st.sampled_from([*VALUES, -math.inf])
CUT = st.sampled_from([-1.0, *VALUES, ACCEPT_NONE, 2.0, math.inf])
UNIT = st.sampled_from([0.0, 0.1, 0.3, 1.0]) | st.floats(0, 1)


def routed(row: list[tuple[float, float, float]], thresholds: tuple[float, ...]) -> tuple[float, float, int]:
    """(quality, cost, tier) of one row, tier by tier, as the rule is written."""
    cost = 0.0
    for tier, ((confidence, quality, adds), threshold) in enumerate(zip(row, (*thresholds, -math.inf), strict=True)):
        cost += adds
        last = tier == len(thresholds)
        if last or (confidence > -math.inf and confidence >= threshold):
            return quality, cost, tier
    raise AssertionError


def columns_of(rows: list[list[tuple[float, float, float]]], dtype: type = np.float64) -> list[TierColumns]:
    """The columns of ``rows``, in the given type; the last confidence is NaN since nothing may read it."""
    table = np.array(rows, dtype=dtype)
    table[:, -1, 0] = np.nan
    return [TierColumns(*(table[:, tier, part] for part in range(3))) for tier in range(table.shape[1])]


def random_columns(n: int, tiers: int, seed: int = 0) -> list[TierColumns]:
    """Random float32 columns with a tenth of vetoes."""
    r = np.random.default_rng(seed)
    veto = np.float32(-np.inf)
    confidence = [np.where(r.random(n) < 0.1, veto, r.random(n, dtype=np.float32)) for _ in range(tiers)]
    return [TierColumns(p, r.random(n, dtype=np.float32), r.random(n, dtype=np.float32)) for p in confidence]


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[list[tuple[float, float, float]]], list[list[float]]]:
    """Rows of 1 to 5 tiers, and cuts for all tiers but the last."""
    tiers = draw(st.integers(1, 5))
    row = st.lists(st.tuples(CONFIDENCE, UNIT, UNIT), min_size=tiers, max_size=tiers)
    rows = draw(st.lists(row, min_size=1, max_size=12))
    cuts = [sorted(draw(st.lists(CUT, min_size=1, max_size=9 - tiers))) for _ in range(tiers - 1)]
    return rows, cuts


@settings(deadline=None, max_examples=150)
@given(table=tables(), dtype=st.sampled_from([np.float32, np.float64]))
def test_every_vector_equals_direct_evaluation(table, dtype):
    """Means agree to 1e-12 with routing each row by itself, for 1 to 5 tiers; vectors that route alike agree exactly."""
    rows, cuts = table
    columns = columns_of(rows, dtype)
    exact = [
        [
            (float(np.asarray(r.confidence)[i]), float(np.asarray(r.quality)[i]), float(np.asarray(r.cost)[i]))
            for r in columns
        ]
        for i in range(len(rows))
    ]
    result = sweep_surface(columns, cuts)
    assert result.quality.shape == result.cost.shape == tuple(len(each) for each in cuts)
    assert result.n == len(rows)
    seen: dict[tuple[int, ...], tuple[float, float]] = {}
    for flat, thresholds in enumerate(product(*cuts)):
        assert result.thresholds(flat) == thresholds
        outcomes = [routed(row, thresholds) for row in exact]
        quality, cost = float(result.quality.flat[flat]), float(result.cost.flat[flat])
        assert quality == pytest.approx(math.fsum(q for q, _, _ in outcomes) / len(rows), abs=1e-12)
        assert cost == pytest.approx(math.fsum(c for _, c, _ in outcomes) / len(rows), abs=1e-12)
        assert 0 <= quality <= 1
        assert cost >= 0
        assert seen.setdefault(tuple(tier for _, _, tier in outcomes), (quality, cost)) == (quality, cost)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spread", [1.0, 1e-3, 1e-6])
def test_bins_are_those_of_a_binary_search(dtype, spread):
    """At every cut, its two neighbours, the edges of the look-up table and random places, crowded cuts or not."""
    r = np.random.default_rng(1)
    cuts = np.sort(np.append(1 - spread * r.random(500), [0.0, 0.25, 1.0, ACCEPT_NONE])).astype(dtype).astype(np.float64)
    around = [cuts.astype(dtype), *(np.nextafter(cuts.astype(dtype), dtype(to)) for to in (0, 1))]
    edges = (np.arange(2**17 + 1) / 2**17).astype(dtype)
    places = np.concatenate([*around, edges, np.nextafter(edges, dtype(0)), (1 - spread * r.random(9999)).astype(dtype)])
    places = places[(places >= 0) & (places <= 1)]
    assert np.array_equal(
        threshold_sweep._Bins(cuts)(places), np.searchsorted(cuts, places.astype(np.float64), side="right")
    )
    assert threshold_sweep._Bins(cuts)(np.array([-np.inf], dtype)).tolist() == [0]


@settings(deadline=None, max_examples=60)
@given(table=tables(), data=st.data())
def test_chunks_in_any_order_and_merged_give_the_same_surface(table, data):
    """Rows shuffled, cut into chunks, spread over tallies and merged give the surface of the whole."""
    rows, cuts = table
    whole = sweep_surface(columns_of(rows), cuts)
    shuffled = data.draw(st.permutations(rows))
    tallies = [Tally(cuts), Tally(cuts)]
    while shuffled:
        size = data.draw(st.integers(1, len(shuffled)))
        tallies[data.draw(st.integers(0, 1))].add(columns_of(shuffled[:size]))
        shuffled = shuffled[size:]
    first, second = tallies
    counted = second.n
    first.merge(second)
    merged = first.surface()
    assert merged.n == len(rows)
    assert second.n == counted
    np.testing.assert_allclose(merged.quality, whole.quality, rtol=0, atol=1e-13)
    np.testing.assert_allclose(merged.cost, whole.cost, rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunk", [1, 7, 100, 4999, 5000])
def test_inner_chunks_lose_no_row(monkeypatch, chunk):
    """The means do not depend on the inner chunk size, that is, on how a histogram is filled."""
    columns = random_columns(5000, 3)
    cuts = [np.linspace(0, 1, 21), np.linspace(0, 1, 31)]
    whole = sweep_surface(columns, cuts)
    monkeypatch.setattr(threshold_sweep, "CHUNK", chunk)
    parts = sweep_surface(columns, cuts)
    assert parts.n == 5000
    np.testing.assert_allclose(parts.quality, whole.quality, rtol=0, atol=1e-12)
    np.testing.assert_allclose(parts.cost, whole.cost, rtol=0, atol=1e-12)


def test_means_of_many_rows_are_exact_to_1e_9():
    """On 200,000 rows of float32 with 1,000 cuts a tier, 50 random vectors agree with exactly rounded sums."""
    n = 200_000
    columns = random_columns(n, 3, seed=2)
    p, q, c = (np.array([getattr(r, name) for r in columns], np.float64) for name in ("confidence", "quality", "cost"))
    cuts = [cut_points(p[0], 1000), cut_points(p[1], 1000)]
    result = sweep_surface(columns, cuts)
    for flat in np.random.default_rng(3).integers(0, result.quality.size, 50):
        first, second = result.thresholds(int(flat))
        tier = np.where(p[0] >= first, 0, np.where(p[1] >= second, 1, 2))
        rows = np.arange(n)
        assert result.quality.flat[flat] == pytest.approx(math.fsum(q[tier, rows]) / n, abs=1e-11)
        assert result.cost.flat[flat] == pytest.approx(math.fsum(np.cumsum(c, axis=0)[tier, rows]) / n, abs=1e-11)


def test_one_tier_alone_has_a_surface_of_one_point():
    """Without cuts the means are plain means, and the threshold vector is empty."""
    result = sweep_surface([TierColumns(None, [0.0, 1.0, 0.5], [1, 2, 3])], [])
    assert (float(result.quality), float(result.cost), result.n, result.thresholds(0)) == (0.5, 2.0, 3, ())
    assert pareto(result.quality, result.cost).tolist() == [0]


def test_a_veto_is_never_accepted_and_a_threshold_of_zero_accepts_all_else():
    """At threshold 0 a confidence of 0 is accepted and a veto is not; ACCEPT_NONE refuses even a confidence of 1."""
    columns = [TierColumns([0.0, -np.inf, 1.0], [0, 0, 0], [1, 1, 1]), TierColumns(None, [1, 1, 1], [5, 5, 5])]
    result = sweep_surface(columns, [[0.0, 1.0, ACCEPT_NONE]])
    np.testing.assert_allclose(result.quality, [1 / 3, 2 / 3, 1])
    np.testing.assert_allclose(result.cost, [8 / 3, 13 / 3, 6])


def test_rounding_leaves_no_mean_out_of_range():
    """Where rounding makes sums inexact, the mean is still in [0, 1]."""
    for before, other in np.random.default_rng(5).random((200, 2)) ** 4:
        for last in (0.0, 1.0):
            columns = [
                TierColumns([0.0], [before], [0]),
                TierColumns([0.0], [other], [0]),
                TierColumns(None, [last], [0]),
            ]
            assert 0 <= float(sweep_surface(columns, [[1.0], [1.0]]).quality[0, 0]) <= 1


GOOD = ([0.5, 0.6], [0.0, 1.0], [1.0, 2.0])


@pytest.mark.parametrize(
    ("first", "last", "says"),
    [
        (([0.5, np.nan], *GOOD[1:]), GOOD, "tier 1: confidence must be in"),
        (([0.5, 1.1], *GOOD[1:]), GOOD, "tier 1: confidence must be in"),
        (([0.5, -0.1], *GOOD[1:]), GOOD, "tier 1: confidence must be in"),
        (([-np.inf, -0.1], *GOOD[1:]), GOOD, "or -inf for a veto"),
        (([0.5, np.inf], *GOOD[1:]), GOOD, "tier 1: confidence must be in"),
        ((None, *GOOD[1:]), GOOD, "tier 1: confidence has the shape"),
        (([0.5], *GOOD[1:]), GOOD, r"tier 1: confidence has the shape \(1,\), not \(2,\)"),
        (GOOD, (None, [0.0, np.nan], [1, 1]), r"tier 2: quality must be in \[0, 1\]$"),
        (GOOD, (None, [0.0, 1.5], [1, 1]), "tier 2: quality must be in"),
        (GOOD, (None, [-np.inf, 1], [1, 1]), "tier 2: quality must be in"),
        (GOOD, (None, [0.0, 1], [1, -1]), "tier 2: cost must be finite and >= 0"),
        (GOOD, (None, [0.0, 1], [1, np.inf]), "tier 2: cost must be finite"),
        (GOOD, (None, [0.0, 1], [np.nan, 1]), "tier 2: cost must be finite"),
        (GOOD, (None, [0.0, 1, 1], [1, 1]), "tier 2: quality has the shape"),
        ((GOOD[0], [[0.0, 1.0]], GOOD[2]), GOOD, "tier 1: quality has the shape"),
    ],
)
def test_refused_rows_leave_the_tally_as_it_was(monkeypatch, first, last, says):
    """The error names tier and column, and no earlier chunk of the refused rows has been counted."""
    monkeypatch.setattr(threshold_sweep, "CHUNK", 1)
    tally = Tally([[0.0, 0.55]])
    tally.add([TierColumns(*GOOD), TierColumns(*GOOD)])
    before = tally.surface()
    with pytest.raises(ValueError, match=says):
        tally.add([TierColumns(*first), TierColumns(*last)])
    after = tally.surface()
    assert after.n == before.n == 2
    assert np.array_equal(after.quality, before.quality)
    assert np.array_equal(after.cost, before.cost)


@pytest.mark.parametrize(
    ("cuts", "says"),
    [
        ([[0.5], [0.3, 0.2]], "tier 2: cuts must ascend"),
        ([[0.5, np.nan]], "tier 1: cuts must ascend, without NaN"),
        ([[np.nan]], "without NaN"),
        ([[-np.inf, 0.5]], "without NaN and -inf"),
        ([[]], "at least one threshold"),
        ([0.5], "tier 1: cuts must be one list"),
        ([np.linspace(0, 1, 101)] * 4, "104,060,401 threshold vectors"),
    ],
)
def test_cuts_that_cannot_be_thresholds_are_refused(cuts, says):
    """Wrong cuts, and grids that would fill the memory, are errors that name the tier or the size."""
    with pytest.raises(ValueError, match=says):
        Tally(cuts)


def test_misuse_is_an_error():
    """No rows, a wrong number of tiers, and a merge of other cuts are refused; an empty chunk counts nothing."""
    tally = Tally([[0.5]])
    tally.add([TierColumns([], [], [])] * 2)
    with pytest.raises(ValueError, match="no rows"):
        tally.surface()
    with pytest.raises(ValueError, match="columns of 1 tiers"):
        tally.add([TierColumns(*GOOD)])
    for cuts in ([[0.6]], [[0.5, 0.6]], [[0.5], [0.5]], []):
        with pytest.raises(ValueError, match="same cuts"):
            tally.merge(Tally(cuts))


@settings(deadline=None, max_examples=300)
@given(points=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=40))
@example(points=[(1, 1), (1, 1), (2, 1), (2, 0)])
def test_pareto_equals_brute_force(points):
    """The front is each point that no other dominates, cheapest first, the lowest index for equal points."""
    quality, cost = [q for q, _ in points], [c for _, c in points]
    undominated = [
        i
        for i, (q, c) in enumerate(points)
        if not any(
            (oq >= q and oc <= c and (oq, oc) != (q, c)) or ((oq, oc) == (q, c) and j < i)
            for j, (oq, oc) in enumerate(points)
        )
    ]
    assert pareto(quality, cost).tolist() == sorted(undominated, key=lambda i: cost[i])


def test_pareto_reads_surfaces_and_refuses_nan():
    """Indices are flat in row-major order; NaN and differing shapes are errors, not silently dropped points."""
    assert pareto([[0.9, 0.1], [0.5, 0.4]], [[3.0, 1.0], [2.0, 2.0]]).tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="NaN"):
        pareto([0.5, np.nan], [1, 2])
    with pytest.raises(ValueError, match="NaN"):
        pareto([0.5, 0.5], [1, np.nan])
    with pytest.raises(ValueError, match="shape"):
        pareto([0.5], [[1]])


@settings(deadline=None)
@given(confidence=st.lists(CONFIDENCE | st.floats(0, 1), max_size=60), count=st.integers(2, 30))
def test_cut_points_are_few_ascending_and_tell_apart_what_they_can(confidence, count):
    """At most ``count``, strictly ascending, from 0 to above 1; with room enough every possible split of the rows."""
    cuts = cut_points(confidence, count)
    assert 2 <= cuts.size <= count
    assert cuts[0] == 0
    assert cuts[-1] == ACCEPT_NONE > 1
    assert (np.diff(cuts) > 0).all()
    finite = sorted({p for p in confidence if p >= 0})
    assert set(cuts[1:-1]) <= set(finite)
    if len(finite) <= count - 1:
        splits = {sum(p >= cut for p in confidence) for cut in [0.0, *finite, 2.0]}
        assert splits == {sum(p >= cut for p in confidence) for cut in cuts}


def test_cut_points_are_spread_evenly_over_the_rows():
    """Between two cuts lie equally many of 10,000 differing confidences, and vetoes do not count."""
    confidence = np.append(np.random.default_rng(4).random(10_000) ** 8, np.full(5000, -np.inf))
    cuts = cut_points(confidence, 102)
    held = np.histogram(confidence[confidence >= 0], cuts)[0]
    assert cuts.size == 102
    assert held.min() >= 99
    assert held.max() <= 100
    assert cut_points(confidence.astype(np.float32), 102).dtype == np.float64


@pytest.mark.parametrize(
    ("confidence", "count", "says"), [([0.5], 1, "at least 2"), ([0.5, np.nan], 5, "in"), ([2.0], 5, "in")]
)
def test_cut_points_refuse_what_is_no_confidence(confidence, count, says):
    """Too few points to span the range, and values out of range, are errors."""
    with pytest.raises(ValueError, match=says):
        cut_points(confidence, count)


def test_no_cut_point_is_spent_on_the_lowest_confidence():
    """Where most rows share the lowest value, which accepts the same rows as 0, no quantile repeats it."""
    assert cut_points([0.2] * 90 + [0.3, 0.4, 0.5, 0.6, 0.7] * 20, 5)[1] > 0.2
    assert cut_points([0.2, 0.5], 3).tolist() == [0.0, 0.5, ACCEPT_NONE]


def write(path: Path, columns: dict[str, object], **options: object) -> Path:
    """A Parquet file of the columns."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table(columns), path, **options)
    return path


def test_parquet_is_counted_like_arrays(tmp_path):
    """Several row groups and batches, mixed float types, no last confidence: the surface of the arrays in memory."""
    tiers = random_columns(1000, 3)
    cuts = [[0.0, 0.3, 0.9], [0.1, 0.5]]
    columns = {
        f"{letter}{i}": part
        for i, r in enumerate(tiers, 1)
        for letter, part in zip("pqc", (r.confidence, r.quality, r.cost), strict=True)
    }
    del columns["p3"]
    columns["c2"] = np.asarray(columns["c2"], np.float64)
    path = write(tmp_path / "rows.parquet", {"id": list(range(1000)), **columns}, row_group_size=300)
    whole = sweep_surface(tiers, cuts)
    streamed = tally_parquet(path, cuts, batch_rows=128).surface()
    assert streamed.n == 1000
    np.testing.assert_allclose(streamed.quality, whole.quality, rtol=0, atol=1e-12)
    np.testing.assert_allclose(streamed.cost, whole.cost, rtol=0, atol=1e-12)


@pytest.mark.parametrize("shard_rows", [1, 250, 700, 10_000])
def test_an_engine_counts_the_same_to_the_last_bit(tmp_path, monkeypatch, shard_rows):
    """Shards of whole row groups, in their order; no two have one key."""
    monkeypatch.setattr(parquet_tally, "SHARD_ROWS", shard_rows)
    names = [("p1", "q1", "c1"), ("p2", "q2", "c2")]
    tiers = random_columns(1000, 2)
    columns = {name: part for row, tier in zip(names, tiers, strict=True)
        for name, part in zip(row, (tier.confidence, tier.quality, tier.cost), strict=True) if np.size(part)}  # fmt: skip
    path = write(tmp_path / "rows.parquet", columns, row_group_size=100)
    cuts, engine = [[0.0, 0.3, 0.9]], SerialEngine()
    here, there = (tally_parquet(path, cuts, batch_rows=64, engine=chosen).surface() for chosen in (None, engine))
    assert here.quality.tobytes() == there.quality.tobytes()
    assert here.cost.tobytes() == there.cost.tobytes()
    assert there.n == 1000
    assert len(set(engine.keys)) == len(engine.keys) == {1: 10, 250: 4, 700: 2, 10_000: 1}[shard_rows]


def test_parquet_columns_can_be_named(tmp_path):
    """Names follow the order of the tiers, and one column may serve two tiers."""
    path = write(tmp_path / "rows.parquet", {"sure": [0.2, 0.8], "q": [0.0, 0.5], "best": [1.0, 1.0], "usd": [1.0, 2.0]})
    named = [("sure", "q", "usd"), ("unused", "best", "usd")]
    result = tally_parquet(path, [[0.5]], columns=named).surface()
    assert (result.quality.tolist(), result.cost.tolist()) == ([0.75], [2.0])
    with pytest.raises(ValueError, match="columns of 2 tiers"):
        tally_parquet(path, [[0.5], [0.5]], columns=named)


@pytest.mark.parametrize(
    ("column", "says"),
    [(None, "'q1' is missing"), ([0, 1], "'q1' is int64"), ([0.5, None], "'q1' has nulls"), ([0.5, 7.0], "tier 1: quality")],
)
def test_parquet_columns_that_cannot_be_read_are_named(tmp_path, column, says):
    """A missing column, another type, a null and a number out of range are errors that name what is wrong."""
    columns = {"p1": [0.1, 0.2], "c1": [1.0, 1.0], "q2": [1.0, 1.0], "c2": [1.0, 1.0]} | ({"q1": column} if column else {})
    with pytest.raises(ValueError, match=says):
        tally_parquet(write(tmp_path / "rows.parquet", columns), [[0.5]])


def test_without_pyarrow_the_error_says_what_to_install(monkeypatch):
    """The lazy import fails with the command that helps."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'cascade-gate\[parquet\]'"):
        tally_parquet("rows.parquet", [[0.5]])
