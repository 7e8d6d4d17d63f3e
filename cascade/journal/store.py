"""A journal's interface to its database: the Store protocol, the rows, and the queries that both databases understand."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from time import time
from typing import Any, Protocol

from cascade.policy.rollout import AppliedCalibration

from .record import Record, dumps, plain

Row = tuple[Any, ...]

# What is asked for in SQL has a column; the rest is one JSON object.
_PLAIN = Record._fields[: Record._fields.index("tags")]
COLUMNS = (*_PLAIN, "tags", "body", "tiers_asked", "sampling_probability")
SHADOW_COLUMNS = ("tier", "model", "probability", "state", "estimate_usd", "cost_usd", "latency_s", "agrees", "error")
_TEXTS = tuple(i for i, name in enumerate(_PLAIN) if name in ("policy", "reason", "tier", "model", "error"))
# 50 rows a statement: one step of the database, in which other threads run, and few enough parameters for old SQLites.
ROWS_A_STATEMENT = 50
_PAGE = 500


def to_row(record: Record) -> Row:
    """The record as the values of ``COLUMNS``."""
    body: dict[str, Any] = {"attempts": record.attempts}
    if record.prompt is not None:
        body["prompt"] = record.prompt
    if record.sampling_probability is not None:
        body["sampling_probability"] = record.sampling_probability
    if record.shadow_tiers:
        body["shadow_tiers"] = record.shadow_tiers
    if record.canary is not None:
        body["canary"] = record.canary
    if record.prompt_form is not None:
        body["prompt_form"] = record.prompt_form
    values: list[Any] = list(record[: len(_PLAIN)])
    for i in _TEXTS:
        if values[i] is not None and not plain(values[i]):
            values[i] = ascii(values[i])[1:-1]
    tags = dumps(record.tags) if record.tags else None
    return (*values, tags, dumps(body), tiers_asked(record), record.sampling_probability)


def tiers_asked(record: Record) -> int:
    """How many tiers a run asked: those that it skipped by the prompt do not count."""
    return sum(attempt["reason"] != "skipped" for attempt in record.attempts)


def to_record(row: Sequence[Any]) -> Record:
    """The record of a row of the columns before ``ADDED_COLUMNS``, without its feedback."""
    *values, tags, body = row
    values[_PLAIN.index("accepted")] = bool(values[_PLAIN.index("accepted")])
    rest = json.loads(body)
    named = dict(zip(_PLAIN, values, strict=True))
    return Record(
        **named,
        tags=json.loads(tags or "{}"),
        attempts=rest["attempts"],
        prompt=rest.get("prompt"),
        sampling_probability=rest.get("sampling_probability"),
        shadow_tiers=rest.get("shadow_tiers", ()),
        canary=rest.get("canary"),
        prompt_form=rest.get("prompt_form"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPolicy:
    """A policy of runs, as the journal stores it.

    Attributes:
        json: The policy.
        name: Its name in the policy file.
        calibration: The calibration file that was applied to it; None: none.
    """

    json: str
    name: str = ""
    calibration: AppliedCalibration | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which records to read: ``since`` <= started < ``until`` in Unix seconds; ``graded``: only those with feedback.

    ``policy``: runs of this policy, and of its tiers alone (``policy/tier``).
    """

    since: float | None = None
    until: float | None = None
    policy: str | None = None
    graded: bool = False


class Store(Protocol):
    """One connection to a journal's database. Not safe for several threads at once."""

    def write(self, policies: Mapping[str, "StoredPolicy"], rows: Sequence[Row]) -> None:
        """Commits rows of ``COLUMNS``, and policies by hash, as a whole or not at all; those there stay."""
        ...

    def grade(self, run_id: str, quality: float, note: str | None, at: float) -> bool:
        """Commits a feedback; False where there is no such run."""
        ...

    def find(self, run_id: str) -> Record | None:
        """One record with its feedback, the last one last."""
        ...

    def read(self, selection: Filter) -> Iterator[Record]:
        """Records with their feedback in the order in which they were written, a page at a time."""
        ...

    def last(self, count: int) -> list[tuple[int, Record]]:
        """The ``count`` records written last, the newest last, each with its number."""
        ...

    def after(self, number: int) -> list[tuple[int, Record]]:
        """The records with a number above ``number``, in order, a page of them."""
        ...

    def policies(self) -> dict[str, str]:
        """Every stored policy's JSON by hash."""
        ...

    def prune(self, before: float | None, most: int) -> int:
        """Deletes the oldest records that began before ``before`` (None: any), ``most`` at a time; how many there were."""
        ...

    def megabytes(self) -> float | None:
        """The size of the records in millions of bytes, without free pages; None where the database does not say."""
        ...

    def probe(self) -> None:
        """Commits a write that changes nothing; raises what any write would raise."""
        ...

    def is_down(self, error: Exception) -> bool:
        """Whether an error is about reaching the database, so that the same write may succeed later."""
        ...

    def close(self) -> None:
        """Closes the connection."""
        ...


