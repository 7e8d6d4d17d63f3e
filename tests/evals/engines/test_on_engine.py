"""Commands on an engine give the bytes that one process gives, whatever the shards, and the same errors."""

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evals.common import parquet_reader
from evals.engines import EngineError, open_engine
from evals.grade.command import main as grade
from evals.recording import blocks, read, write
from evals.recording.blocks import Block, read_blocks
from evals.replay import on_engine
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.pipeline import ReplayConfig, as_file, replay
from evals.replay.score_table import Cache, TierScores, score_tier, sha256_of
from evals.replay.statistics import metrics
from tests.evals.engines.rows import row, write_rows
from tests.evals.engines.serial_engine import SerialEngine

RULES: list[dict[str, Any]] = [{"use": "rules"}, {"use": "logprob"}, {"use": "elsewhere"}]
SCORES = [name for name in TierScores.__slots__ if name not in ("prompts",)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recording of several blocks and shards."""
    monkeypatch.setattr(blocks, "_ROWS", 200)
    monkeypatch.setattr(parquet_reader, "_BATCH_ROWS", 200)
    return write_rows(tmp_path / "rows.jsonl", 930)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
@pytest.mark.parametrize("graders", [["text"], ["sums=number", "words=text"], ["sums=number"]])
def test_graded_recordings_are_the_same_bytes(
    path: Path, tmp_path: Path, suffix: str, graders: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """In every format, with the same report."""
    source, outs = tmp_path / f"source{suffix}", [tmp_path / f"{name}{suffix}" for name in ("one", "many")]
    write(source, read(path))
    options = [text for one in graders for text in ("--grader", one)]
    engine, reports = SerialEngine(), []
    for out, chosen in zip(outs, (None, engine), strict=True):
        assert grade([str(source), "--out", str(out), "--regrade", *options], engine=chosen) == 0
        reports.append(capsys.readouterr().out)
    assert outs[0].read_bytes() == outs[1].read_bytes()
    assert reports[0] == reports[1]
    assert len(engine.keys) >= 4  # several blocks, in two passes
    assert len(set(engine.keys)) == len(engine.keys) // 2


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "r7", "prompt": "again", "answers": {}}',
        '{"id": "new", "prompt": "no answers"}',
        '{"id": "half',
        '{"id": "new", "prompt": "q", "reference": {"a": 1}, "answers": {"small": {"text": "1"}}}',
    ],
)
def test_errors_are_the_same(path: Path, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A line that is wrong is named with its place, and nothing is written."""
    lines = path.read_text().splitlines()
    lines[500] = line
    path.write_text("\n".join(lines) + "\n")
    before, errors = path.read_bytes(), []
    for engine in (None, SerialEngine()):
        assert grade([str(path), "--grader", "text", "--regrade"], engine=engine) == 2
        errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1]
    assert ":501" in errors[0]
    assert path.read_bytes() == before


