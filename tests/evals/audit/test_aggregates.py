"""The database's sums are those of the records: in SQLite, Postgres and Parquet, and in an earlier cascade's journal."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.errors import JournalError
from cascade.journal.open_store import open_store
from cascade.journal.read.export import export
from cascade.journal.record import Record
from cascade.journal.store import Filter, SqlStore
from evals.audit import aggregates, parquet_shards
from evals.audit.aggregates import Period, traffic
from evals.audit.audit import main
from evals.audit.parquet_shards import row_ranges
from evals.audit.parquet_store import ParquetStore
from tests.cascade.journal.conftest import postgres_url, url
from tests.evals.engines.serial_engine import SerialEngine

from . import by_record
from .journals import DAY, fill
from .test_audit import setup

__all__ = ["postgres_url", "url"]

pytest.importorskip("duckdb")
NOW = 1_800_000_000.0
TASKS = ("chat", "code", "Größe 'x'")


def plant(record: Record, rng: np.random.Generator) -> Record:
    """Some runs fail, some have no task, some skipped their first tier."""
    draw = rng.random()
    if draw < 0.05:
        return record._replace(tier=None, reason="provider_failure", accepted=False, confidence=None)
    if draw < 0.1:
        return record._replace(tags={"key": "team-b"})
    if draw < 0.15 and record.attempts:
        first = {**record.attempts[0], "reason": "skipped", "answered": False}
        del first["answer"]
        return record._replace(attempts=[first, *record.attempts[1:]])
    return record


def fill_in(address: str) -> None:
    """600 runs of two days, half of them sampled."""
    fill(address, np.random.default_rng(3), n=600, now=NOW, loss=0.2, tasks=TASKS, stopped=0.1, unpriced=0.1, plant=plant)


def period(store: SqlStore) -> aggregates.Period:
    """The last of the two days."""
    return aggregates.Period(store=store, since=NOW - 86_400.0, until=NOW)


def as_data(period: aggregates.Period) -> dict[str, Any]:
    """All sums as plain data."""
    _, traffic = aggregates.traffic(period)
    qualities = aggregates.qualities(period, traffic.total.runs)
    return {"traffic": traffic.to_json(), "quality": {name: one.to_json() for name, one in qualities.items()}}


def assert_same(value: Any, other: Any) -> None:
    """Equal but for rounding: a database adds in another order."""
    if isinstance(value, dict):
        assert value.keys() == other.keys()
        for name in value:
            assert_same(value[name], other[name])
    elif isinstance(value, list | tuple):
        assert len(value) == len(other)
        for one, another in zip(value, other, strict=True):
            assert_same(one, another)
    else:
        assert value == (pytest.approx(other, rel=1e-9, abs=1e-9) if isinstance(value, float) else other)


def expected(store: SqlStore) -> dict[str, Any]:
    """The same from the records, one after another."""
    records = list(store.read(Filter(since=NOW - 86_400.0, until=NOW)))
    labels = dict(store.execute("SELECT run_id, loss FROM cascade_labels WHERE state = 'done'"))
    qualities = by_record.qualities(records, labels, "premium")
    traffic = by_record.traffic(records)
    assert traffic.total.runs > 250
    assert min(traffic.total.failed, traffic.total.unpriced) > 0
    return {"traffic": traffic.to_json(), "quality": {name: one.to_json() for name, one in qualities.items()}}


def test_the_database_adds_up_what_the_records_say(url: str) -> None:
    """In SQLite and in Postgres, every count, sum, interval and costly acceptance."""
    fill_in(url)
    store = open_store(url)
    assert_same(as_data(period(store)), expected(store))
    store.close()


def test_rows_of_an_earlier_cascade_count_the_same(url: str) -> None:
    """Their columns are missing: they are added, empty, and the body is read in their place."""
    fill_in(url)
    store = open_store(url)
    for name in ("tiers_asked", "sampling_probability"):
        store.execute(f"ALTER TABLE cascade_runs DROP COLUMN {name}")
    store.close()
    store = open_store(url, create=False)
    assert store.execute("SELECT COUNT(*) FROM cascade_runs WHERE tiers_asked IS NOT NULL") == [(0,)]
    assert_same(as_data(period(store)), expected(store))
    store.close()


def test_parquet_files_say_the_same(tmp_path: Path) -> None:
    """Exported in two files, read by a pattern."""
    address = f"sqlite:///{tmp_path / 'journal.db'}"
    fill_in(address)
    store = open_store(address)
    middle = NOW - 40_000.0
    for i, selection in enumerate((Filter(until=middle), Filter(since=middle))):
        export(store.read(selection), "parquet", str(tmp_path / f"{i}.parquet"), store=store)
    files = ParquetStore(str(tmp_path / "*.parquet"))
    assert_same(as_data(period(files)), expected(store))
    assert files.find("0" * 32) is None
    files.close()
    store.close()


def test_a_sample_of_the_runs_gives_the_same_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All runs that were sampled are among those that are read; the estimate agrees within its error."""
    address = f"sqlite:///{tmp_path / 'journal.db'}"
    fill(address, np.random.default_rng(4), n=2_000, now=NOW, loss=0.2)
    store = open_store(address)
    whole = aggregates.Period(store=store, since=NOW - 200_000.0, until=NOW)
    everything = aggregates.qualities(whole, 2_000)["default"]
    monkeypatch.setattr(aggregates, "MOST_RUNS", 1_200)
    part = aggregates.qualities(whole, 2_000)["default"]
    store.close()
    assert part.share_read == 0.6
    assert 1_100 < len(part.losses) < 1_300
    assert (part.sampled, part.labels) == (everything.sampled, everything.labels)
    one, other = everything.loss(), part.loss()
    assert one is not None
    assert other is not None
    assert other.mean == pytest.approx(one.mean, abs=2.0 * one.standard_error)
    assert other.upper - other.lower == pytest.approx(one.upper - one.lower, rel=0.2)