class SqlStore(Store):
    """The code that both databases share; each has its own ``execute``, ``transaction``, ``lock`` and types."""

    now_sql = "cascade_now()"
    """The time in seconds by a clock that everybody with this database shares and that does not jump."""
    lease_prefix = ""
    """The beginning of the keys of this era's leases; leases of another era have ended, whatever their times."""

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[Row]:
        """Runs one statement with ``?`` for its values and gives its rows."""
        raise NotImplementedError

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[Row]:
        """``execute`` for more rows than fit into memory, some at a time; read them all before the next transaction."""
        raise NotImplementedError

    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction, rolled back where its block raises."""
        raise NotImplementedError

    def commit_durably(self) -> None:
        """Has the commit of this transaction wait until a crash of the server cannot lose it; a file's always does."""

    def lock(self, names: Iterable[str]) -> None:
        """Locks these names until the transaction ends."""
        raise NotImplementedError

    def tag_sql(self, name: str) -> str:
        """The SQL of a tag as text; ``name`` is part of it, quoted."""
        raise NotImplementedError

    def write(self, policies: Mapping[str, StoredPolicy], rows: Sequence[Row]) -> None:
        """See ``Store.write``."""
        with self.transaction():
            for hash, policy in policies.items():
                applied = policy.calibration
                self.execute(
                    "INSERT INTO cascade_policies (hash, policy) VALUES (?, ?) ON CONFLICT DO NOTHING", (hash, policy.json)
                )
                if applied is not None:
                    self.execute(
                        "INSERT INTO cascade_calibrations (policy_hash, hash, policy, name, at, calibration) "
                        "VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                        (hash, applied.hash, policy.name, applied.name, time(), applied.text),
                    )
            for i in range(0, len(rows), ROWS_A_STATEMENT):
                self.insert(rows[i : i + ROWS_A_STATEMENT])

    def insert(self, rows: Sequence[Row]) -> None:
        """Inserts rows of ``COLUMNS`` in one statement; those whose run is there already stay as they are."""
        self.execute(_insert(len(rows)), [value for row in rows for value in row])

    def probe(self) -> None:
        """See ``Store.probe``."""
        with self.transaction():
            self.execute("UPDATE cascade_journal SET version = version")

    def grade(self, run_id: str, quality: float, note: str | None, at: float) -> bool:
        """See ``Store.grade``."""
        with self.transaction():
            if not self.execute("SELECT 1 FROM cascade_runs WHERE run_id = ?", (run_id,)):
                return False
            self.execute(
                "INSERT INTO cascade_feedback (run_id, quality, note, at) VALUES (?, ?, ?, ?)", (run_id, quality, note, at)
            )
        return True

    def find(self, run_id: str) -> Record | None:
        """See ``Store.find``."""
        rows = self.execute(f"{_SELECT} WHERE run_id = ?", (run_id,))
        return self._graded([to_record(row[1:]) for row in rows])[0] if rows else None

    def read(self, selection: Filter) -> Iterator[Record]:
        """See ``Store.read``."""
        where, values = _where(selection)
        number = 0
        while True:
            rows = self.execute(f"{_SELECT} WHERE id > ?{where} ORDER BY id LIMIT {_PAGE}", (number, *values))
            yield from self._graded([to_record(row[1:]) for row in rows])
            if len(rows) < _PAGE:
                return
            number = rows[-1][0]

    def last(self, count: int) -> list[tuple[int, Record]]:
        """See ``Store.last``."""
        rows = self.execute(f"{_SELECT} ORDER BY id DESC LIMIT ?", (count,))
        return [(row[0], to_record(row[1:])) for row in reversed(rows)]

    def after(self, number: int) -> list[tuple[int, Record]]:
        """See ``Store.after``."""
        rows = self.execute(f"{_SELECT} WHERE id > ? ORDER BY id LIMIT {_PAGE}", (number,))
        return [(row[0], to_record(row[1:])) for row in rows]

    def policies(self) -> dict[str, str]:
        """See ``Store.policies``."""
        return dict(self.execute("SELECT hash, policy FROM cascade_policies"))

    def prune(self, before: float | None, most: int) -> int:
        """See ``Store.prune``."""
        old, values = ("WHERE started < ?", [before]) if before is not None else ("", [])
        with self.transaction():
            rows = self.execute(f"SELECT id, run_id FROM cascade_runs {old} ORDER BY started LIMIT ?", [*values, most])
            for i in range(0, len(rows), 500):
                part = rows[i : i + 500]
                marks = ", ".join("?" * len(part))
                self.execute(f"DELETE FROM cascade_feedback WHERE run_id IN ({marks})", [row[1] for row in part])
                self.execute(f"DELETE FROM cascade_labels WHERE run_id IN ({marks})", [row[1] for row in part])
                self.execute(f"DELETE FROM cascade_shadows WHERE run_id IN ({marks})", [row[1] for row in part])
                self.execute(f"DELETE FROM cascade_runs WHERE id IN ({marks})", [row[0] for row in part])
        return len(rows)

    def _graded(self, records: Sequence[Record]) -> list[Record]:
        """The records with their feedback."""
        if not records:
            return []
        marks = ", ".join("?" * len(records))
        grades: dict[str, list[dict[str, Any]]] = {}
        for run_id, quality, note, at in self.execute(
            f"SELECT run_id, quality, note, at FROM cascade_feedback WHERE run_id IN ({marks}) ORDER BY id",
            [r.run_id for r in records],
        ):
            grades.setdefault(run_id, []).append({"quality": quality, "note": note, "at": at})
        shadows = shadows_of(self, [r.run_id for r in records if r.sampling_probability is not None])
        return [
            r._replace(feedback=grades.get(r.run_id, ()), shadows=shadows.get(r.run_id, ()))
            if r.run_id in grades or r.run_id in shadows
            else r
            for r in records
        ]


