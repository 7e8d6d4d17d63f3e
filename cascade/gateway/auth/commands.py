"""``python -m cascade keys create | list | rotate | revoke | log``."""

import argparse
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cascade.errors import CascadeError, JournalError
from cascade.gateway.environment import load_policies
from cascade.journal.key_log import add_key_command, key_commands
from cascade.journal.open_store import open_store
from cascade.journal.store import SqlStore
from cascade.policy import load as files
from cascade.policy.schema import PolicyFile
from cascade.util.spans import span_seconds
from cascade.util.suggestions import unknown

from .key import Key
from .key_file import KeyFile, beside
from .key_store import KeyStore
from .key_table import OPTION, KeyTable


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the commands to the parser of ``python -m cascade keys``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    create = commands.add_parser("create", help="create a key and print it, once")
    create.add_argument("name", help="the key's name; the journal tags its runs with it")
    create.add_argument(
        "--policy",
        action="append",
        help="allow this policy; repeat for more (default: all, with metrics and dashboard)",
    )
    create.add_argument("--usd-per-day", type=float, help="most USD that it may spend in a UTC day")
    create.add_argument("--per-minute", type=float, help="most requests per minute")
    create.set_defaults(command=_create)
    listing = commands.add_parser("list", help="list every key, without its text")
    listing.set_defaults(command=_list)
    rotate = commands.add_parser(
        "rotate", help="give a key a new text and print it, once; the old one stays valid for a while"
    )
    rotate.add_argument("name", help="its name or id")
    rotate.add_argument(
        "--overlap", default="24h", help="how long the present text stays valid, such as 1h or 7d (default 24h)"
    )
    rotate.set_defaults(command=_rotate)
    revoke = commands.add_parser("revoke", help="revoke a key; a running gateway rejects it within a second")
    revoke.add_argument("name", help="its name or id")
    revoke.set_defaults(command=_revoke)
    history = commands.add_parser("log", help="show who ran these commands and when, from the policy file's journal")
    history.set_defaults(command=_log)
    for command in (create, rotate):
        command.add_argument(
            "--expires", metavar="SPAN", help="how long the text is valid, such as 90d (default: until revoked)"
        )
    for command in (create, listing, rotate, revoke, history):
        command.add_argument("--policy-file", help="the policy file; the keys are next to it")
        command.add_argument("--keys", metavar="FILE", help=f"the key file, or {OPTION!r}: in the journal's database")


def key_store(keys: str | None, path: Path, file: PolicyFile) -> KeyStore:
    """The key store of a gateway.

    Args:
        keys: The value of ``--keys``; None: a file next to the policy file.
        path: The policy file's path.
        file: The policy file.

    Raises:
        CascadeError: The keys are to be in the journal, and there is none.
    """
    if keys == OPTION:
        return KeyTable(_journal(file, path))
    if keys is not None:
        return KeyFile(Path(keys))
    return KeyFile(beside(path, path == files.packaged()))


def _journal(file: PolicyFile, path: Path) -> str:
    if file.journal is None:
        raise CascadeError(f"{path}: has no key 'journal'; add one, or set CASCADE_JOURNAL")
    return file.journal.address()


@contextmanager
def _open(args: argparse.Namespace) -> Iterator[tuple[KeyStore, PolicyFile]]:
    path = files.find(args.policy_file)
    file = load_policies(path)
    store = key_store(args.keys, path, file)
    try:
        yield store, file
    finally:
        if isinstance(store, KeyTable):
            store.close()


def _create(args: argparse.Namespace) -> int:
    with _open(args) as (keys, file):
        for name in args.policy or ():
            if name not in file.policies and name.rpartition("/")[0] not in file.policies:
                raise CascadeError(unknown("policy", name, file.policies))
        for option, value in (("--usd-per-day", args.usd_per_day), ("--per-minute", args.per_minute)):
            if value is not None and not 0 < value < float("inf"):
                raise CascadeError(f"{option} must be more than 0, got {value}")
        key, secret = keys.create(
            args.name,
            policies=args.policy,
            usd_per_day=args.usd_per_day,
            per_minute=args.per_minute,
            expires=_expiry(args.expires),
        )
        print(f"{keys.where}: key {key.id} for {key.name}; it is not shown again:", file=sys.stderr)
        print(secret, flush=True)
        _record(file, "create", key, _limits(key))
    return 0


