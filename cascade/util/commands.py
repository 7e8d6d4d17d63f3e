"""The commands of ``cascade``: what each is called, and how it is run so that an error prints one line only."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from .broken_pipe import quietly
from .extras import MissingExtraError, missing, needed_by
from .own_packages import check_own

_OURS = "evals"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command of another package, as ``cascade --help`` lists it.

    The entry points of the group ``cascade.commands`` name tuples of these. They are loaded for ``cascade --help``, so the
    module that holds them must be light.

    Attributes:
        name: The word after ``cascade``.
        group: The heading under which the help lists it.
        summary: One line for the help.
        target: ``module:function``; the function takes ``argv`` and ``prog`` and returns the exit status.
        service: ``module:function`` of the same work in a service, where there is one.
        parser: ``module:function``; the function takes ``prog`` and returns the parser of the arguments. Where its module is
            light, help and mistakes in the arguments are printed at once: the target's module is imported after that.
    """

    name: str
    group: str
    summary: str
    target: str
    service: str | None = None
    parser: str | None = None

    def run(self, argv: list[str], prog: str) -> int:
        """Runs the command with these arguments; ``prog`` is how its help calls it. Returns the exit status."""
        with needed_by(prog):
            if self.parser is not None:
                target_of(self.parser)(prog).parse_args(argv)
            return int(target_of(self.target)(argv, prog=prog))


def target_of(name: str) -> Callable[..., Any]:
    """The function of ``module:function``, whose module is imported."""
    module, _, function = name.partition(":")
    target: Callable[..., Any] = getattr(import_module(module), function)
    return target


def installed_commands() -> dict[str, Command]:
    """The commands that installed packages add: evals, which is a floor above cascade and must not be imported here.

    Raises NameCollisionError where another ``evals`` is in the way of ours.
    """
    from importlib.metadata import entry_points

    commands: dict[str, Command] = {}
    for point in entry_points(group="cascade.commands"):
        if point.module.partition(".")[0] == _OURS:
            check_own(_OURS, started=True)
        for command in point.load():
            commands.setdefault(command.name, command)
    return commands


def exit_status(run: Callable[[], int], name: str) -> int:
    """The exit status of a command: 2, with one line on standard error, where an optional package is missing.

    A reader that has gone, as in ``... | head``, ends the command without a word.
    """
    try:
        return quietly(run)
    except MissingExtraError as error:
        print(f"cascade: {error}", file=sys.stderr)
    except ModuleNotFoundError as error:
        message = missing(error, name)
        if message is None:
            raise
        print(f"cascade: {message}", file=sys.stderr)
    return 2


def run_module(target: str, name: str, parser: str | None = None) -> int:
    """Runs the ``main`` of a module, as ``python -m`` does; the module is imported here, so that what it lacks is one line.

    Args:
        target: The module that has ``main``.
        name: What the command is called, for the message about a missing package.
        parser: ``module:function``, as that of a Command.

    Returns:
        The exit status.
    """

    def run() -> int:
        if parser is not None:
            target_of(parser)(f"python -m {name}").parse_args()
        return int(import_module(target).main())

    return exit_status(run, name)