# As text: a driver that reads JSON itself would lose nothing, but the two would differ.
_SELECT = f"SELECT id, {', '.join(_PLAIN)}, CAST(tags AS TEXT), CAST(body AS TEXT) FROM cascade_runs"


def _insert(rows: int) -> str:
    marks = f"({', '.join('?' * len(COLUMNS))})"
    return (
        f"INSERT INTO cascade_runs ({', '.join(COLUMNS)}) VALUES {', '.join([marks] * rows)} ON CONFLICT (run_id) DO NOTHING"
    )


def _where(selection: Filter) -> tuple[str, list[Any]]:
    parts: list[str] = []
    values: list[Any] = []
    for condition, value in (
        ("started >= ?", selection.since),
        ("started < ?", selection.until),
    ):
        if value is not None:
            parts.append(f" AND {condition}")
            values.append(value)
    if selection.policy is not None:  # with its tiers alone: policy/tier
        parts.append(" AND (policy = ? OR substr(policy, 1, ?) = ?)")
        values += [selection.policy, len(selection.policy) + 1, f"{selection.policy}/"]
    if selection.graded:
        parts.append(" AND run_id IN (SELECT run_id FROM cascade_feedback)")
    return "".join(parts), values


def records_between(store: SqlStore, policy: str, policy_hash: str, *, above: int, up_to: int, most: int) -> list[Record]:
    """The first runs of a policy with a number in (above, up_to], without feedback and shadows."""
    rows = store.execute(
        f"{_SELECT} WHERE id > ? AND id <= ? AND policy = ? AND policy_hash = ? AND kind = 'run' ORDER BY id LIMIT ?",
        (above, up_to, policy, policy_hash, most),
    )
    return [to_record(row[1:]) for row in rows]


def shadows_of(store: SqlStore, run_ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The shadow rows of runs, by run id, each as plain data without what is unknown."""
    if not run_ids:
        return {}
    marks = ", ".join("?" * len(run_ids))
    rows = store.execute(
        f"SELECT run_id, {', '.join(SHADOW_COLUMNS)}, CAST(answer AS TEXT) FROM cascade_shadows "
        f"WHERE run_id IN ({marks}) ORDER BY id",
        list(run_ids),
    )
    shadows: dict[str, list[dict[str, Any]]] = {}
    for run_id, *values, answer in rows:
        entry = {name: value for name, value in zip(SHADOW_COLUMNS, values, strict=True) if value is not None}
        if "agrees" in entry:
            entry["agrees"] = bool(entry["agrees"])
        if answer is not None:
            entry["answer"] = json.loads(answer)
        shadows.setdefault(run_id, []).append(entry)
    return shadows
