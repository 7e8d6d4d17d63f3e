"""Recordings as Parquet: what is written comes back, and other tools' nested columns are read."""

from contextlib import suppress
from datetime import date, datetime, timedelta
from decimal import Decimal
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
    rows_read = list(read(path))
    assert rows_read == examples
    assert [e.raw.get("mine") for e in rows_read] == [mine for _, _, mine in rows]


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


def test_a_judge_that_could_not_tell(tmp_path: Path) -> None:
    """Is null where this project wrote the file; in another tool's columns null says that there was no such judge."""
    mute = {"text": "x", "quality": None, "verdicts": {"verifier": None}, "samples": [{"text": "y", "quality": None}]}
    write(tmp_path / "r.parquet", [Example("a", "q", {"m": mute})])
    assert next(read(tmp_path / "r.parquet")).answers == {"m": mute}
    both = [{"verifier": 0.5, "schema": None}, {"verifier": None, "schema": 1.0}]
    rows = [{"id": f"{i}", "prompt": "q", "answers": {"m": {"text": "x", "verdicts": v}}} for i, v in enumerate(both)]
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    assert [e.answers["m"]["verdicts"] for e in read(tmp_path / "r.parquet")] == [{"verifier": 0.5}, {"schema": 1.0}]


def test_a_bad_row_is_named(tmp_path: Path) -> None:
    """The error has the row's number; a file that is not Parquet is an error that says so."""
    parquet.write_table(arrow.Table.from_pylist([{"id": "a", "answers": "{}"}]), tmp_path / "r.parquet")
    with pytest.raises(RecordingError, match=r"r\.parquet: row 1: prompt: is missing"):
        list(read(tmp_path / "r.parquet"))
    rows = [{"id": "a", "prompt": "q", "answers": "{}"}] * 2
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    with pytest.raises(RecordingError, match=r"row 2: id: 'a' occurs on line 1 too"):
        list(read(tmp_path / "r.parquet"))
    (tmp_path / "x.parquet").write_bytes(b"no")
    with pytest.raises(RecordingError, match="cannot be read as Parquet"):
        list(read(tmp_path / "x.parquet"))


def test_values_that_json_has_not(tmp_path: Path) -> None:
    """Times, decimals and bytes of other tools' columns become what JSON holds, so that the rows can be written anew."""
    rows = [
        {
            "id": "a", "prompt": "5", "answers": {"m": {"text": "x"}}, "more": "hello", "when": datetime(2024, 5, 1, 7),
            "price": Decimal("1.5"), "took": timedelta(seconds=2), "hash": b"\x00\xff", "deep": {"days": [date(2024, 5, 1)]},
        },
    ]  # fmt: skip
    parquet.write_table(arrow.Table.from_pylist(rows), tmp_path / "r.parquet")
    write(tmp_path / "r.jsonl", read(tmp_path / "r.parquet"))
    (example,) = read(tmp_path / "r.jsonl")
    assert example.prompt == "5"
    more = {name: example.raw[name] for name in ("more", "when", "price", "took", "hash", "deep")}
    assert more == {
        "more": "hello", "when": "2024-05-01T07:00:00", "price": 1.5, "took": 2.0, "hash": "AP8=",
        "deep": {"days": ["2024-05-01"]},
    }  # fmt: skip


def test_damage_is_found(tmp_path: Path) -> None:
    """A flipped byte anywhere is an error in the words of this project, never another answer."""
    path = tmp_path / "r.parquet"
    write(path, [Example(f"e{i}", f"prompt {i}", {"m": {"text": f"{i * i}"}}) for i in range(300)])
    whole = path.read_bytes()
    expected = list(read(path))
    for at in range(4, len(whole) - 8, len(whole) // 40):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        with suppress(RecordingError):
            # A byte of padding, or of the writer's name, changes nothing.
            assert list(read(path)) == expected


def test_half_a_surrogate_pair(tmp_path: Path) -> None:
    """Text that Parquet cannot store is escaped inside JSON columns, and elsewhere an error that names the field."""
    one = Example("a", "\ud83d?", {"m": {"text": "cut \ud83d"}}, reference="\ude00")
    write(tmp_path / "r.parquet", [one])
    assert list(read(tmp_path / "r.parquet")) == [one]
    with pytest.raises(RecordingError, match=r"id 'b': task: holds half of a surrogate pair"):
        write(tmp_path / "r.parquet", [Example("b", "q", {}, task="\ud83d")])
    with pytest.raises(RecordingError, match=r"id 'c': answers\.m\.mine: is NaN or infinite"):
        write(tmp_path / "r.parquet", [Example("c", "q", {"m": {"text": "x", "mine": float("nan")}})])
    assert list(read(tmp_path / "r.parquet")) == [one]