def test_an_empty_recording_is_the_same_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any block there is still the file to name."""
    (tmp_path / "empty.jsonl").write_text("\n")
    errors = []
    for engine in (None, SerialEngine()):
        assert grade([str(tmp_path / "empty.jsonl"), "--grader", "text"], engine=engine) == 2
        errors.append(capsys.readouterr().err)
    assert errors[0] == errors[1]


def test_blocks_hold_every_row_once(path: Path, tmp_path: Path) -> None:
    """Whatever the format: rows, their order, their places; and equal rows have equal keys."""
    rows = list(read(path))
    for suffix in (".jsonl", ".jsonl.gz", ".parquet"):
        copy = tmp_path / f"copy{suffix}"
        write(copy, rows)
        parts = list(read_blocks(str(copy)))
        examples = [pair for block in parts for pair in block.examples()]
        assert len(parts) == 5
        assert [example for _, example in examples] == rows
        assert examples[700][0] == f"{copy}: row 701" if suffix == ".parquet" else f"{copy}:701"
        again = Block(path="elsewhere", first=1, is_arrow=parts[0].is_arrow, data=parts[0].data)
        assert again.key == parts[0].key != parts[1].key


def equal(a: TierScores, b: TierScores) -> bool:
    """Whether two columns are the same to the last bit."""
    return all(
        np.array_equal(x, y, equal_nan=x.dtype.kind == "f") if isinstance(x, np.ndarray) else x == y
        for x, y in ((getattr(a, name), getattr(b, name)) for name in SCORES)
    )


def test_scores_are_the_same_to_the_last_bit(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards of any size, also with a judge that is recorded and not installed."""
    rows = list(read(path))[:120]
    for example in rows[::3]:
        example.answers["small"]["verdicts"] = {"elsewhere": 0.25}  # type: ignore[index]
    with on_engine.placeholders(["elsewhere"]):
        whole = asyncio.run(score_tier(rows, "small", RULES))
        assert np.isfinite(whole.scores[::3, 2]).all()
        for size in (1, 7, 119, 120, 1000):
            monkeypatch.setattr(on_engine, "SHARD_ROWS", size)
            steps: list[int] = []
            engine = SerialEngine()
            sharded = asyncio.run(on_engine.load_or_score(rows, "small", RULES, None, steps.append, engine))
            assert equal(whole, sharded)
            assert (sum(steps), len(engine.keys)) == (120, -(-120 // size))


def test_a_replay_that_is_interrupted_goes_on(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The shards that were scored are not scored again; in the end one file of the cache holds all."""
    monkeypatch.setattr(on_engine, "SHARD_ROWS", 100)
    rows = list(read(path))[:900]
    cache, first, second = Cache(path, sha256_of(path)), SerialEngine(fails_after=4), SerialEngine()
    arguments = (rows, "small", RULES[:2], cache)
    with pytest.raises(ConnectionError):
        asyncio.run(on_engine.load_or_score(*arguments, engine=first))
    steps: list[int] = []
    scores = asyncio.run(on_engine.load_or_score(*arguments, steps.append, second))
    assert (len(first.keys), len(second.keys), sum(steps)) == (4, 5, 900)
    assert not set(first.keys) & set(second.keys)
    assert equal(scores, asyncio.run(score_tier(rows, "small", RULES[:2])))
    assert len(list((path.parent / ".cascade").iterdir())) == 1
    third = SerialEngine()
    assert equal(scores, asyncio.run(on_engine.load_or_score(*arguments, engine=third)))
    assert not third.keys


@pytest.mark.parametrize("sessions", [False, True])
def test_a_replay_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sessions: bool) -> None:
    """Every figure of it. Conversations, whose turns depend on those before, are run in this process."""
    monkeypatch.setattr(on_engine, "SHARD_ROWS", 70)
    monkeypatch.setattr(on_engine.Cache, "save", lambda *_: None)
    monkeypatch.setattr(metrics, "bootstrap", partial(metrics.bootstrap, rounds=20))
    path = tmp_path / "rows.jsonl"
    turns = [row(i) | ({"session": f"s{i // 3}"} if sessions else {}) for i in range(300)]
    path.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    examples = list(read(path))
    config = ReplayConfig(guarantee=Guarantee("max_loss", 0.1, 0.1), menu=())
    engine = SerialEngine()
    one, many = (asyncio.run(replay(path, examples, ["small", "large"], config, chosen)) for chosen in (None, engine))
    assert json.dumps(as_file(one.data | {"created": ""})) == json.dumps(as_file(many.data | {"created": ""}))
    assert one.rows == many.rows
    assert len(engine.keys) == (10 if sessions else 13)


@pytest.mark.parametrize(
    "text", ["", "Ray", "ray://", "ray://host", "ray://host:x", "ray://host:0", "ray://host:99999", "ray://u@host:1", "dask"]
)
def test_another_engine_is_refused(text: str) -> None:
    """Whatever is neither local, nor ray, nor an address."""
    with pytest.raises(EngineError, match="must be local, ray or ray://HOST:PORT"), open_engine(text):
        pass


def test_local_is_no_engine() -> None:
    """This process does the work itself, without Ray."""
    with open_engine("local") as engine:
        assert engine is None
