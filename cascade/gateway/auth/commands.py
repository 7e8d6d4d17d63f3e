"""``python -m cascade keys create | list | revoke``."""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from cascade.errors import CascadeError
from cascade.policy import load as files
from cascade.policy.schema import PolicyFile
from cascade.util.suggestions import unknown

from .key_file import KeyFile, beside


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
    revoke = commands.add_parser("revoke", help="revoke a key; a running gateway rejects it within a second")
    revoke.add_argument("name", help="its name or id")
    revoke.set_defaults(command=_revoke)
    for command in (create, listing, revoke):
        command.add_argument("--policy-file", help="the policy file; the keys are next to it")
        command.add_argument("--keys", metavar="FILE", help="the key file")


def key_file(keys: str | None, path: Path) -> KeyFile:
    """The key file that belongs to a policy file, or the one that ``--keys`` names."""
    if keys is not None:
        return KeyFile(Path(keys))
    return KeyFile(beside(path, path == files.packaged()))


def _open(args: argparse.Namespace) -> tuple[KeyFile, PolicyFile]:
    path = files.find(args.policy_file)
    file = files.load(path)
    return key_file(args.keys, path), file


def _create(args: argparse.Namespace) -> int:
    keys, file = _open(args)
    for name in args.policy or ():
        if name not in file.policies and name.rpartition("/")[0] not in file.policies:
            raise CascadeError(unknown("policy", name, file.policies))
    for option, value in (("--usd-per-day", args.usd_per_day), ("--per-minute", args.per_minute)):
        if value is not None and not 0 < value < float("inf"):
            raise CascadeError(f"{option} must be more than 0, got {value}")
    key, secret = keys.create(args.name, policies=args.policy, usd_per_day=args.usd_per_day, per_minute=args.per_minute)
    print(f"{keys.path}: key {key.id} for {key.name}; it is not shown again:", file=sys.stderr)
    print(secret)
    return 0


def _list(args: argparse.Namespace) -> int:
    keys, _ = _open(args)
    entries = keys.read()
    for key in entries:
        policies = "all policies" if key.policies is None else ", ".join(key.policies)
        day = "no budget" if key.usd_per_day is None else f"${key.usd_per_day:g} per day"
        rate = "no rate limit" if key.per_minute is None else f"{key.per_minute:g} per minute"
        state = "valid" if key.revoked is None else f"revoked {_date(key.revoked)}"
        print(f"{key.id}  {key.name}  {state}  since {_date(key.created)}  {policies}  {day}  {rate}")
    if not entries:
        print(f"{keys.path}: no keys", file=sys.stderr)
    return 0


def _revoke(args: argparse.Namespace) -> int:
    keys, _ = _open(args)
    key = keys.revoke(args.name)
    print(f"{keys.path}: key {key.id} for {key.name} is revoked", file=sys.stderr)
    return 0


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d")
