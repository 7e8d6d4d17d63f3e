"""Recordings: what is written comes back, and what is wrong is named."""

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.recording import Example, RecordingError, models_of, read, write
from evals.recording.format import write_all
from tests.workers import warm_python

GOOD: dict[str, Any] = {"id": "a", "prompt": "1+1?", "answers": {"m": {"text": "2", "quality": 1.0}}}

plain = st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=8)
unknown = st.dictionaries(st.text(min_size=1, max_size=5).map("x_".__add__), plain, max_size=3)
answer = st.builds(
    lambda text, quality, more: {"text": text, "quality": quality, **more},
    st.text(max_size=8),
    st.none() | st.floats(0, 1),
    unknown,
)
row = st.builds(
    lambda prompt, split, answers, more: {"prompt": prompt, "split": split, "answers": answers, **more},
    st.text(max_size=9),
    st.sampled_from(["train", "test", None]),
    st.dictionaries(st.text(max_size=4), answer, max_size=3),
    unknown,
)


@given(st.lists(row, min_size=1, max_size=4), st.sampled_from(["r.jsonl", "r.jsonl.gz"]))
@settings(max_examples=60, deadline=None)
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, Any]], name: str) -> None:
    """Reading and writing again keeps every line, unknown fields included, byte for byte."""
    folder = tmp_path_factory.mktemp("r")
    rows = [{"id": str(i), **r} for i, r in enumerate(rows)]
    source = folder / "source.jsonl"
    source.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    write(folder / name, read(source))
    first = (folder / name).read_bytes()
    assert [dict(e.raw) for e in read(folder / name)] == rows
    write(folder / name, list(read(folder / name)))
    assert (folder / name).read_bytes() == first


BAD = [
    ({"id": None}, "id"),
    ({"id": 3}, "id"),
    ({"prompt": None}, "prompt"),
    ({"prompt": []}, "prompt"),
    ({"answers": []}, "answers"),
    ({"split": "dev"}, "split"),
    ({"schema": "x"}, "schema"),
    ({"answers": {"m": 1}}, "answers['m']"),
    ({"answers": {"m": {}}}, "answers['m'].text"),
    ({"answers": {"m": {"text": "", "quality": 1.5}}}, "answers['m'].quality"),
    ({"answers": {"m": {"text": "", "quality": float("nan")}}}, "answers['m'].quality"),
    ({"answers": {"m": {"text": "", "quality": True}}}, "answers['m'].quality"),
    ({"answers": {"m": {"text": "", "logprob": 0.1}}}, "answers['m'].logprob"),
    ({"answers": {"m": {"text": "", "token_logprobs": [-1.0, 0.1]}}}, "answers['m'].token_logprobs[1]"),
    *(
        ({"answers": {"m": {"text": "", "token_logprobs": [-1.0, worst, -1.0]}}}, "answers['m'].token_logprobs[1]")
        for worst in (float("nan"), float("-inf"), float("inf"), 0.5, -(10**400), True, "x", None, [])
    ),
    ({"answers": {"m": {"text": "", "samples": [{"text": "", "quality": 2.0}]}}}, "answers['m'].samples[0].quality"),
    *(
        ({"answers": {"m": {"text": "", **fields}}}, f"answers['m'].{name}")
        for fields, name in (
            ({"finish_reason": 5}, "finish_reason"),
            ({"finish_reason": [], "usage": {}}, "finish_reason"),
            ({"tokens": "x"}, "tokens"),
            ({"tokens": ["x", 1]}, "tokens[1]"),
            ({"tool_calls": {}}, "tool_calls"),
            ({"tool_calls": [{}, "x"]}, "tool_calls[1]"),
            ({"first_token_top": []}, "first_token_top"),
            ({"first_token_top": {"x": None}}, "first_token_top.x"),
            ({"first_token_top": {"x": 0.5}}, "first_token_top.x"),
        )
    ),
    ({"answers": {"m": {"text": "", "samples": [{"text": ""}, 1]}}}, "answers['m'].samples[1]"),
    ({"answers": {"m": {"text": "", "cost_usd": -1}}}, "answers['m'].cost_usd"),
    ({"answers": {"m": {"text": "", "usage": {"input_tokens": -1}}}}, "answers['m'].usage.input_tokens"),
    ({"answers": {"m": {"text": "", "verdicts": {"v": 2}}}}, "answers['m'].verdicts.v"),
    ({"answers": {"m": {"text": "", "samples": [{"quality": 1}]}}}, "answers['m'].samples[0].text"),
]


@pytest.mark.parametrize(("change", "field"), BAD)
def test_bad_fields_are_named(tmp_path: Path, change: dict[str, Any], field: str) -> None:
    """A wrong field is an error with file, line and field."""
    path = tmp_path / "bad.jsonl"
    path.write_text(json.dumps({**GOOD, "id": "first"}) + "\n" + json.dumps({**GOOD, **change}) + "\n")
    with pytest.raises(RecordingError) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}:2: {field}: ")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no example"),
        ("{", "not valid JSON"),
        ("[]\n", "JSON object"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD), ":2: id"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, words: str) -> None:
    """An empty file, broken JSON and a doubled id are errors that name the file."""
    path = tmp_path / "bad.jsonl"
    path.write_text(text)
    with pytest.raises(RecordingError, match=words) as caught:
        list(read(path))
    assert str(path) in str(caught.value)