def _list(args: argparse.Namespace) -> int:
    with _open(args) as (keys, file):
        entries = keys.read()
        now = time.time()
        for key in entries:
            print(f"{key.id}  {key.name}  {_state(key, now)}  since {_date(key.created)}  {_limits(key)}")
        if not entries:
            print(f"{keys.where}: no keys", file=sys.stderr)
        _record(file, "list", None, "", create=False)
    return 0


def _rotate(args: argparse.Namespace) -> int:
    with _open(args) as (keys, file):
        overlap_s = _span("--overlap", args.overlap)
        key, secret = keys.rotate(args.name, overlap_s=overlap_s, expires=_expiry(args.expires))
        until = _time(key.previous_expires or 0.0)
        print(
            f"{keys.where}: key {key.id} for {key.name}; the present text is valid until {until}; the new one:",
            file=sys.stderr,
        )
        print(secret, flush=True)
        _record(file, "rotate", key, f"previous until {until}  {_limits(key)}")
    return 0


def _revoke(args: argparse.Namespace) -> int:
    with _open(args) as (keys, file):
        key = keys.revoke(args.name)
        print(f"{keys.where}: key {key.id} for {key.name} is revoked", file=sys.stderr)
        _record(file, "revoke", key, "")
    return 0


def _log(args: argparse.Namespace) -> int:
    path = files.find(args.policy_file)
    with _opened(_journal(load_policies(path), path), create=False) as store:
        for entry in key_commands(store):
            key = "" if entry.name is None else f"  {entry.key_id}  {entry.name}"
            print(f"{_time(entry.at)}  {entry.command}{key}  by {entry.actor}  {entry.details}".rstrip())
    return 0


def _record(file: PolicyFile, command: str, key: Key | None, details: str, *, create: bool = True) -> None:
    """Logs a command in the journal. Where the journal is unavailable the command still counts, and a line says so."""
    if file.journal is None:
        return
    try:
        with _opened(file.journal.address(), create=create) as store:
            add_key_command(
                store,
                command,
                key_id=None if key is None else key.id,
                name=None if key is None else key.name,
                details=details,
            )
    except CascadeError as error:
        if create:
            print(f"done, but not logged in the journal: {error}", file=sys.stderr)


@contextmanager
def _opened(url: str, *, create: bool) -> Iterator[SqlStore]:
    store = open_store(url, create=create)
    try:
        yield store
    except Exception as error:
        if not type(error).__module__.startswith(("sqlite3", "psycopg")):
            raise
        raise JournalError(f"the journal cannot be used ({type(error).__name__})") from None
    finally:
        store.close()


def _span(option: str, text: str) -> float:
    seconds = span_seconds(text)
    if seconds is None:
        raise CascadeError(f"{option}: {text!r} is not a span of time; write 36h or 90d")
    return seconds


def _expiry(text: str | None) -> float | None:
    if text is None:
        return None
    seconds = _span("--expires", text)
    if seconds <= 0:
        raise CascadeError("--expires must be more than 0")
    return time.time() + seconds


def _limits(key: Key) -> str:
    policies = "all policies" if key.policies is None else ", ".join(key.policies)
    day = "no budget" if key.usd_per_day is None else f"${key.usd_per_day:g} per day"
    rate = "no rate limit" if key.per_minute is None else f"{key.per_minute:g} per minute"
    expiry = "" if key.expires is None else f"  expires {_time(key.expires)}"
    return f"{policies}  {day}  {rate}{expiry}"


def _state(key: Key, now: float) -> str:
    if key.revoked is not None:
        return f"revoked {_date(key.revoked)}"
    state = "valid" if key.is_valid(now) else "expired"
    return f"{state}, previous text until {_time(key.previous_expires or 0.0)}" if key.previous_is_valid(now) else state


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
