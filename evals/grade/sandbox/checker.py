"""The process that runs the tests. It decides the verdict, from values, and sends it to the launcher alone."""

import builtins
import importlib
import json
import os
import re
import sys
from types import ModuleType
from typing import Any, NoReturn

from .remote import Program
from .rpc import BrokenError
from .wire import TESTS, Decoder, Node, WireError

PASSED, FAILED, UNTOLD = "passed", "failed", "untold"
_SHORT = {"np": "numpy", "pd": "pandas", "plt": "matplotlib.pyplot", "dt": "datetime"}


def main(tests: bytes, read_from: int, write_to: int, verdict_to: int) -> NoReturn:
    """Runs the tests and writes the outcome and the reason to ``verdict_to``."""
    sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    outcome, why = FAILED, "the tests have not ended"
    try:
        outcome, why = _verdict(tests, Program(read_from, write_to))
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"
    finally:
        os.write(verdict_to, json.dumps([outcome, why[:1000]]).encode())
        os._exit(0)


def _verdict(tests: bytes, program: Program) -> tuple[str, str]:
    here = ModuleType(TESTS)
    sys.modules[TESTS] = here
    sys.argv[:] = ["tests.py"]
    reply = program.channel.receive()
    if reply[0] != "names" or len(reply) != 2:
        return FAILED, f"the program: {reply[-1]}"
    vars(here).update(_names(program, reply[1], tests.decode(errors="replace")))
    try:
        exec(compile(tests, "tests.py", "exec"), here.__dict__)
    except BaseException as error:
        if program.uncarried and not program.channel.broken:
            return UNTOLD, f"the tests hand over {program.uncarried}, which cannot be carried"
        return FAILED, f"{type(error).__name__}: {error}"
    if program.channel.broken:
        return FAILED, program.channel.broken
    if program.uncarried:
        return UNTOLD, f"the tests hand over {program.uncarried}, which cannot be carried"
    if program.vouched:
        return UNTOLD, f"the tests rest on the program's own word for {program.vouched}"
    return PASSED, ""


def _names(program: Program, pairs: Node, tests: str) -> dict[str, Any]:
    """The names of the program as the tests see them.

    No code of the program may take part in the verdict: a module of the standard library is imported here, and a built-in
    function is not replaced, unless the tests use no other name of the program, so that it must be what they test.
    """
    used = set(re.findall(r"\w+", tests))
    values: dict[str, Any] = {}
    try:
        for name, node in pairs:
            if name in used and not name.startswith("__"):
                values[name] = _judge(name, tests) or _value(program, name, node)
    except (WireError, TypeError, ValueError, LookupError) as error:
        raise BrokenError(f"invalid names: {error}") from None
    own = {name for name, value in values.items() if not isinstance(value, ModuleType) and not hasattr(builtins, name)}
    return {name: value for name, value in values.items() if not own or not hasattr(builtins, name)}


def _judge(name: str, tests: str) -> ModuleType | None:
    home = _SHORT.get(name, name)
    if home.partition(".")[0] not in sys.stdlib_module_names and name not in _SHORT:
        return None
    if not re.search(rf"\b{re.escape(name)}\s*\.", tests):
        return None
    try:
        return importlib.import_module(home)
    except ImportError:
        return None


def _value(program: Program, name: str, node: Node) -> Any:
    if isinstance(node, list) and node and node[0] == "M":
        node = ["h", node[2], ""]
    return Decoder(program.receive).value(node)
