"""``cascade audit``: what went where, what it cost and saved, whether the promise holds, and what to change."""

import argparse
import csv
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from cascade import CascadeError
from cascade.journal.open_store import open_store
from cascade.journal.promises import PromiseBook
from cascade.journal.read.commands import moment
from cascade.journal.store import Filter, SqlStore
from cascade.policy import load as policy_files
from cascade.policy.schema import PolicyFile
from cascade.util.argument_parser import CommandParser
from cascade.util.atomic_write import replacing
from cascade.util.broken_pipe import quietly
from cascade.util.messages import error_line
from evals.engines import Engine, add_argument, open_engine

from .audit_page import page
from .grading.shadow_grading import read_references
from .parquet_store import ParquetStore
from .period import Audit, add_promises, audit, day_text
from .prompt_drift import PromptDrift
from .propose import Proposal, propose
from .quality import PolicyQuality
from .traffic import DIMENSIONS

EXAMPLES = """examples:
  cascade audit --since 14d
  cascade audit --since 14d --policy default --html audit.html --json audit.json --csv audit.csv
"""


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description="Audit the runs of a period: what went where, what it cost and saved, what quality was lost (by the "
        "labels of sampled runs), and what to change. The exit code is 1 where a promise is in doubt or broken.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--since", default="14d", help="began at or after: 2026-01-31, or 36h, 14d ago (default 14d)")
    add("--until", help="began before (default: now)")
    add("--policy", help="of this policy")
    add("--policy-file", help="whose journal and policies are audited (default: the usual search)")
    add(
        "--parquet",
        metavar="FILE",
        help="audit exports of the journal in its place: a file, or a pattern in quotes",
    )
    add("--recording", metavar="FILE", help="the recording that the policy was tuned on: are the prompts like its own?")
    add("--html", metavar="FILE", help="write one page that needs nothing else")
    add("--json", metavar="FILE", help="write everything as JSON; '-' is standard output")
    add("--csv", metavar="FILE", help="write a row for each group")
    add(
        "--propose",
        metavar="DIR",
        help="tune again on the sampled runs; write the calibration here",
    )
    add(
        "--grader",
        metavar="NAME[:OPTION=VALUE]",
        help="with --propose: grades the answers of all tiers, as cascade grade does",
    )
    add("--references", metavar="FILE",
        help="with --propose: JSON Lines with a reference, and the run_id or prompt_hash of the run")  # fmt: skip
    add("--max-usd", type=float, metavar="X", help="with --propose: the most that a model as grader may cost")
    add_argument(parser)
    return parser


