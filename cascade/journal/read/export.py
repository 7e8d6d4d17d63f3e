"""Carries records out of a journal: JSON Lines, Parquet, or a recording that `evals.replay` reads."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import IO, Any, Literal

from cascade.errors import JournalError
from cascade.journal.record import Record
from cascade.journal.store import SqlStore, tiers_asked
from cascade.util.atomic_write import replacing
from cascade.util.extras import sentence

Format = Literal["jsonl", "parquet", "recording"]
_ROWS_A_GROUP = 10_000


def export(
    records: Iterable[Record],
    format: Format,
    out: str,
    *,
    complete: bool = False,
    task_tag: str | None = None,
    store: SqlStore | None = None,
) -> int:
    """Writes the records to a file, as a whole or not at all.

    Args:
        records: The records.
        format: How they are written.
        out: The file; "-" is standard output.
        complete: Of a recording, only the prompts that every model answered.
        task_tag: Of a recording, the tag of a run that names its task.
        store: The journal, whose labels and policies Parquet files hold, too; None: they are left out.

    Returns:
        How many lines were written.

    Raises:
        JournalError: Parquet without pyarrow.
        OSError: The file cannot be written.
    """
    if format == "parquet":
        if out == "-":
            raise JournalError("Parquet is written to a file; name one")
        with replacing(out, private=True) as file:
            return _parquet(records, file, store)
    lines: Callable[[Iterable[Record]], Iterator[Mapping[str, Any]]] = as_lines
    if format == "recording":
        from .to_recording import as_recording

        lines = partial(as_recording, complete=complete, task_tag=task_tag)
    if out == "-":
        return _jsonl(lines(records), sys.stdout.buffer)
    with replacing(out, private=True) as file:
        return _jsonl(lines(records), file)


def as_lines(records: Iterable[Record]) -> Iterator[Mapping[str, Any]]:
    """Each record with everything it holds."""
    for record in records:
        line = record._asdict()
        for name in ("prompt", "sampling_probability", "shadow_tiers", "shadows", "canary", "prompt_form"):
            if line[name] is None or line[name] == ():
                del line[name]
        yield line


def _jsonl(lines: Iterable[Mapping[str, Any]], file: IO[bytes]) -> int:
    count = 0
    for line in lines:
        file.write(json.dumps(line, ensure_ascii=True, allow_nan=False).encode() + b"\n")
        count += 1
    file.flush()
    return count


def _parquet(records: Iterable[Record], file: IO[bytes], store: SqlStore | None) -> int:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise JournalError(sentence("Parquet", "pyarrow")) from None
    text, number, moment = pa.string(), pa.float64(), pa.timestamp("us", tz="UTC")
    types = {
        **dict.fromkeys(
            ("run_id", "kind", "policy", "policy_hash", "prompt_hash", "reason", "tier", "model", "error", "canary"), text
        ),
        **dict.fromkeys(("started", "ended"), moment),
        **dict.fromkeys(("confidence", "cost_usd", "premium_usd", "latency_s", "quality", "sampling_probability"), number),
        "accepted": pa.bool_(),
        **dict.fromkeys(("note", "tags", "attempts", "prompt", "shadows"), text),
        # What an audit adds up, so that it need not read the nested columns.
        **dict.fromkeys(("tiers_asked", "label_number"), pa.int64()),
        "premium_tier": text,
        **dict.fromkeys(("loss", "measured_premium_usd"), number),
    }
    schema = pa.schema(list(types.items()))
    policies = {} if store is None else store.policies()
    premiums = {hash: json.loads(policy)["tiers"][-1]["name"] for hash, policy in policies.items()}
    count = 0
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for group in _groups(map(_flat, records)):
            if store is not None:
                _add_audit_columns(group, store, premiums)
            writer.write_table(pa.Table.from_pylist(group, schema=schema))
            count += len(group)
    return count


def _flat(record: Record) -> dict[str, Any]:
    """A row: times in microseconds, the last feedback as ``quality`` and ``note``, what is nested as JSON."""
    graded = record.feedback[-1] if record.feedback else {}
    return {
        **record._asdict(),
        "started": round(record.started * 1e6),
        "ended": round(record.ended * 1e6),
        "quality": graded.get("quality"),
        "note": graded.get("note"),
        "tags": json.dumps(record.tags),
        "attempts": json.dumps(record.attempts),
        "prompt": None if record.prompt is None else json.dumps(record.prompt),
        "shadows": json.dumps(record.shadows) if record.shadows else None,
        "tiers_asked": tiers_asked(record),
    }


def _add_audit_columns(rows: list[dict[str, Any]], store: SqlStore, premiums: Mapping[str, str]) -> None:
    """Adds each row's label, the last tier of its policy, and what that tier did cost where it was shadowed."""
    labels: dict[str, tuple[float, int]] = {}
    for i in range(0, len(rows), 500):
        part = [row["run_id"] for row in rows[i : i + 500]]
        marks = ", ".join("?" * len(part))
        query = f"SELECT run_id, loss, number FROM cascade_labels WHERE state = 'done' AND run_id IN ({marks})"
        labels |= {run_id: (loss, number) for run_id, loss, number in store.execute(query, part)}
    for row in rows:
        premium = row["premium_tier"] = premiums.get(row["policy_hash"])
        row["loss"], row["label_number"] = labels.get(row["run_id"], (None, None))
        for shadow in json.loads(row["shadows"] or "[]"):
            if shadow["tier"] == premium and shadow["state"] == "done":
                row["measured_premium_usd"] = shadow.get("cost_usd")


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    for row in rows:
        group.append(row)
        if len(group) == _ROWS_A_GROUP:
            yield group
            group = []
    if group:
        yield group
