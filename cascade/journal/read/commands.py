"""``python -m cascade journal tail | show | export | verify | labels``."""

import argparse
import json
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from cascade.errors import JournalError, PolicyError, RunNotFoundError
from cascade.journal.open_store import open_store
from cascade.journal.store import Filter, SqlStore
from cascade.util.atomic_write import replacing
from cascade.util.messages import counted
from cascade.util.own_command import own_command
from cascade.util.spans import span_seconds

_FOLLOW_S = 0.5
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the journal's commands to the parser of ``python -m cascade journal``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    tail = commands.add_parser("tail", help="the last runs, a line each")
    tail.add_argument("-n", type=int, default=10, metavar="N", help="how many (default 10)")
    tail.add_argument("-f", action="store_true", dest="follow", help="continue with new runs as they end")
    tail.set_defaults(command=_tail)
    show = commands.add_parser("show", help="everything about one run")
    show.add_argument("run_id")
    show.set_defaults(command=_show)
    export = commands.add_parser("export", help="write records to a file")
    export.add_argument("out", help="the file, or '-' for standard output")
    export.add_argument("--format", choices=("jsonl", "parquet", "recording"), default="jsonl",
        help="recording: runs with text, as evals.replay reads them (default jsonl)")  # fmt: skip
    export.add_argument("--since", help="began at or after: 2026-01-31, 2026-01-31T12:00 (UTC), or 36h, 7d ago")
    export.add_argument("--until", help="began before")
    export.add_argument("--policy", help="of this policy")
    export.add_argument("--graded", action="store_true", help="with feedback")
    export.add_argument("--complete", action="store_true", help="recording: prompts that every exported model answered")
    export.add_argument("--task-tag", metavar="TAG", help="recording: the tag of a run that names its task (default: none)")
    export.set_defaults(command=_export)
    verify = commands.add_parser("verify", help="recompute every decision; exit status 1 where one differs from the record")
    verify.set_defaults(command=_verify)
    labels = commands.add_parser("labels", help="write people's verdicts on runs, as JSON Lines")
    labels.add_argument("out", help="the file, or '-' for standard output")
    labels.set_defaults(command=_labels)
    for command in (tail, show, export, verify, labels):
        command.add_argument("--journal", metavar="URL", help="sqlite:///file or postgresql://host/database")
        command.add_argument("--policy-file", help="whose journal to read, where no URL is given")


@contextmanager
def _opened(args: argparse.Namespace) -> Iterator[SqlStore]:
    """The journal that the arguments name, closed afterwards. Raises PolicyError, JournalError."""
    store = open_store(_url(args), create=False)
    try:
        yield store
    except Exception as error:
        if not type(error).__module__.startswith(("sqlite3", "psycopg")):
            raise
        raise JournalError(f"the journal cannot be read: {(str(error).splitlines() or [''])[0]}") from None
    finally:
        store.close()


def _url(args: argparse.Namespace) -> str:
    if args.journal:
        return str(args.journal)
    from cascade.policy import load as files

    path = files.find(args.policy_file)
    spec = files.load(args.policy_file).journal
    if spec is None:
        raise PolicyError(f"{path}: has no key 'journal'; add one, or name the journal with --journal URL")
    return spec.address()


def _say(text: str) -> None:
    """Prints text that a model may have written: without what would steer a terminal."""
    print(_CONTROL.sub(lambda m: f"\\x{ord(m[0]):02x}", text), flush=True)


def _tail(args: argparse.Namespace) -> int:
    from .render import line

    if args.n < 0:
        raise ValueError(f"-n must be 0 or more, got {args.n}")
    with _opened(args) as store, suppress(KeyboardInterrupt):
        # Numbers of records that commit at the same time may appear out of order: the latest are read again.
        seen: deque[int] = deque(maxlen=2_000)
        for number, record in store.last(args.n or 1):
            seen.append(number)
            if args.n:
                _say(line(record))
        while args.follow:
            time.sleep(_FOLLOW_S)
            for number, record in store.after(max(seen, default=0) - 1_000):
                if number not in seen and number > min(seen, default=0):
                    seen.append(number)
                    _say(line(record))
    return 0


