"""Datasets of every form become the same examples, and what is wrong in one is named before anything is asked."""

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from evals.record.dataset import Dataset
from evals.record.dataset_readers import DatasetError

ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "1+1?", "reference": "2", "task": "sums"},
    {"id": "b", "prompt": "Größe, bitte", "reference": "3", "task": "words"},
]


def jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows as a file of JSON Lines."""
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return str(path)


def files(folder: Path) -> list[Path]:
    """ROWS in every file format."""
    paths = [folder / name for name in ("d.jsonl", "d.jsonl.gz", "d.csv", "d.tsv", "d.parquet")]
    jsonl(paths[0], ROWS)
    paths[1].write_bytes(gzip.compress(paths[0].read_bytes()))
    for path, mark in ((paths[2], ","), (paths[3], "\t")):
        with open(path, "w", encoding="utf-8-sig", newline="") as file:
            writer = csv.DictWriter(file, list(ROWS[0]), delimiter=mark)
            writer.writeheader()
            writer.writerows(ROWS)
    parquet.write_table(pa.Table.from_pylist(ROWS), paths[4])
    return paths


def test_every_format_gives_the_same(tmp_path: Path) -> None:
    """JSON Lines, gzip, CSV, TSV and Parquet give equal examples and one hash."""
    surveys = [(list(Dataset(str(path))), Dataset(str(path)).survey()) for path in files(tmp_path)]
    assert [(e.id, e.prompt, e.reference, e.task) for e in surveys[0][0]] == [tuple(r.values()) for r in ROWS]
    assert all(each == surveys[0] for each in surveys)
    assert surveys[0][1].rows == 2


def test_a_folder_of_texts(tmp_path: Path) -> None:
    """Each text file is a row and its folder the task; hidden files are ignored."""
    (tmp_path / "bills").mkdir()
    (tmp_path / "bills" / "b.txt").write_text("pay me")
    (tmp_path / "a.md").write_text("hello")
    (tmp_path / ".hidden.txt").write_text("no")
    examples = list(Dataset(str(tmp_path), template="Answer: {text}"))
    assert [(e.id, e.task, e.prompt) for e in examples] == [
        ("a.md", "", "Answer: hello"),
        ("bills/b.txt", "bills", "Answer: pay me"),
    ]


def test_messages_schema_and_tools_of_a_row(tmp_path: Path) -> None:
    """Chat messages, a schema, tools and a system message belong to their row; further fields are kept."""
    tool = {"type": "function", "function": {"name": "f"}}
    messages = [{"role": "user", "content": "hi"}]
    row = {"messages": messages, "schema": {"type": "object"}, "tools": [tool], "level": 3}
    [one] = Dataset(jsonl(tmp_path / "d.jsonl", [row]), system="Be brief.")
    assert (one.id, one.prompt, one.schema, one.tools, one.system) == ("1", messages, row["schema"], (tool,), "Be brief.")
    assert one.to_json()["level"] == 3
    with open(tmp_path / "d.csv", "w", newline="") as file:
        csv.writer(file).writerows([["messages", "schema"], [json.dumps(messages), '{"type": "object"}']])
    [other] = Dataset(str(tmp_path / "d.csv"))
    assert (other.prompt, other.schema) == (messages, {"type": "object"})


def test_a_parquet_struct_without_a_field(tmp_path: Path) -> None:
    """What a struct has not is absent, not null: a provider would refuse a null."""
    rows = [{"prompt": [{"role": "user", "content": "a", "name": "x"}]}, {"prompt": [{"role": "user", "content": "b"}]}]
    parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "d.parquet")
    assert [e.prompt for e in Dataset(str(tmp_path / "d.parquet"))] == [r["prompt"] for r in rows]


def test_a_recording_as_dataset_keeps_its_answers(tmp_path: Path) -> None:
    """A recording's own answers stay; a field of that name with another meaning does not become answers."""
    rows = [
        {"id": "a", "prompt": "p", "answers": {"m": {"text": "x"}}},
        {"id": "b", "prompt": "p", "answers": {"text": ["Paris"], "answer_start": [3]}},
    ]
    first, second = Dataset(jsonl(tmp_path / "d.jsonl", rows), reference_field="answers")
    assert first.answers == {"m": {"text": "x"}}
    assert second.answers == {}
    assert second.reference == rows[1]["answers"]


@given(st.dictionaries(st.from_regex(r"[a-z]{1,6}", fullmatch=True), st.text(max_size=6), min_size=1, max_size=3))
@settings(max_examples=40, deadline=None)
def test_templates(tmp_path_factory: pytest.TempPathFactory, row: dict[str, str]) -> None:
    """A template gives the text of ``str.format`` for any fields."""
    template = "{{x}} " + " - ".join(f"{{{name}}}" for name in row)
    path = jsonl(tmp_path_factory.mktemp("t") / "d.jsonl", [{**row, "id": "1"}])
    if "id" in row:
        return
    [one] = Dataset(path, template=template)
    assert one.prompt == template.format(**row)


def test_the_hash_is_of_what_is_asked(tmp_path: Path) -> None:
    """Another prompt is another dataset; a corrected reference is not."""
    one = Dataset(jsonl(tmp_path / "a.jsonl", ROWS)).survey()
    same = Dataset(jsonl(tmp_path / "b.jsonl", [{**r, "reference": "x", "task": ""} for r in ROWS])).survey()
    other = Dataset(jsonl(tmp_path / "c.jsonl", [ROWS[0], {**ROWS[1], "prompt": "?"}])).survey()
    assert one.sha256 == same.sha256 != other.sha256
    assert one.content != same.content


