"""Detects that another ``judges`` or ``evals`` is in the way of the project's own, and says which file it is.

The three top-level packages are installed side by side. A user's own ``judges.py``, in the working directory of
``python -m`` or next to a script, would otherwise be imported in place of ours and fail as a circular import. So would
another distribution of that name, which may also have been installed over our files.
"""

import sys
from importlib.machinery import PathFinder
from os.path import basename, dirname, join, realpath

_TOP = dirname(dirname(dirname(__file__)))
_MARK = b"cascade-gate"
"""What the first lines of ``__init__.py`` of each of our packages contain."""
_INSTALLED = ("site-packages", "dist-packages")
_SCRIPTS = ("cascade", "cascade.exe")
_OWN_ENVIRONMENT = "Install cascade-gate in an environment of its own."


class NameCollisionError(ImportError):
    """Another module that has the name of one of the project's packages is in its place, or found before it."""


def check_own(name: str, *, started: bool = False) -> None:
    """Checks that ``name`` is found where ``cascade`` was found, and is ours.

    Args:
        name: A top-level package of the project.
        started: Whether the command is running already, and prints errors itself.

    Raises:
        NameCollisionError: Another module of that name comes first, or was installed over ours.
        SystemExit: The same, while ``python -m`` or the console script starts a command: one line, status 2.
    """
    loaded = sys.modules.get(name)
    spec = PathFinder.find_spec(name) if loaded is None else getattr(loaded, "__spec__", None)
    if spec is None:
        return
    folder = join(_TOP, name)
    expected = join(folder, "__init__.py")
    origin = spec.origin or next(iter(spec.submodule_search_locations or ()), name)  # a folder without __init__.py
    if realpath(origin) == realpath(folder):
        problem = f"{expected} is missing. Install cascade-gate again."
    elif origin != expected and realpath(origin) != realpath(expected):
        problem = f"{origin} comes first on Python's path. {_remedy(origin)}"
    elif not _is_ours(expected):
        problem = f"{origin} was overwritten by {_distributions(name)}. {_OWN_ENVIRONMENT}"
    else:
        return
    message = f"cascade needs its own package {name!r}, but {problem}"
    if not started and starts_command():
        print(f"cascade: {message}", file=sys.stderr)
        raise SystemExit(2)
    raise NameCollisionError(message, name=name, path=origin)


def _is_ours(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            return _MARK in file.read(500)
    except OSError:  # in a zip file
        return True


def _remedy(origin: str) -> str:
    if any(folder in origin for folder in _INSTALLED):
        return _OWN_ENVIRONMENT
    if sys.flags.safe_path or basename(sys.argv[0] if sys.argv else "") in _SCRIPTS:  # without the working directory
        return "Rename that file or folder, or remove its folder from PYTHONPATH."
    return (
        "Rename that file or folder, or use the command `cascade` (or `python -P`), which leaves out the working directory."
    )


def _distributions(name: str) -> str:
    from importlib.metadata import packages_distributions

    others = sorted(set(packages_distributions().get(name, [])) - {_MARK.decode()})
    return f"another distribution ({', '.join(others)})" if others else "another distribution"


def starts_command() -> bool:
    """Whether ``python -m`` is looking for the module to run, or the console script ``cascade`` runs."""
    command = sys.argv[0] if sys.argv else ""
    return command == "-m" or basename(command) in _SCRIPTS