def _show(args: argparse.Namespace) -> int:
    from .render import page

    with _opened(args) as store:
        record = store.find(args.run_id)
    if record is None:
        raise RunNotFoundError(args.run_id)
    for text in page(record):
        _say(text)
    return 0


def _export(args: argparse.Namespace) -> int:
    from .export import export

    now = time.time()
    selection = Filter(moment(args.since, now), moment(args.until, now), args.policy, args.graded)
    if args.out != "-" and not Path(args.out).resolve().parent.is_dir():
        raise JournalError(f"{args.out}: the folder does not exist; create it first")
    if args.format != "recording" and (args.complete or args.task_tag):
        raise JournalError("--complete and --task-tag are about recordings: add --format recording")
    with _opened(args) as store:
        count = export(
            store.read(selection), args.format, args.out, complete=args.complete, task_tag=args.task_tag, store=store
        )
    print(f"{args.out}: {count} {'examples' if args.format == 'recording' else 'records'}", file=sys.stderr)
    if args.format == "recording" and args.out != "-":
        source = f" --policy-file {args.policy_file}" if args.policy_file else ""
        policy = f" --policy {args.policy}" if args.policy else ""
        cascade = own_command()
        tuned = args.out if args.complete else f"{Path(args.out).stem}-complete.jsonl"
        ask = [] if args.complete else [f"{cascade} record {args.out} --missing{source}{policy} --max-usd 5 --out {tuned}"]
        commands = [
            *ask,
            f"{cascade} grade {tuned} --grader model:use=NAME{source} --max-usd 5",
            f"{cascade} replay {tuned}{source or ' --policy-file policies.yaml'}{policy} --max-loss 0.02,0.03,0.05 "
            "--write-policy tuned.yaml",
        ]
        first = "" if args.complete else "ask the models that have not answered yet, "
        print("\n  ".join([f"next: {first}grade the answers, tune on all:", *commands]), file=sys.stderr)
    return 0


def _labels(args: argparse.Namespace) -> int:
    from cascade.journal.review import human_labels

    with _opened(args) as store:
        lines = [json.dumps(line, ensure_ascii=True) + "\n" for line in human_labels(store)]
    if args.out == "-":
        sys.stdout.write("".join(lines))
    else:
        with replacing(args.out, private=True) as file:
            file.write("".join(lines).encode())
    print(f"{args.out}: {counted(len(lines), 'label')}", file=sys.stderr)
    return 0


def _verify(args: argparse.Namespace) -> int:
    from .verify import StoredPolicy, verify

    count = wrong = 0
    with _opened(args) as store:
        policies: dict[str, StoredPolicy] = {}
        for hash, text in store.policies().items():
            try:
                policies[hash] = StoredPolicy.of(hash, text)
            except (ValueError, KeyError, TypeError) as error:
                _say(f"{error}")
                wrong += 1
        for record in store.read(Filter()):
            count += 1
            try:
                differs = verify(record, policies.get(record.policy_hash))
            except (KeyError, TypeError, ValueError, IndexError) as error:
                differs = [f"the stored data is not a record ({type(error).__name__})"]
            wrong += bool(differs)
            for what in differs:
                _say(f"{record.run_id}: {what}")
    _say(
        f"{counted(count, 'record')}, {wrong} differ"
        if wrong
        else f"{counted(count, 'record')}, every decision follows from its verdicts"
    )
    return 1 if wrong else 0


def moment(text: str | None, now: float) -> float | None:
    """A time as Unix seconds: a date, a date and time (UTC where no zone is given), or a span before ``now``.

    Raises ValueError.
    """
    if text is None:
        return None
    if (span := span_seconds(text)) is not None:
        return now - span
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a time: give 2026-01-31, 2026-01-31T12:00, or a span such as 36h or 7d") from None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
