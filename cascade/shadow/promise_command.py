"""``cascade promise``: whether each policy's promise is kept, and whether its traffic is still like the recording."""

import argparse
from functools import partial

from cascade.journal.drifts import DriftBook, WatchedTraffic
from cascade.journal.open_store import open_store
from cascade.journal.promises import PromiseBook
from cascade.policy import load as policy_files
from cascade.promise.states import PromiseState
from cascade.util.suggestions import unknown

from .drift_monitor import in_words as drift_in_words
from .promise_monitor import WatchedPolicy, in_words


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``cascade promise``."""
    parser.add_argument("--policy-file", help="default: CASCADE_POLICIES, ./policies.yaml, the packaged file")
    parser.add_argument("--policy", help="only this policy")
    parser.add_argument("--reset", action="store_true", help="begin again with the labels and runs that come from now on")
    parser.set_defaults(command=_promise)


def _promise(args: argparse.Namespace) -> int:
    """Prints a line for each promise; the exit code is 1 where one is in doubt or broken."""
    path = policy_files.find(args.policy_file)
    file = policy_files.load(path)
    watched = {name: one for name, policy in file.policies.items() if (one := WatchedPolicy.of(policy)) is not None}
    if args.policy is not None:
        if args.policy not in file.policies:
            raise ValueError(f"{path}: {unknown('policy', args.policy, file.policies)}")
        watched = {name: one for name, one in watched.items() if name == args.policy}
    traffic = {
        name: compared
        for name, policy in file.policies.items()
        if args.policy in (None, name) and (compared := WatchedTraffic.of(policy)) is not None
    }
    if not (watched or traffic) or file.journal is None:
        print(f"{path}: no policy has the key promise or drift; see docs/how-to/watch-a-promise.md")
        return 0
    if args.reset and args.policy is None:
        raise ValueError("--reset needs --policy: it forgets what is known of a promise and of its traffic")
    connect = partial(open_store, file.journal.address(), create=False)
    book, drift_book = PromiseBook(connect), DriftBook(connect)
    bad = False
    try:
        for name, one in watched.items():
            if args.reset:
                book.reset(name, one.hash, one.promise)
            update = book.look(name, one.hash, one.promise, one.floor)
            bad = bad or update.state in (PromiseState.IN_DOUBT, PromiseState.BROKEN)
            print(f"{name}: {in_words(update)}")
        for name, compared in traffic.items():
            if args.reset:
                drift_book.reset(name, compared)
            checks = drift_book.look(name, compared)
            if checks is None:
                print(f"{name}: its traffic was not compared with the recording yet")
            for check in () if checks is None else checks.checks:
                print(f"{name}: {drift_in_words(check)}")
    finally:
        book.close()
        drift_book.close()
    return 1 if bad else 0