def test_the_command_audits_parquet_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its output is that of the journal, the state of the promise included; --propose needs the journal."""
    file = setup(tmp_path, loss=0.0)
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    export(store.read(Filter()), "parquet", str(tmp_path / "runs.parquet"), store=store)
    store.close()
    command = ["--policy-file", str(file), "--since", "7d"]
    assert main(command) == 0
    from_journal = capsys.readouterr().out
    assert main([*command, "--parquet", str(tmp_path / "runs.parquet")]) == 0
    assert capsys.readouterr().out == from_journal
    assert "the promise of a mean loss" in from_journal
    assert main([*command, "--parquet", str(tmp_path / "runs.parquet"), "--propose", str(tmp_path), "--grader", "text"]) == 2
    assert "--propose reads the journal" in capsys.readouterr().err


def test_files_that_are_no_export_are_refused(tmp_path: Path) -> None:
    """None, something else, and an export that lacks what an audit adds up."""
    with pytest.raises(JournalError, match="no such file"):
        ParquetStore(str(tmp_path / "none.parquet"))
    (tmp_path / "text.parquet").write_text("no", encoding="utf-8")
    with pytest.raises(JournalError, match="cannot be read"):
        ParquetStore(str(tmp_path / "text.parquet"))
    pq, pa = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    pq.write_table(pa.table({"run_id": ["a"]}), tmp_path / "old.parquet")
    with pytest.raises(JournalError, match=r"has no column .*tiers_asked.*export it again"):
        ParquetStore(str(tmp_path / "old.parquet"))


def test_groups_are_added_field_by_field() -> None:
    """A field that ``Group.add`` forgot would stay zero."""
    one = dataclasses.replace(by_record.Group(), **{f.name: 2 for f in dataclasses.fields(by_record.Group)})
    one.add(one)
    assert set(dataclasses.asdict(one).values()) == {4}


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The pattern of two Parquet files of several row groups each, in shards of two of them."""
    pq = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("duckdb")
    monkeypatch.setattr(parquet_shards, "SHARD_ROWS", 300)
    for i in (1, 2):
        url = f"sqlite:///{tmp_path / f'{i}.db'}"
        fill(url, np.random.default_rng(i), n=1_000, now=NOW, stopped=0.1, unpriced=0.1)
        store = open_store(url)
        export(store.read(Filter()), "parquet", str(tmp_path / "whole.parquet"), store=store)
        store.close()
        (tmp_path / "files").mkdir(exist_ok=True)
        table = pq.read_table(tmp_path / "whole.parquet")
        pq.write_table(table, tmp_path / "files" / f"{i}.parquet", row_group_size=150)
    return str(tmp_path / "files" / "*.parquet")


def test_parquet_files_are_added_up_in_shards(exported: str, tmp_path: Path) -> None:
    """By an engine's workers as by this process, to the last bit; each shard holds whole row groups, and each row once."""
    store, engine = ParquetStore(exported), SerialEngine()
    period = Period(store=store, since=NOW - 2 * DAY, until=NOW)
    shards = list(row_ranges(store._connection, store._files))
    assert [(shard.number, shard.first, shard.end) for shard in shards if shard.number] == [
        (1, first, min(first + 300, 1_000)) for first in range(0, 1_000, 300)
    ]
    one, many = (traffic(period, NOW - DAY, chosen) for chosen in (None, engine))
    assert engine.keys == [shard.key for shard in shards]
    assert len(set(engine.keys)) == 8
    assert json.dumps([part.to_json() for part in one]) == json.dumps([part.to_json() for part in many])
    assert one[0].total.runs + one[1].total.runs == 2_000
    _, whole = traffic(period)
    sums = store.execute("SELECT COUNT(*), SUM(cost_usd) FROM journal_rows WHERE kind = 'run'")[0]
    assert (whole.total.runs, whole.total.usd) == (sums[0], pytest.approx(sums[1]))
    store.close()
