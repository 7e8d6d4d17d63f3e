"""The questions of the starter recording: every gold answer is computed or certain, the list is always the same.

``python -m evals.demo.starter.questions FILE`` writes them as a dataset for ``evals.record``.
"""

import json
import random
import sys
from pathlib import Path

from .families import FAMILIES
from .row import Row

SEED = 20261124
# How evals.grade grades each family.
GRADERS = {
    "arithmetic": "number",
    "date": "date",
    "extraction": "json",
    "support": "choice",
    "fact": "contains",
    "language": "text",
    "words": "contains",
}


def questions() -> list[Row]:
    """Every question as an example of the recording format without ``answers``: id, task, split, prompt, reference."""
    rows: list[Row] = []
    for task, family in FAMILIES.items():
        # A generator for each family, so that a change of one leaves the others as they were recorded.
        rng = random.Random(f"{SEED}-{task}")
        members = [{"id": f"{task}-{i:03d}", "task": task, "split": None, **row} for i, row in enumerate(family(rng))]
        # Splits alternate inside each family after a shuffle, so that both halves hold every task in equal parts.
        for i, row in enumerate(rng.sample(members, len(members))):
            row["split"] = "train" if i % 2 == 0 else "test"
        rows += members
    # Mixed, so that a recording that was stopped holds a part of every family.
    return random.Random(SEED).sample(rows, len(rows))


def main(argv: list[str]) -> int:
    """Writes the questions, one JSON object a line."""
    if len(argv) != 1:
        print("usage: python -m evals.demo.starter.questions FILE", file=sys.stderr)
        return 2
    lines = [json.dumps(row, ensure_ascii=False) for row in questions()]
    Path(argv[0]).write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(lines)} questions")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