def test_truncated_gzip(tmp_path: Path) -> None:
    """A cut-off gzip file is an error with file and line."""
    path = tmp_path / "cut.jsonl.gz"
    rows = "".join(json.dumps({**GOOD, "id": str(i)}) + "\n" for i in range(2000))
    path.write_bytes(gzip.compress(rows.encode())[:-20])
    with pytest.raises(RecordingError, match="cut off"):
        list(read(path))


def test_rounding_above_zero_is_tolerated(tmp_path: Path) -> None:
    """A log-probability a hair above 0 is float rounding."""
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({**GOOD, "answers": {"m": {"text": "", "logprob": 1e-7}}}))
    assert next(read(path)).answers["m"]["logprob"] == 1e-7


def test_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    """A write that fails leaves the old file and no temporary one."""
    path = tmp_path / "r.jsonl"
    path.write_text("old")
    with pytest.raises(ValueError, match="JSON"):
        write(path, [Example("a", "p", {"m": {"text": "", "quality": float("nan")}})])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_prompt_and_models() -> None:
    """An example becomes a prompt with its id, and its models are listed in order."""
    example = Example("a", "1+1?", {"m": {"text": "2"}, "k": {"text": "2"}}, system="Be brief.")
    prompt = example.to_prompt()
    assert (prompt.id, prompt.text, prompt.messages[0]["role"]) == ("a", "1+1?", "system")
    assert models_of([example]) == ["m", "k"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": "ä"}'.encode("latin-1"), ":1: is not UTF-8 text; save it as UTF-8"),
        (gzip.compress(b"{}", mtime=0), ":1: is gzip data; give it a name that ends in .gz"),
        (b"PAR1\xff\xfe", ":1: is Parquet; give it a name that ends in .parquet"),
        (b'{"id": ' + b"[" * 200_000, ":1: is nested too deeply"),
        (b'{"id": 1' + b"0" * 5000 + b"}", ":1: holds a number of too many digits"),
        (
            b'{"id": "a", "prompt": "q", "answers": {"m": {"text": "", "cost_usd": 1' + b"0" * 400 + b"}}}",
            ":1: answers['m'].cost_usd: must be a number >= 0, got a number of 401 digits; use null",
        ),
    ],
)
def test_what_is_no_json_lines_is_said(tmp_path: Path, content: bytes, message: str) -> None:
    """In words that say what it is, in one short line."""
    path = tmp_path / "bad.jsonl"
    path.write_bytes(content)
    with pytest.raises(RecordingError) as caught:
        list(read(path))
    assert str(caught.value).startswith(f"{path}{message}")
    assert len(str(caught.value)) < len(str(path)) + 150


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    """Some editors put one before the first line."""
    path = tmp_path / "r.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    assert next(read(path)).id == "a"
    path.write_bytes(b"\xef\xbb\xbf{")
    with pytest.raises(RecordingError, match=":1: not valid JSON"):
        list(read(path))


def test_half_a_surrogate_pair_survives(tmp_path: Path) -> None:
    """An answer that was cut off in the middle of one is paid for: it is written and read like others."""
    one = Example("a", "Smile.", {"m": {"text": "\ud83d"}, "n": {"text": "ä"}})
    for name in ("r.jsonl", "r.jsonl.gz"):
        write(tmp_path / name, [one])
        assert list(read(tmp_path / name)) == [one]


def test_an_id_twice_in_a_pipe() -> None:
    """It is found, too, although a pipe cannot be read again to report the first occurrence."""
    rows = "".join(json.dumps(GOOD) + "\n" for _ in range(2))
    command = [sys.executable, "-m", "evals.recording", "show", "/dev/stdin"]
    done = warm_python.run(command, input=rows, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert (done.returncode, done.stderr) == (
        2, "error: /dev/stdin:2: id: 'a' occurs twice; give each its own id\n"
    )  # fmt: skip


def test_all_parts_or_none(tmp_path: Path) -> None:
    """A second file that fails leaves the first as it was; a full disk does, too."""
    one, two = tmp_path / "1.jsonl.gz", tmp_path / "2.jsonl"
    write_all([(one, [Example("a", "p", {})]), (two, [Example("b", "p", {})])])
    before = one.read_bytes(), two.read_bytes()
    with pytest.raises(RecordingError, match=r"id 'd': answers\.m\.samples\[1\]\.x: is NaN"):
        write_all(
            [
                (one, [Example("c", "p", {})]),
                (two, [Example("d", "p", {"m": {"text": "", "samples": [{"text": ""}, {"text": "", "x": float("inf")}]}})]),
            ]
        )
    assert (one.read_bytes(), two.read_bytes()) == before
    code = (
        "import resource, signal, sys; from evals.recording.format import *;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "write_all([(sys.argv[2], [Example('d', 'p' * 2000, {})]), (sys.argv[1], [Example('c', 'p', {})])])"
    )
    done = warm_python.run(
        [sys.executable, "-c", code, one, two], capture_output=True, text=True, cwd=Path(__file__).parents[3]
    )
    assert "File too large" in done.stderr
    assert (one.read_bytes(), two.read_bytes()) == before
    assert sorted(tmp_path.iterdir()) == [one, two]
