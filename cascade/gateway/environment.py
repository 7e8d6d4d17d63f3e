"""Settings from a container's environment variables: address, workers, the URLs of journal and shared state."""

import argparse
import os
from pathlib import Path

from cascade.errors import CascadeError
from cascade.policy import load as files
from cascade.policy.journal_config import JournalSpec
from cascade.policy.schema import PolicyFile
from cascade.policy.state_spec import StateSpec

JOURNAL, STATE = "CASCADE_JOURNAL", "CASCADE_STATE"


def set_defaults(args: argparse.Namespace) -> None:
    """Sets the options of ``cascade serve`` that are absent by CASCADE_HOST, CASCADE_PORT and CASCADE_WORKERS.

    Raises:
        CascadeError: A variable does not hold a number in its range.
    """
    args.host = args.host or os.environ.get("CASCADE_HOST") or "127.0.0.1"
    args.port = number_of("CASCADE_PORT", 65_535, 8000) if args.port is None else args.port
    args.workers = number_of("CASCADE_WORKERS", 256, 0) or None if args.workers is None else args.workers


def load_policies(path: Path | None) -> PolicyFile:
    """The policy file, with the journal of CASCADE_JOURNAL and the shared state of CASCADE_STATE in place of its own.

    Raises:
        PolicyError: The file is missing or wrong.
    """
    file = files.load(path)
    if os.environ.get(STATE):
        fail = "closed" if file.state is None else file.state.fail
        file = file.model_copy(update={"state": StateSpec(url=None, url_env=STATE, fail=fail)})
    if not os.environ.get(JOURNAL):
        return file
    journal = file.journal
    settings = {} if journal is None else journal.model_dump(include={"durability", "keep_days"})
    return file.model_copy(update={"journal": JournalSpec(url_env=JOURNAL, **settings)})


def number_of(variable: str, most: int, default: int) -> int:
    """A whole number in an environment variable, or the default where it is not set. Raises CascadeError for another."""
    text = os.environ.get(variable) or ""
    if not text:
        return default
    if not text.isascii() or not text.isdigit() or int(text) > most:
        raise CascadeError(f"{variable}={text}: must be a whole number up to {most}")
    return int(text)
