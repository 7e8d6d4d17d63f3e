"""A row of a journal's Parquet export as the record that it was written from."""

import json
from collections.abc import Mapping
from typing import Any

from cascade.journal.record import Record


def record_of(row: Mapping[str, Any]) -> Record:
    """The record; of its feedback only the last one is in the file.

    Args:
        row: The columns by name, times in Unix seconds.
    """
    plain = {name: row[name] for name in Record._fields if name in row}
    feedback = [] if row["quality"] is None else [{"quality": row["quality"], "note": row["note"], "at": None}]
    return Record(
        **plain
        | {
            "tags": json.loads(row["tags"]),
            "attempts": json.loads(row["attempts"]),
            "prompt": None if row["prompt"] is None else json.loads(row["prompt"]),
            "shadows": () if row["shadows"] is None else json.loads(row["shadows"]),
            "feedback": feedback,
        }
    )
