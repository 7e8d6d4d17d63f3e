"""Detects that another ``judges`` or ``evals`` comes before the project's own, and says which file is in the way.

The three top-level packages are installed side by side. A user's own ``judges.py``, in the working directory of
``python -m`` or next to a script, would otherwise be imported in place of ours and fail as a circular import.
"""

import sys
from importlib.machinery import PathFinder
from os.path import basename, dirname, join, realpath
from typing import NoReturn

_TOP = dirname(dirname(dirname(__file__)))


class NameCollisionError(ImportError):
    """A module that has the name of one of the project's packages is found before it."""


def check_own(name: str) -> None:
    """Checks that ``name`` is found where ``cascade`` was found.

    Args:
        name: A top-level package of the project.

    Raises:
        NameCollisionError: Another module of that name comes first.
        SystemExit: The same, while ``python -m`` or the console script starts a command: one line, status 2.
    """
    loaded = sys.modules.get(name)
    spec = PathFinder.find_spec(name) if loaded is None else getattr(loaded, "__spec__", None)
    if spec is None:
        return
    expected = join(_TOP, name, "__init__.py")
    origin = spec.origin or ""
    if origin == expected or realpath(origin) == realpath(expected):
        return
    raise_collision(name, origin)


def raise_collision(name: str, origin: str) -> NoReturn:
    """Raises NameCollisionError for the file ``origin``; while a command starts, ends it with that one line and status 2."""
    message = (
        f"cascade needs its own package {name!r}, but {origin} comes first on Python's path. Rename that file or folder, "
        "or use the command `cascade` (or `python -P`), which leaves out the working directory."
    )
    if starts_command():
        print(f"cascade: {message}", file=sys.stderr)
        raise SystemExit(2)
    raise NameCollisionError(message, name=name, path=origin)


def starts_command() -> bool:
    """Whether ``python -m`` is looking for the module to run, or the console script ``cascade`` runs."""
    command = sys.argv[0] if sys.argv else ""
    return command == "-m" or basename(command) in ("cascade", "cascade.exe")
