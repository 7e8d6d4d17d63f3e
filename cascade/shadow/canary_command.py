"""``cascade canary``: compares a candidate calibration, and promotes or aborts it."""

import argparse
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from cascade.journal.canaries import ArmTotals, Canary, CanaryBook, CanaryState
from cascade.journal.open_store import open_store
from cascade.journal.promises import PromiseBook
from cascade.policy import load as policy_files
from cascade.policy.schema import PolicyFile
from cascade.promise.canary import ArmSums
from cascade.promise.states import PromiseState
from cascade.util.atomic_write import replacing
from cascade.util.plain_data import usd
from cascade.util.suggestions import nearest

from .canary_monitor import in_words
from .promise_monitor import WatchedPolicy

_DECISIONS = {
    "promote": (CanaryState.PROMOTED, "use the candidate for all runs"),
    "abort": (CanaryState.ABORTED, "use the candidate for no run, even after a promotion"),
    "restart": (CanaryState.RUNNING, "compare again, with the runs that begin from now on"),
}


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``cascade canary``."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--policy-file", help="default: CASCADE_POLICIES, ./policies.yaml, the packaged file")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    status = commands.add_parser(
        "status", parents=[common], help="compare the two calibrations; exit status 1 where one is aborted"
    )
    status.add_argument("--policy", help="only this policy")
    status.set_defaults(command=_status)
    for name, (state, help_text) in _DECISIONS.items():
        decide = commands.add_parser(name, parents=[common], help=help_text)
        decide.add_argument("--policy", help="which policy; may be left out where only one has a canary")
        decide.set_defaults(command=partial(_decide, state=state))
    history = commands.add_parser("history", parents=[common], help="list every calibration that runs have used")
    history.set_defaults(command=_history)
    restore = commands.add_parser("restore", parents=[common], help="write a calibration that runs have used to a file")
    restore.add_argument("hash", help="the beginning of its hash, as `cascade canary history` prints it")
    restore.add_argument("--out", required=True, metavar="FILE", help="the file to write")
    restore.set_defaults(command=_restore)


def _status(args: argparse.Namespace) -> int:
    path, file, canaries = _canaries(args.policy_file, args.policy)
    if not canaries:
        print(f"{path}: no policy has the key canary; see docs/how-to/roll-out-a-calibration.md")
        return 0
    book, aborted = _book(path, file), False
    try:
        for name, canary in canaries.items():
            update = book.look(canary)
            aborted = aborted or update.state is CanaryState.ABORTED
            print(f"{name}: {in_words(update)}")
            print(f"  since {_when(update.began)}")
            candidate, present = book.totals(canary, update.began)
            print(f"  candidate  {_in_line(candidate, update.comparison.candidate)}")
            print(f"  present    {_in_line(present, update.comparison.present)}")
            if update.state is CanaryState.RUNNING and (action := _in_force(file, name)) is not None:
                print(f"  no run has the candidate: the promise is broken, and on_broken: {action} is in force")
    finally:
        book.close()
    return 1 if aborted else 0


def _in_force(file: PolicyFile, name: str) -> str | None:
    """What a policy does since its promise is broken, in place of comparing calibrations; None: it compares them."""
    one = WatchedPolicy.of(file.policies[name])
    if one is None or one.spec.on_broken == "warn" or file.journal is None:
        return None
    book = PromiseBook(partial(open_store, file.journal.address(), create=False))
    try:
        state = book.look(name, one.hash, one.promise, one.floor).state
    finally:
        book.close()
    return one.spec.on_broken if state is PromiseState.BROKEN else None


def _decide(args: argparse.Namespace, *, state: CanaryState) -> int:
    path, file, canaries = _canaries(args.policy_file, args.policy)
    if len(canaries) != 1:
        which = f"say which with --policy: {', '.join(canaries)}" if canaries else "no policy has the key canary"
        raise ValueError(f"{path}: {which}")
    ((name, canary),) = canaries.items()
    book = _book(path, file)
    try:
        update = book.decide(canary, state)
    finally:
        book.close()
    print(f"{name}: {in_words(update)}")
    print("processes in service follow within 30 seconds; restarts keep it")
    spec = file.policies[name].canary
    if state is CanaryState.PROMOTED and spec is not None:
        print(f"then tidy up {path}: set policies.{name}.calibration to {spec.calibration} and remove canary")
        print(f"to go back before that: cascade canary abort --policy {name}")
    if state is CanaryState.ABORTED:
        print(f"then tidy up {path}: remove policies.{name}.canary")
    return 0


def _history(args: argparse.Namespace) -> int:
    path = policy_files.find(args.policy_file)
    book = _book(path, policy_files.load(path, calibrated=False))
    try:
        calibrations = book.calibrations()
    finally:
        book.close()
    for one in calibrations:
        print(f"{_when(one.at)}  {one.hash[:12]}  {one.policy} (hash {one.policy_hash}): {one.name}")
    if not calibrations:
        print("no run in the journal had a calibration")
    return 0


def _restore(args: argparse.Namespace) -> int:
    path = policy_files.find(args.policy_file)
    if len(args.hash) < 6:
        raise ValueError(f"{args.hash!r}: give at least 6 digits of the hash")
    book = _book(path, policy_files.load(path, calibrated=False))
    try:
        texts = book.calibration(args.hash.lower())
    finally:
        book.close()
    if len(texts) != 1:
        problem = "no calibration" if not texts else f"{len(texts)} calibrations"
        raise ValueError(f"{args.hash}: {problem} in the journal with a hash that begins so; see cascade canary history")
    with replacing(args.out) as out:
        out.write(texts[0].encode())
    print(f"{args.out}: written; name it in a policy: calibration: {args.out}")
    return 0


def _canaries(file: str | None, policy: str | None) -> tuple[Path, PolicyFile, Mapping[str, Canary]]:
    path = policy_files.find(file)
    content = policy_files.load(path)
    if policy is not None and policy not in content.policies:
        raise ValueError(f"{path}: unknown policy {policy!r}{nearest(policy, list(content.policies))}")
    every = {name: Canary.of(name, one) for name, one in content.policies.items() if policy in (None, name)}
    return path, content, {name: canary for name, canary in every.items() if canary is not None}


def _book(path: Path, file: PolicyFile) -> CanaryBook:
    if file.journal is None:
        raise ValueError(f"{path}: there is no journal; add the key journal")
    return CanaryBook(partial(open_store, file.journal.address(), create=False))


def _in_line(totals: ArmTotals, sums: ArmSums) -> str:
    """The runs of one calibration."""
    line = f"{totals.runs} runs, {totals.accepted} accepted, {totals.unanswered} unanswered"
    if totals.runs:
        latency = "unknown" if totals.latency_s is None else f"{totals.latency_s:.2f} s"
        line += f", mean cost {usd(totals.cost_usd)}, mean latency {latency}"
    return f"{line}; {sums.n} labels" + ("" if sums.mean_loss is None else f", mean loss {sums.mean_loss:+.4f}")


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
