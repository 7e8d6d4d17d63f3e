"""The option ``--engine`` of the commands."""

import argparse
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module

from cascade.util.extras import MissingExtraError, sentence

from .protocol import Engine, EngineError

HELP = "local (default), ray: Ray on this machine with a worker for each core, or ray://HOST:PORT: a Ray cluster"
_ADDRESS = re.compile(r"ray://(\[[0-9a-fA-F:]+\]|[^\s/:@]+):(\d{1,5})")


def add_argument(parser: argparse.ArgumentParser) -> None:
    """Adds ``--engine``."""
    parser.add_argument("--engine", default="local", metavar="E", help=HELP)


@contextmanager
def open_engine(text: str, *, workers: int | None = None) -> Iterator[Engine | None]:
    """The engine of a command, closed at the end.

    Args:
        text: The value of ``--engine``.
        workers: How many workers Ray on this machine gets; None: one for each core.

    Yields:
        The engine; None for ``local``.

    Raises:
        EngineError: The value is none of these, or no cluster answers at the address.
        MissingExtraError: Ray is not installed.
    """
    if text == "local":
        yield None
        return
    match = _ADDRESS.fullmatch(text)
    if text != "ray" and (match is None or not 0 < int(match[2]) < 65536):
        raise EngineError(f"--engine must be local, ray or ray://HOST:PORT, got {text!r}")
    try:
        import_module("ray")
    except ModuleNotFoundError as missing:
        if missing.name != "ray":
            raise
        raise MissingExtraError(sentence(f"--engine {text}", "ray"), name="ray") from None
    from .ray_engine import RayEngine

    engine = RayEngine.on_this_machine(workers) if match is None else RayEngine.at(match[1].strip("[]"), int(match[2]))
    try:
        yield engine
    finally:
        engine.close()