def main(
    argv: Sequence[str] | None = None,
    paid: Callable[[float], None] | None = None,
    *,
    prog: str = "cascade audit",
    engine: Engine | None = None,
) -> int:
    """The command; returns the exit code: 0, 1 where a promise is in doubt or broken, 2 where the input is wrong.

    ``engine`` is one that is open already; by default ``--engine`` says which.
    """
    args = _parser(prog).parse_args(argv)
    try:
        return _run(args, engine)
    except (CascadeError, OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2


def _run(args: argparse.Namespace, engine: Engine | None) -> int:
    path = policy_files.find(args.policy_file)
    file = policy_files.load(path)
    if file.journal is None and args.parquet is None:
        raise ValueError(f"{path}: has no key 'journal'; add one: what is audited is there")
    if args.parquet is not None and args.propose is not None:
        raise ValueError("--propose reads the journal; leave out --parquet")
    if args.policy is not None and args.policy not in file.policies:
        raise ValueError(f"{path}: unknown policy {args.policy!r}; known: {', '.join(file.policies)}")
    now = time.time()
    since, until = moment(args.since, now), moment(args.until, now) or now
    assert since is not None
    if not since < until:
        raise ValueError("--since must lie before --until")
    connect = partial(_open, args.parquet, file)
    with open_engine(args.engine) if engine is None else nullcontext(engine) as engine:
        store = connect()
        book = PromiseBook(connect)
        try:
            prompts = None if args.recording is None else PromptDrift.of(args.recording, engine)
            result = audit(store, file, since=since, until=until, policy=args.policy, prompts=prompts, engine=engine)
            add_promises(result, file, book, args.policy)
        finally:
            store.close()
            book.close()
        _write(result, args)
        proposal = _proposal(args, path, file)
        if proposal is not None:
            store = connect()
            try:
                runs = store.read(Filter(since=since, until=until, policy=proposal.policy))
                status = propose(proposal, runs, engine)
            finally:
                store.close()
            if status:
                return status
    if args.json != "-":
        print("\n".join(lines(result)))
    return 1 if result.is_bad else 0


def _open(parquet: str | None, file: PolicyFile) -> SqlStore:
    """What is audited: Parquet files, or the journal of the policy file."""
    if parquet is not None:
        return ParquetStore(parquet)
    assert file.journal is not None
    return open_store(file.journal.address(), create=False)


def _proposal(args: argparse.Namespace, path: Path, file: PolicyFile) -> Proposal | None:
    """What --propose asks for; None without it. Raises ValueError where something is missing."""
    if args.propose is None:
        if args.grader or args.references or args.max_usd is not None:
            raise ValueError("--grader, --references and --max-usd need --propose DIR")
        return None
    if args.grader is None:
        raise ValueError("--propose needs --grader: thresholds are tuned on graded answers")
    name = args.policy or ("default" if "default" in file.policies else next(iter(file.policies)))
    promise = file.policies[name].promise
    if promise is None or promise.max_loss is None:
        raise ValueError(f"{path}: policies.{name} has no promise: --propose certifies its max_loss")
    return Proposal(
        policy_file=path,
        policy=name,
        folder=Path(args.propose),
        grader=args.grader,
        max_loss=promise.max_loss,
        references=read_references(args.references),
        max_usd=args.max_usd,
    )


def _write(result: Audit, args: argparse.Namespace) -> None:
    data = result.to_json()
    if args.json == "-":
        print(json.dumps(data, indent=2))
    elif args.json:
        with replacing(args.json, private=True) as file:
            file.write(json.dumps(data, indent=2).encode() + b"\n")
    if args.csv:
        with open(args.csv, "w", encoding="utf-8", newline="") as text:
            write_csv(data["traffic"], text)
    if args.html:
        with replacing(args.html, private=True) as file:
            file.write(page(result).encode())


def write_csv(traffic: Mapping[str, Any], file: Any) -> None:
    """A row for each group of each dimension."""
    names = [name for name in traffic["total"] if name != "saved_interval"]
    writer = csv.writer(file)
    writer.writerow(["dimension", "group", *names, "saved_low", "saved_high"])
    rows = [("total", "", traffic["total"])]
    rows += [(name, key, group) for name in DIMENSIONS for key, group in traffic[f"by_{name}"].items()]
    for name, key, group in rows:
        low, high = group["saved_interval"] or (None, None)
        # A spreadsheet would take a name that begins like a formula for one.
        safe = f"'{key}" if key[:1] in ("=", "+", "-", "@") else key
        writer.writerow([name, safe, *(group[field] for field in names), low, high])


def lines(result: Audit) -> list[str]:
    """The audit as text: what somebody on call wants to read."""
    total, before = result.now.total, result.before.total
    period = f"{day_text(result.since)} to {day_text(result.until)} UTC"
    out = [f"{period}: {total.runs:,} runs ({before.runs:,} in the period before)"]
    out.append(
        f"answered {total.answered:,}; escalated {total.escalated:,}; stopped by a budget or cap {total.stopped:,}; "
        f"without an answer {total.failed:,}"
    )
    spent = f"spent ${total.usd:.4f}" + (f", and {total.unpriced:,} runs of unknown cost" if total.unpriced else "")
    out.append(f"{spent} (${before.usd:.4f} in the period before)")
    if total.compared:
        limits = total.saved_interval
        text = "" if limits is None else f" (95 %: ${limits[0]:.4f} to ${limits[1]:.4f})"
        share = f", {total.saved_usd / total.premium_usd:.0%} of premium's cost" if total.premium_usd else ""
        out.append(
            f"saved ${total.saved_usd:.4f}{text}{share}, by {total.compared:,} answered runs; what premium would have cost "
            f"was measured in {total.measured:,} of them, and is estimated in the others"
        )
    for name, quality in result.qualities.items():
        out += [f"{name}: {text}" for text in _quality_lines(quality)]
    out += [f"{name}: {text}" for name, text in result.promises.items()]
    out += [f"{name}: {text}" for name, text in result.prompt_lines.items()]
    for number, change in enumerate(result.changes, 1):
        out += ["", f"{number}. {change.title}", f"   price: {change.price}", f"   effect: {change.effect}"]
        out += [f"   | {line}" for line in change.lines.splitlines()]
    return out


def _quality_lines(quality: PolicyQuality) -> Iterator[str]:
    loss = quality.loss()
    if loss is not None:
        yield (
            f"mean loss against premium {loss.mean:+.4f} (95 % at every look: {loss.lower:+.4f} to {loss.upper:+.4f}), "
            f"by {loss.labels:,} labels of {quality.sampled:,} sampled runs"
        )
    elif quality.sampled:
        yield f"{quality.sampled:,} sampled runs, none of them graded; run cascade grade-shadows"
    if quality.people is not None:
        yield quality.people.words
    if quality.measured and quality.estimated_usd:
        ratio = quality.measured_usd / quality.estimated_usd
        yield f"premium's measured cost is {ratio:.2f} times its estimate, by {quality.measured:,} shadowed runs"
    if quality.escalated:
        yield (
            f"{quality.useless:,} of {quality.escalated:,} escalated runs with text returned what the first tier had said "
            f"(${quality.useless_usd:.4f})"
        )


if __name__ == "__main__":
    raise SystemExit(quietly(main))
