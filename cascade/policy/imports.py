"""The modules that a policy file imports: the user's own judges, next to that file or installed."""

import sys
import threading
from collections.abc import Mapping
from hashlib import sha256
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

from cascade.errors import PolicyError

from .yaml import KeyPath

_lock = threading.RLock()


def import_modules(data: Any, folder: Path | None, file: str, lines: Mapping[KeyPath, int]) -> None:
    """Imports what the key ``imports`` of a policy file names, so that its judges are registered.

    Each name is that of a module or package in ``folder``, else of an installed one. Python's path is not changed: a file
    next to the policy file cannot shadow another module, whatever it is called. A module is imported once in a process.

    Args:
        data: The content of the policy file.
        folder: The folder of the policy file; None where the text came from no file, which may then import nothing.
        file: The policy file's name, for errors.
        lines: The line of each key.

    Raises:
        PolicyError: There is no such module, or importing it failed; names file, line and key.
    """
    names = data.get("imports") if isinstance(data, Mapping) else None
    if not isinstance(names, list):
        return  # a wrong type is reported with the rest of the file
    for i, name in enumerate(names):
        if not isinstance(name, str):
            continue
        where = f"{file}:{lines.get(('imports', i), lines.get(('imports',), 1))}: imports[{i}]"
        if not all(part.isidentifier() for part in name.split(".")):
            raise PolicyError(f"{where}: {name!r} is not a module's name; write my_judges for the file my_judges.py")
        if folder is None:
            raise PolicyError(f"{where}: only a policy file on disk may import modules")
        try:
            with _lock:
                _import(name, folder.resolve())
        except ModuleNotFoundError as error:
            if error.name != name.partition(".")[0]:
                raise PolicyError(f"{where}: importing {name} failed: {error}") from error
            raise PolicyError(f"{where}: no module {name!r} in {folder.resolve()}, and none is installed") from None
        except Exception as error:  # whatever the module does
            raise PolicyError(f"{where}: importing {name} failed: {type(error).__name__}: {error}") from error


def _import(name: str, folder: Path) -> None:
    top, _, rest = name.partition(".")
    file = next((f for f in (folder / top / "__init__.py", folder / f"{top}.py") if f.is_file()), None)
    if file is None:
        import_module(name)
        return
    module_name = _known_as(top, file)
    if module_name not in sys.modules:
        _load(module_name, file)
    if rest:
        import_module(f"{module_name}.{rest}")


def _known_as(name: str, file: Path) -> str:
    """The module's own name, unless that means another file: a name of its own then, for this file alone."""
    loaded = sys.modules.get(name)
    spec = getattr(loaded, "__spec__", None) if loaded is not None else PathFinder.find_spec(name)
    origin = getattr(spec, "origin", None)
    free = loaded is None and spec is None and name not in sys.stdlib_module_names
    if free or (origin is not None and Path(origin).resolve() == file.resolve()):
        return name
    return f"{name}_{sha256(str(file).encode()).hexdigest()[:12]}"


def _load(name: str, file: Path) -> None:
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    spec = spec_from_file_location(name, file, submodule_search_locations=folders)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
