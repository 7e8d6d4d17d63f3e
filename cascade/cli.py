"""The command line: ``cascade COMMAND``, or ``python -m cascade COMMAND``."""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from cascade.util.argument_parser import CommandParser
from cascade.util.commands import installed_commands
from cascade.util.extras import MissingExtraError
from cascade.util.messages import error_text
from cascade.util.own_packages import NameCollisionError
from cascade.util.suggestions import nearest
from cascade.util.version import VERSION

from .errors import CascadeError

_EXAMPLES = """examples:
  {prog} run "What is the capital of France? Reply with the answer only."
  {prog} run --policy openai --schema order.json --json "Extract the order: 3 mugs for Ana"
  {prog} gate --policy openai --answer 51 "What is 17 * 3?"
  {prog} check my-policies.yaml
  {prog} journal tail -f

exit status:
  0  done; for run and gate: the answer is accepted
  1  the answer is not accepted, or something is left to do
  2  an error, in one line on standard error
"""


def main(argv: Sequence[str] | None = None, prog: str | None = None) -> int:
    """Runs one command.

    Args:
        argv: The command and its arguments. Default: those of the process.
        prog: What usage and examples call the command. Default: ``cascade``, or ``python -m cascade`` where that is how
            the process was started.

    Returns:
        The exit status: 0 done and, for run and gate, accepted; 1 not accepted; 2 an error, in one line on standard error.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    prog = prog or ("python -m cascade" if Path(sys.argv[0]).name == "__main__.py" else "cascade")
    if not words or words[0] in ("-h", "--help"):
        print(_help(prog), end="", file=sys.stdout if words else sys.stderr)
        return 0 if words else 2
    if words[0] == "--version":
        print(f"cascade {VERSION}")
        return 0
    name, arguments = words[0], words[1:]
    try:
        if name in _OWN:
            args = command_parser(name, prog).parse_args(arguments)
            return int(args.command(args))
        commands = installed_commands()
        if (further := commands.get(name)) is not None:
            return further.run(arguments, f"{prog} {name}")
        hint = nearest(name, [*_OWN, *commands])
        raise CascadeError(f"unknown command {name!r}{hint} (`{prog} --help` lists all)")
    except BrokenPipeError:
        raise
    except (CascadeError, MissingExtraError, NameCollisionError, OSError, ValueError) as error:
        print(f"cascade: {error_text(error)}", file=sys.stderr)
        return 2


def command_parser(name: str, prog: str = "cascade") -> argparse.ArgumentParser:
    """The parser of the arguments of one of cascade's own commands. Raises KeyError for another name."""
    command = _OWN[name]
    parser = CommandParser(f"{prog} {name}", description=_sentence(command.summary))
    module, _, function = command.target.partition(":")
    getattr(import_module(module), function)(parser)
    return parser


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnCommand:
    group: str
    summary: str
    target: str
    """``module:function``, imported when the command is run; the function adds the command's arguments to a parser."""


def _help(prog: str) -> str:
    commands: list[tuple[str, str, str]] = [(c.group, name, c.summary) for name, c in _OWN.items()]
    note = ""
    try:
        commands += [(c.group, c.name, c.summary) for c in installed_commands().values() if c.name not in _OWN]
    except NameCollisionError as error:
        note = f"\n{error}\n"
    lines = [f"usage: {prog} COMMAND ...", "", "Asks the cheap model first, judges its answer, escalates only if needed."]
    for group in dict.fromkeys(group for group, _, _ in commands):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<13} {summary}" for other, name, summary in commands if other == group]
    lines += ["", "options:", f"  {'-h, --help':<13} show this help", f"  {'--version':<13} print the version"]
    return "\n".join(lines) + f"\n{note}\n" + _EXAMPLES.format(prog=prog)


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


_ASK, _OPERATE = "ask and check", "serve and watch"
_OWN = {
    "run": _OwnCommand(group=_ASK, summary="ask, judge, escalate", target="cascade.commands.ask:add_run"),
    "gate": _OwnCommand(
        group=_ASK, summary="score an answer that came from elsewhere", target="cascade.commands.ask:add_gate"
    ),
    "explain": _OwnCommand(
        group=_ASK,
        summary="print which tiers a prompt would be sent to and why, without calling a model",
        target="cascade.commands.explain:add_to",
    ),
    "check": _OwnCommand(
        group=_ASK,
        summary="validate a policy file, print its tiers and what a call would cost",
        target="cascade.commands.check:add_check",
    ),
    "schema": _OwnCommand(
        group=_ASK, summary="print the JSON Schema of policies.yaml, for editors", target="cascade.commands.check:add_schema"
    ),
    "serve": _OwnCommand(
        group=_OPERATE,
        summary="serve OpenAI's and Anthropic's HTTP APIs, see docs/how-to/run-the-gateway.md",
        target="cascade.commands.serve:add_serve",
    ),
    "keys": _OwnCommand(
        group=_OPERATE,
        summary="manage the gateway's API keys: create, list, revoke",
        target="cascade.gateway.auth.commands:add_to",
    ),
    "promise": _OwnCommand(
        group=_OPERATE,
        summary="show whether promises are kept; exit status 1 where one is in doubt or broken",
        target="cascade.shadow.promise_command:add_to",
    ),
    "canary": _OwnCommand(
        group=_OPERATE,
        summary="try a new calibration on a share of the runs: status, promote, abort",
        target="cascade.shadow.canary_command:add_to",
    ),
    "journal": _OwnCommand(
        group=_OPERATE,
        summary="read the journal: tail, show, export, verify",
        target="cascade.journal.read.commands:add_to",
    ),
}
