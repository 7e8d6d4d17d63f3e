"""The commands on Ray itself: two workers on this machine, killed and not."""

import json
import os
from pathlib import Path

import pytest

from cascade.journal.open_store import open_store
from cascade.journal.read.export import export
from cascade.journal.store import Filter
from evals.audit import parquet_shards
from evals.audit.audit import main as audit
from evals.engines import EngineError
from evals.engines.protocol import Engine
from evals.grade.command import main as grade
from evals.replay.command import main as replay
from tests.evals.audit.test_audit import setup
from tests.evals.engines import work
from tests.evals.engines.killer import Killer
from tests.evals.engines.rows import write_rows

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore::ResourceWarning")]


def test_outputs_are_in_order_and_errors_are_their_own(engine: Engine) -> None:
    """Slow shards first; the first error in the order of the shards is raised as it is, without Ray's traceback."""
    shards = [work.Number(number=n) for n in range(20)]
    assert list(engine.map(work.square_slowly, 0.1, shards)) == [n * n for n in range(20)]
    with pytest.raises(work.OddError, match=r"^1 is odd$"):
        list(engine.map(work.halve, None, shards))


def test_workers_have_the_command_s_priority(engine: Engine) -> None:
    """Ray's own default is nice 15, which beside any other work on the machine leaves them a thirtieth of a core."""
    assert list(engine.map(work.niceness, None, [work.Number(number=1)])) == [os.nice(0)]


def test_a_killed_worker_s_shard_is_worked_on_again(engine: Engine, tmp_path: Path) -> None:
    """Three kills of the process that works on the shard, then it goes through."""
    shards = [work.Number(number=n) for n in range(4)]
    assert list(engine.map(work.die_three_times, str(tmp_path), shards)) == [0, 1, 2, 3]
    assert len(list(tmp_path.iterdir())) == 4  # three deaths, and the run after them


def test_a_shard_that_kills_every_worker_is_one_line(engine: Engine) -> None:
    """It ends instead of going on for ever."""
    with pytest.raises(EngineError, match="no worker finished the shard") as caught:
        list(engine.map(work.die, None, [work.Number(number=1)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_graded_recordings_are_the_same_bytes(engine: Engine, tmp_path: Path, suffix: str) -> None:
    """By two workers as by this process alone."""
    from evals.recording import read, write

    source = tmp_path / f"source{suffix}"
    write(source, read(write_rows(tmp_path / "rows.jsonl", 5_000)))
    outs = [tmp_path / f"{name}{suffix}" for name in ("one", "two")]
    for out, chosen in zip(outs, (None, engine), strict=True):
        assert grade([str(source), "--out", str(out), "--regrade", "--grader", "text"], engine=chosen) == 0
    assert outs[0].read_bytes() == outs[1].read_bytes()


def test_an_audit_of_parquet_files_is_the_same_bytes(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Added up in shards of row groups by two workers as by this process alone."""
    pytest.importorskip("duckdb")
    pq = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(parquet_shards, "SHARD_ROWS", 100)
    file = setup(tmp_path, loss=0.0)
    store = open_store(f"sqlite:///{tmp_path / 'journal.db'}")
    export(store.read(Filter()), "parquet", str(tmp_path / "whole.parquet"), store=store)
    store.close()
    pq.write_table(pq.read_table(tmp_path / "whole.parquet"), tmp_path / "runs.parquet", row_group_size=60)
    outputs = []
    for chosen in (None, engine):
        options = ["--policy-file", str(file), "--since", "2026-01-01", "--parquet", str(tmp_path / "runs.parquet")]
        assert audit([*options, "--until", "2099-01-01", "--json", "-"], engine=chosen) == 0
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1]
    assert json.loads(outputs[0])["traffic"]["total"]["runs"] > 200


def test_a_replay_whose_workers_are_killed_is_the_same(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every figure of it, while workers die."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    figures = []
    for name, chosen in (("one", None), ("two", engine)):
        (tmp_path / name).mkdir()
        path = write_rows(tmp_path / name / "rows.jsonl", 3_000)
        file = tmp_path / f"{name}.json"
        with Killer("shard", 3 if chosen is not None else 0) as killer:
            assert replay([str(path), "--max-loss", "0.05", "--json", str(file)], engine=chosen) == 0, capsys.readouterr()
        assert len(killer.victims) == (3 if chosen is not None else 0)
        figures.append([line for line in file.read_text().splitlines() if '"created"' not in line])
    assert figures[0] == figures[1]
