"""The fixtures, and a short way to import them."""

import json
from pathlib import Path
from typing import Any

from evals.common.notes import Notes
from evals.importers.base import Names, Options, to_examples
from evals.recording import Example
from evals.recording.command import main

FIXTURES = Path(__file__).parent / "fixtures"


def imported(items: Any, path: Path, **options: Any) -> tuple[dict[str, Example], Notes]:
    """The examples of one log by id, and what was said of it."""
    options.setdefault("max_bad", 0.0)  # a bad record is an error, unless the test says otherwise
    notes = Notes()
    return {e.id: e for e in to_examples(items(str(path), Options(**options)), Names(), notes)}, notes


def changed(path: Path, target: Path, *keys: Any, value: Any) -> Path:
    """A copy of a JSON file with one value replaced."""
    data = json.loads(path.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    target.write_text(json.dumps(data))
    return target


def run(*arguments: Any) -> int:
    """The command's exit code."""
    return main(["import", *map(str, arguments)])
