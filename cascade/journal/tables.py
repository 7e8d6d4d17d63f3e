"""A journal's tables: the statements that make them in either database, and the version of their layout."""

from collections.abc import Collection, Iterable

from cascade.errors import JournalError

VERSION = 1
ADDED_COLUMNS = {"tiers_asked": "INTEGER", "sampling_probability": "DOUBLE PRECISION"}
"""Columns of ``cascade_runs`` that repeat what ``body`` says, so that sums need not read it; null in a row of an earlier
cascade. SQLite takes the types, too."""
ADDED_TABLES = (
    "cascade_shadows",
    "cascade_labels",
    "cascade_promises",
    "cascade_calibrations",
    "cascade_canaries",
    "cascade_anchors",
    "cascade_drifts",
)


def schema(number: str, real: str, json_: str, tags: str) -> Iterable[str]:
    """The statements that make the tables, in a database's own types; ``number`` is the type of a column that counts up."""
    texts = "run_id TEXT NOT NULL UNIQUE, kind TEXT NOT NULL"
    yield (
        f"CREATE TABLE cascade_runs (id {number}, {texts}, started {real} NOT NULL, ended {real} NOT NULL, "
        "policy TEXT NOT NULL, policy_hash TEXT NOT NULL, prompt_hash TEXT NOT NULL, accepted BOOLEAN NOT NULL, "
        f"reason TEXT NOT NULL, tier TEXT, model TEXT, confidence {real}, cost_usd {real}, premium_usd {real}, "
        f"latency_s {real} NOT NULL, error TEXT, tags {tags}, body {json_} NOT NULL, "
        f"{', '.join(f'{name} {kind}' for name, kind in ADDED_COLUMNS.items())})"
    )
    yield "CREATE INDEX cascade_runs_started ON cascade_runs (started)"
    yield "CREATE TABLE cascade_policies (hash TEXT PRIMARY KEY, policy TEXT NOT NULL)"
    yield (
        f"CREATE TABLE cascade_feedback (id {number}, run_id TEXT NOT NULL, quality {real} NOT NULL, note TEXT, "
        f"at {real} NOT NULL)"
    )
    yield "CREATE INDEX cascade_feedback_run_id ON cascade_feedback (run_id)"
    yield f"CREATE TABLE cascade_spent (scope TEXT PRIMARY KEY, usd {real} NOT NULL)"
    yield (
        f"CREATE TABLE cascade_held (key TEXT NOT NULL, scope TEXT NOT NULL, usd {real} NOT NULL, expires {real} NOT NULL, "
        "PRIMARY KEY (scope, key))"
    )
    yield from added_schema(number, real, json_, exists=False)
    yield "CREATE TABLE cascade_journal (version INTEGER NOT NULL)"
    yield f"INSERT INTO cascade_journal (version) VALUES ({VERSION})"


def added_schema(number: str, real: str, json_: str, *, exists: bool = True) -> Iterable[str]:
    """The statements that make the tables that a journal of an earlier cascade lacks; ``exists``: some may be there."""
    here = "IF NOT EXISTS " if exists else ""
    yield (
        f"CREATE TABLE {here}cascade_shadows (id {number}, run_id TEXT NOT NULL, tier TEXT NOT NULL, model TEXT NOT NULL, "
        f"policy TEXT NOT NULL, probability {real} NOT NULL, queued {real} NOT NULL, sent {real}, day TEXT, "
        f"state TEXT NOT NULL, estimate_usd {real}, cost_usd {real}, latency_s {real}, agrees BOOLEAN, error TEXT, "
        f"job {json_}, answer {json_}, UNIQUE (run_id, tier))"
    )
    yield f"CREATE INDEX {here}cascade_shadows_day ON cascade_shadows (policy, day)"
    yield f"CREATE INDEX {here}cascade_shadows_state ON cascade_shadows (state)"
    yield (
        f"CREATE TABLE {here}cascade_labels (run_id TEXT PRIMARY KEY, policy TEXT NOT NULL, policy_hash TEXT NOT NULL, "
        f"probability {real} NOT NULL, state TEXT NOT NULL, owner TEXT NOT NULL, number BIGINT, loss {real}, grader TEXT, "
        f"at {real} NOT NULL)"
    )
    yield f"CREATE INDEX {here}cascade_labels_number ON cascade_labels (policy, policy_hash, number)"
    yield (
        f"CREATE TABLE {here}cascade_anchors (id {number}, anchor TEXT NOT NULL, judge {real} NOT NULL, "
        f"human {real} NOT NULL, grader TEXT NOT NULL, at {real} NOT NULL)"
    )
    yield (
        f"CREATE TABLE {here}cascade_calibrations (policy_hash TEXT NOT NULL, hash TEXT NOT NULL, policy TEXT NOT NULL, "
        f"name TEXT NOT NULL, at {real} NOT NULL, calibration TEXT NOT NULL, PRIMARY KEY (policy_hash, hash))"
    )
    yield (
        f"CREATE TABLE {here}cascade_canaries (policy TEXT NOT NULL, candidate_hash TEXT NOT NULL, "
        f"present_hash TEXT NOT NULL, share {real} NOT NULL, state TEXT NOT NULL, reason TEXT NOT NULL, "
        f"labels BIGINT NOT NULL, number BIGINT NOT NULL, began {real} NOT NULL, at {real} NOT NULL, "
        f"tracker {json_} NOT NULL, PRIMARY KEY (policy, candidate_hash))"
    )
    yield (
        f"CREATE TABLE {here}cascade_promises (policy TEXT NOT NULL, policy_hash TEXT NOT NULL, state TEXT NOT NULL, "
        f"labels BIGINT NOT NULL, number BIGINT NOT NULL, at {real} NOT NULL, tracker {json_} NOT NULL, "
        "PRIMARY KEY (policy, policy_hash))"
    )
    yield (
        f"CREATE TABLE {here}cascade_drifts (policy TEXT NOT NULL, policy_hash TEXT NOT NULL, profile TEXT NOT NULL, "
        f"runs BIGINT NOT NULL, number BIGINT NOT NULL, at {real} NOT NULL, tracker {json_} NOT NULL, "
        "PRIMARY KEY (policy, policy_hash))"
    )


def missing_columns(present: Collection[str]) -> Iterable[str]:
    """The statements that add the columns of ``cascade_runs`` that a journal of an earlier cascade lacks."""
    for name, kind in ADDED_COLUMNS.items():
        if name not in present:
            yield f"ALTER TABLE cascade_runs ADD COLUMN {name} {kind}"


def check_version(version: int, where: str) -> None:
    """Raises JournalError for a journal that a newer cascade wrote."""
    if version > VERSION:
        raise JournalError(
            f"{where}: the journal has version {version}, this cascade reads up to {VERSION}; install a newer cascade-gate"
        )