BAD: list[tuple[list[dict[str, Any]], dict[str, Any], str]] = [
    ([ROWS[0], {"id": "b"}], {}, "d.jsonl:2: prompt: the row has no prompt; name its field by --prompt-field or --template"),
    ([{"id": "a", "prompt": ""}], {}, "d.jsonl:1: prompt: the prompt is empty"),
    ([{"id": "a", "prompt": 3}], {}, "d.jsonl:1: prompt: must be text or a list of messages"),
    ([{"id": "a", "question": "?"}], {"prompt_field": "text"}, "d.jsonl:1: text: the row has no prompt"),
    ([ROWS[0], ROWS[1], ROWS[0]], {}, "d.jsonl:3: id: 'a' is also the id at .*d.jsonl:1"),
    ([{"prompt": "x"}, {"prompt": "y", "id": "1"}], {}, "d.jsonl:2: id: '1' is also the id at"),
    (ROWS, {"template": "{body}"}, "d.jsonl:1: body: the template needs this field, the row has: id, prompt"),
    (ROWS, {"template": "no field"}, "--template: names no field"),
    (ROWS, {"template": "{"}, "--template: .* write {{ and }}"),
    (ROWS, {"template": "{id!r}"}, "--template: a field is written {name}"),
    ([{**ROWS[0], "split": "dev"}], {}, "d.jsonl:1: split: must be"),
    ([{**ROWS[0], "schema": "x"}], {}, "d.jsonl:1: schema: must be an object, got str"),
    ([{**ROWS[0], "tools": ["x"]}], {}, "d.jsonl:1: tools: must be a list of objects"),
    ([{**ROWS[0], "id": 1.5}], {}, "d.jsonl:1: id: must be text or a whole number"),
    ([{**ROWS[0], "score": float("nan")}], {}, "d.jsonl:1: 'score': holds NaN or an infinite number"),
    ([{**ROWS[0], "prompt": "\ud800?"}], {}, "d.jsonl:1: 'prompt': holds NaN .*, half of a surrogate pair"),
    ([], {}, "contains no rows"),
    ([{"id": "a", "prompt": "  "}], {}, "d.jsonl:1: prompt: the prompt is empty"),
    ([{"messages": [{"role": "usr", "content": "x"}]}], {}, r"d.jsonl:1: messages\[0\]: .* one of system, developer, user"),
    ([{"messages": [{"role": "user"}]}], {}, r"d.jsonl:1: messages\[0\]: content: must be text or a list of parts"),
    ([{**ROWS[0], "tools": [{"name": "x"}]}], {}, 'd.jsonl:1: tools: .*{"type": "function", "function": {"name"'),
    (ROWS, {"reference_field": "lable"}, "d.jsonl: lable: no row has this reference; correct --reference-field"),
]


@pytest.mark.parametrize(("rows", "options", "words"), BAD)
def test_bad_rows_are_named(tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], words: str) -> None:
    """A wrong row is an error with file, line, field and remedy, found before anything is asked."""
    with pytest.raises(DatasetError, match=words):
        Dataset(jsonl(tmp_path / "d.jsonl", rows), **options).survey()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d.jsonl", b'{"prompt": "x"}\n{', "d.jsonl:2: not valid JSON"),
        ("d.jsonl", b"[1]\n", "d.jsonl:1: must be a JSON object, got list"),
        ("d.jsonl.gz", gzip.compress(b'{"prompt": "x"}\n' * 500, mtime=0)[:-9], "gzip data is cut off"),
        ("d.csv", b"id,prompt\n1,a,b\n", "d.csv:2: the line does not have the 2 cells"),
        ("d.csv", b'id,prompt\n1,"a\n', "d.csv:2: not valid CSV"),
        ("d.jsonl", b'{"prompt": "x"}\n{"prompt": "\xff"}', "d.jsonl:2: is not UTF-8 text"),
        ("d.csv", b"id,prompt\n1,x\n2,\xff\n", "d.csv:3: is not UTF-8 text"),
        ("d.csv", b"prompt,prompt\na,b\n", "d.csv:1: 'prompt': two columns have this name"),
        ("d.csv", b"id;prompt\n1;x\n", "d.csv:1: the columns are separated by semicolons; save the file with commas"),
        ("d.csv", b'schema,prompt\n{,"a"\n', "d.csv:2: schema: must be JSON"),
        ("d.parquet", b"no", "cannot be read as Parquet"),
        ("d.xlsx", b"no", "a dataset is a .jsonl"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    """A file that cannot be read is an error that names it."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=words):
        Dataset(str(tmp_path / name)).survey()


def test_fine_tuning_files(tmp_path: Path) -> None:
    """The assistant's last turn is the reference; a row with its own reference keeps its messages as the prompt."""
    call = [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turns = [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]
    rows = [
        {"messages": [*turns, {"role": "assistant", "content": "a"}]},
        {"messages": [*turns, {"role": "assistant", "content": None, "tool_calls": call}]},
        {"messages": turns},
        {"messages": [*turns, {"role": "assistant", "content": "prefix"}], "reference": "r"},
    ]
    path = tmp_path / "tune.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    examples = list(Dataset(str(path)))
    assert [example.prompt for example in examples] == [turns, turns, turns, rows[3]["messages"]]
    assert [example.reference for example in examples] == ["a", call, None, "r"]
    named = list(Dataset(str(path), prompt_field="messages"))
    assert [len(example.prompt) for example in named] == [3, 3, 2, 3]
