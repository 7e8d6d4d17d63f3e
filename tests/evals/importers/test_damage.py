"""Damaged logs of every importer: whatever is cut off or has another value is an error in words, or is read; never more."""

import json
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.recording import read
from tests.evals.importers.logs import FIXTURES, run

BATCH = FIXTURES / "openai_batch"
SENT = ("--input", BATCH / "small_input.jsonl")
LOGS: dict[str, list[tuple[str, Path]]] = {
    "inspect_ai": [
        ("inspect_ai", FIXTURES / "inspect_ai" / f"{name}_small.json") for name in ("sums", "choices", "dialogue")
    ],
    "lm_eval": [("lm_eval", path) for path in sorted((FIXTURES / "lm_eval").glob("*/small/samples_*"))],
    "promptfoo": [("promptfoo", FIXTURES / "promptfoo" / f"{name}.json") for name in ("first", "cached", "repeated")],
    "openai_batch": [("openai_batch", BATCH / f"{name}_output.jsonl") for name in ("small", "responses")],
}
# As they stand in the file.
POISON = (
    "NaN", "-Infinity", "1e999", "1e308", "1" + "0" * 400, "-1", "0.5", "null", "true", '""', '"x"', r'"\ud800"', '"nan"',
    "[]", "{}", "[null]", '[["x"]]', '{"a": {"b": 1}}', "[" * 900 + "]" * 900, '"[[[["', '"\N{SUPERSCRIPT TWO}"',
)  # fmt: skip


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container of a parsed log with the keys of what it holds."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        yield value, key
        yield from places(one)


def poisoned(log: Path, at: int, poison: str) -> str:
    """The log with another value at one place."""
    text = log.read_text()
    data = [json.loads(line) for line in text.splitlines()] if log.suffix == ".jsonl" else [json.loads(text)]
    spots = [place for one in data for place in places(one)]
    container, key = spots[at % len(spots)]
    container[key] = "<here>"
    return "\n".join(json.dumps(one) for one in data).replace('"<here>"', poison)


def holds(format: str, log: Path, content: bytes, capsys: Any) -> None:
    """The import succeeds and can be read, or says what is wrong and leaves an older recording as it was."""
    with TemporaryDirectory() as name:
        folder = Path(name, "log")
        folder.mkdir()
        damaged, out = folder / log.name, folder / "rec.jsonl"
        damaged.write_bytes(content)
        out.write_text("an older recording")
        more = ("--input", BATCH / "responses_input.jsonl") if "responses" in log.name else SENT
        status = run(format, damaged, *more, "--out", out)
        error = capsys.readouterr().err
        assert sorted(p.name for p in folder.iterdir()) == sorted((damaged.name, out.name))
        if status == 0:
            assert list(read(out))
            return
        assert status == 2
        assert error.startswith("error: ")
        assert log.name in error or "nothing could be imported" in error
        assert "rec.jsonl" not in error
        assert len(error) < 2000
        assert out.read_text() == "an older recording"


@pytest.mark.parametrize("format", LOGS)
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_another_value(format: str, data: st.DataObject, request: pytest.FixtureRequest) -> None:
    """NaN, huge numbers, other types and other nesting at any place of a real log."""
    kind, log = data.draw(st.sampled_from(LOGS[format]))
    content = poisoned(log, data.draw(st.integers(0, 10**6)), data.draw(st.sampled_from(POISON)))
    holds(kind, log, content.encode(), request.getfixturevalue("capsys"))


@pytest.mark.parametrize("format", [*LOGS, "archive"])
@given(data=st.data())
@settings(max_examples=25, deadline=None)
def test_cut_off(format: str, data: st.DataObject, request: pytest.FixtureRequest) -> None:
    """A log that ends at any byte, or of which one byte is another."""
    archive = [("inspect_ai", FIXTURES / "inspect_ai" / "sums_small.eval")]
    kind, log = data.draw(st.sampled_from(LOGS.get(format, archive)))
    whole = log.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    content = whole[:at] if data.draw(st.booleans()) else whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :]
    holds(kind, log, content, request.getfixturevalue("capsys"))


def test_a_damaged_directory_of_an_archive(capsys: pytest.CaptureFixture[str]) -> None:
    """Whichever byte of the list of an archive's files, and of its end, is another one."""
    log = FIXTURES / "inspect_ai" / "sums_small.eval"
    assert run("inspect_ai", "nowhere.eval", "--out", "nowhere.jsonl") == 2
    assert "nowhere.eval: No such file or directory" in capsys.readouterr().err
    whole = log.read_bytes()
    for at in range(whole.index(b"PK\x01\x02"), len(whole), 7):
        holds("inspect_ai", log, whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :], capsys)


HUGE = "1" + "0" * 400
NAMED = [
    (
        "inspect_ai",
        FIXTURES / "inspect_ai" / "sums_small.json",
        ("samples", 0, "output", "usage", "input_tokens"),
        HUGE,
        "samples[0].output.usage.input_tokens: must be a number from 0 to 1e+15; correct the line or take it out; read are",
    ),
    (
        "lm_eval",
        next((FIXTURES / "lm_eval").glob("lm/small/samples_demo_choice_*")),
        ("resps", 0, 0),
        HUGE,
        ".jsonl:1: resps[0][0]: must be a log-likelihood, a number; take the line out",
    ),
    (
        "promptfoo",
        FIXTURES / "promptfoo" / "first.json",
        ("results", "results", 0, "latencyMs"),
        "-1",
        "results.results[0].latencyMs: must be a number from 0",
    ),
    (
        "openai_batch",
        BATCH / "responses_output.jsonl",
        ("response", "body", "usage", "output_tokens"),
        HUGE,
        ".jsonl:1: response.body.usage.output_tokens: must be a number from 0",
    ),
]


@pytest.mark.parametrize(("format", "log", "keys", "poison", "message"), NAMED)
def test_the_field_is_named(
    format: str,
    log: Path,
    keys: tuple[Any, ...],
    poison: str,
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With its file, its line or record, and what to do."""
    first, *others = log.read_text().splitlines() if log.suffix == ".jsonl" else [log.read_text()]
    data = inner = json.loads(first)
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = "<here>"
    damaged = tmp_path / log.name
    damaged.write_text("\n".join([json.dumps(data).replace('"<here>"', poison), *others]))
    sent = ("--input", BATCH / "responses_input.jsonl")
    assert run(format, damaged, *sent, "--max-bad", 0, "--out", tmp_path / "rec.jsonl") == 2
    assert f"{log.name}" in (error := capsys.readouterr().err)
    assert message in error
    assert not (tmp_path / "rec.jsonl").exists()


def test_no_number_is_unknown(tmp_path: Path) -> None:
    """NaN, which tools write for a score that there is not, means no quality, and never 0; beside the answers it is null."""
    text = (FIXTURES / "inspect_ai" / "sums_small.json").read_text()
    data = json.loads(text)
    for sample in data["samples"]:
        sample["metadata"] = {"difficulty": float("nan")}
        for score in (sample.get("scores") or {}).values():
            score["value"] = float("nan")
    (tmp_path / "log.json").write_text(json.dumps(data))
    assert run("inspect_ai", tmp_path / "log.json", "--out", tmp_path / "rec.jsonl") == 0
    rows = list(read(tmp_path / "rec.jsonl"))
    assert rows
    assert {a["quality"] for row in rows for a in row.answers.values()} == {None}
    assert {row.raw["metadata"]["difficulty"] for row in rows} == {None}
