"""Recordings as Parquet: what is written comes back, and other tools' nested columns are read."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.recording import Example, RecordingError, read, write

arrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8")),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), x, max_size=3),
    max_leaves=6,
)
PROMPTS = st.text(st.characters(codec="utf-8"), min_size=1) | st.sampled_from(['"5"', "[1]", "{}", "5", "null", "true", '"'])


@settings(max_examples=60)
@given(st.lists(st.tuples(PROMPTS, JSON, JSON), min_size=1, max_size=5))
def test_what_is_written_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, Any, Any]]) -> None:
    """Prompts, references and fields of one's own, also texts that look like JSON."""
    path = tmp_path_factory.mktemp("r") / "r.parquet"
    examples = [
        Example(
            f"e{i}", prompt, {"m": {"text": prompt, "quality": 0.5}}, task="t", reference=reference,
            raw={"mine": mine} if mine is not None else {},
        )
        for i, (prompt, reference, mine) in enumerate(rows)
    ]  # fmt: skip
    assert write(path, examples) == len(examples)
    found = list(read(path))
    assert found == examples
    assert [e.raw.get("mine") for e in found] == [mine for _, _, mine in rows]


def test_messages_schema_and_tools(tmp_path: Path) -> None:
    """What is nested is JSON in its column."""
    one = Example("a", [{"role": "user", "content": "q"}], {}, schema={"type": "object"}, tools=({"type": "function"},))
    write(tmp_path / "r.parquet", [one])
    assert list(read(tmp_path / "r.parquet")) == [one]


def test_nested_columns_of_other_tools(tmp_path: Path) -> None:
    """Answers as a structure, a model that did not answer as a null."""
    rows = [
        {"id": "a", "prompt": "q", "answers": {"m": {"text": "x", "quality": 1.0}, "n": None}},
        {"id": "b", "prompt": "r", "answers": {"m": {"text": "y", "quality": None}, "n": {"text": "z", "quality": 0.0}}},
    ]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    first, second = read(tmp_path / "r.parquet")
    assert first.answers == {"m": {"text": "x", "quality": 1.0}}
    assert second.answers == {"m": {"text": "y"}, "n": {"text": "z", "quality": 0.0}}


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    """With its number; a file that is no Parquet is said to be none."""
    parquet.write_table(arrow.Table.from_pylist([{"id": "a", "answers": "{}"}]), tmp_path / "r.parquet")
    with pytest.raises(RecordingError, match=r"r\.parquet: row 1: prompt: is missing"):
        list(read(tmp_path / "r.parquet"))
    rows = [{"id": "a", "prompt": "q", "answers": "{}"}] * 2
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    with pytest.raises(RecordingError, match=r"row 2: id: 'a' stands on line 1 too"):
        list(read(tmp_path / "r.parquet"))
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(RecordingError, match="cannot be read as Parquet"):
        list(read(tmp_path / "x.parquet"))
