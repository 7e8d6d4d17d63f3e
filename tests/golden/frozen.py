"""Compares what the commands say with the files in ``expected``, once what differs from run to run is masked."""

import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# The names that a move of the packages changes, and the only ones: everything else below is a promise to users.
LIBRARY = "cascade"
EVALS = "evals"

EXPECTED = Path(__file__).parent / "expected"
UPDATE = "UPDATE_GOLDEN"
VOLATILE = frozenset(
    ("run_id", "created", "started", "ended", "started_s", "latency_s", "at", "library", "hashes", "weights")
)
"""Fields that hold a time, a duration, an id, the library's version, or the packed numbers of a predictor."""


def check(name: str, output: str) -> None:
    """Fails with a diff where the text is not that of ``expected/name``; with UPDATE_GOLDEN=1 it is written there."""
    file = EXPECTED / name
    if os.environ.get(UPDATE) == "1":
        file.parent.mkdir(exist_ok=True)
        file.write_text(output, encoding="utf-8")
        return
    if not file.is_file():
        pytest.fail(f"{file} is missing; write it with {UPDATE}=1", pytrace=False)
    expected = file.read_text(encoding="utf-8")
    if output != expected:
        lines = difflib.unified_diff(expected.splitlines(), output.splitlines(), f"expected/{name}", "found", lineterm="")
        pytest.fail(f"{name} has changed; if that is meant, {UPDATE}=1 rewrites it\n" + "\n".join(lines), pytrace=False)


def as_text(value: Any) -> str:
    """JSON that can be compared line by line: keys sorted, volatile fields masked, floats of six digits."""
    return json.dumps(masked(value), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def masked(value: Any) -> Any:
    """The value with volatile fields that are not null masked, and with floats rounded to what all machines agree on."""
    if isinstance(value, dict):
        return {k: f"<{k}>" if k.rpartition(".")[2] in VOLATILE and v is not None else masked(v) for k, v in value.items()}
    if isinstance(value, list):
        return [masked(v) for v in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def shape(value: Any, path: str = "") -> Iterator[str]:
    """Every path of a JSON value with the type that it leads to, all items of a list as one."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from shape(inner, f"{path}.{name}" if path else name)
    elif isinstance(value, list) and value:
        for inner in value:
            yield from shape(inner, f"{path}[]")
    else:
        type_names = {dict: "object", list: "list", str: "text", bool: "boolean", int: "number", float: "number"}
        yield f"{path}: {'null' if value is None else type_names[type(value)]}"


def help_text(text: str) -> str:
    """A command's help, an item a line, without its columns and widths, in which versions of argparse differ."""
    text = re.sub(rf"(\bpython -m )?\b{re.escape(EVALS)}\.(?=[a-z])", "{EVALS}.", text)
    text = re.sub(rf"\bpython -m {re.escape(LIBRARY)}\b", "{LIBRARY}", text)
    text = re.sub(r"(?<=\w-)\n\s+(?=\w)", "", text)  # a word that was broken at its hyphen
    text = re.sub(r"(-\w) (\S+), (--[\w-]+) \2", r"\1, \3 \2", text)  # before 3.13: -s VALUE, --long VALUE
    items = re.split(r"\n\s*\n|\n(?= {2,4}\S)| (?=\[-)", text)  # paragraphs, options and examples, parts of the usage
    return "\n".join(" ".join(item.split()) for item in items if item.strip())


def table(text: str) -> str:
    """What a replay prints without how fast it was, and without where the command is installed."""
    text = re.sub(r"\S+/bin/cascade\b", "cascade", text)
    return re.sub(r"^[\d,]+ rows/s", "<n> rows/s", text, flags=re.MULTILINE)


def labels(exposition: str) -> dict[str, Any]:
    """Type, labels and bounds of every metric of ours in Prometheus' text format; ``_created`` is the client library's."""
    keys: dict[str, Any] = {}
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", exposition, re.MULTILINE))
    for name, inside in re.findall(r"^([a-z_]+)(?:\{(.*)\})? \S+$", exposition, re.MULTILINE):
        if name.startswith(("python_", "process_")) or name.endswith("_created"):
            continue
        pairs = re.findall(r'(\w+)="([^"]*)"', inside)
        kind = kinds.get(name) or kinds[re.sub("_(bucket|count|sum)$", "", name)]
        metric = keys.setdefault(name, {"type": kind, "labels": set(), "bounds": []})
        metric["labels"] |= {label for label, _ in pairs}
        metric["bounds"] += [bound for label, bound in pairs if label == "le" and bound not in metric["bounds"]]
    return {name: {**metric, "labels": sorted(metric["labels"])} for name, metric in keys.items()}
