"""The command line: ``cascade COMMAND``, or ``python -m cascade COMMAND``."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cascade.policy.routes import in_words
from cascade.policy.schema import ModelSpec, Policy, PolicyFile, TierPolicy
from cascade.util.argument_parser import CommandParser
from cascade.util.commands import Command
from cascade.util.extras import MissingExtraError, needed_by
from cascade.util.own_packages import NameCollisionError, check_own
from cascade.util.plain_data import usd
from cascade.util.providers import KEY_ENV
from cascade.util.suggestions import nearest
from cascade.util.totals import plus
from cascade.util.version import VERSION

from .errors import CascadeError, RunError, UnsureError
from .policy import load as policy_files
from .result import Result

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
            return _run_own(command_parser(name, prog).parse_args(arguments))
        commands = _further()
        if (further := commands.get(name)) is not None:
            return further.run(arguments, f"{prog} {name}")
        hint = nearest(name, [*_OWN, *commands])
        raise CascadeError(f"unknown command {name!r}{hint} (`{prog} --help` lists all)")
    except BrokenPipeError:
        raise
    except (CascadeError, MissingExtraError, NameCollisionError, OSError, ValueError) as error:
        print(f"cascade: {error}", file=sys.stderr)
        return 2


def command_parser(name: str, prog: str = "cascade") -> argparse.ArgumentParser:
    """The parser of the arguments of one of cascade's own commands. Raises KeyError for another name."""
    command = _OWN[name]
    parser = CommandParser(f"{prog} {name}", description=_sentence(command.summary))
    command.add_to(parser)
    return parser


def _run_own(args: argparse.Namespace) -> int:
    try:
        return int(args.command(args))
    except UnsureError as error:
        return _show(error.result, args.json)
    except RunError as error:
        print(f"cascade: {error}", file=sys.stderr)
        _show_attempts(error.attempts)
        return 2


@dataclass(frozen=True, slots=True, kw_only=True)
class _OwnCommand:
    group: str
    summary: str
    add_to: Callable[[argparse.ArgumentParser], object]


def _further() -> dict[str, Command]:
    """The commands that installed packages add: evals, which is a floor above cascade and must not be imported here.

    Raises NameCollisionError where another ``evals`` is in the way of ours.
    """
    from importlib.metadata import entry_points

    commands: dict[str, Command] = {}
    for point in entry_points(group="cascade.commands"):
        if point.module.partition(".")[0] == "evals":
            check_own("evals")
        for command in point.load():
            commands.setdefault(command.name, command)
    return commands


def _help(prog: str) -> str:
    commands: list[tuple[str, str, str]] = [(c.group, name, c.summary) for name, c in _OWN.items()]
    note = ""
    try:
        commands += [(c.group, c.name, c.summary) for c in _further().values() if c.name not in _OWN]
    except NameCollisionError as error:
        note = f"\n{error}\n"
    lines = [f"usage: {prog} COMMAND ...", "", "Asks the cheap model first, judges its answer, escalates only if needed."]
    for group in dict.fromkeys(group for group, _, _ in commands):
        lines += ["", f"{group}:"]
        lines += [f"  {name:<11} {summary}" for other, name, summary in commands if other == group]
    lines += ["", "options:", f"  {'-h, --help':<11} show this help", f"  {'--version':<11} print the version"]
    return "\n".join(lines) + f"\n{note}\n" + _EXAMPLES.format(prog=prog)


def _sentence(summary: str) -> str:
    return summary[0].upper() + summary[1:] + "."


def _add_question(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("prompt", help="the prompt; '-' reads it from standard input")
    parser.add_argument("--policy", default="default", help="a policy's name, or policy/tier (default: default)")
    parser.add_argument("--policy-file", help="default: CASCADE_POLICIES, ./policies.yaml, the packaged file")
    parser.add_argument("--system", help="a system message")
    parser.add_argument("--schema", help="a file with the JSON Schema of the answer")
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")


def _add_run(parser: argparse.ArgumentParser) -> None:
    _add_question(parser)
    parser.add_argument("--budget-usd", type=float, help="the most that the run may spend")
    parser.add_argument("--deadline-s", type=float, help="the most seconds that the run may take")
    parser.set_defaults(command=_run)


def _add_gate(parser: argparse.ArgumentParser) -> None:
    _add_question(parser)
    parser.add_argument("--answer", required=True, help="the answer to score")
    parser.add_argument("--tier", help="whose judges and threshold to use (default: the first tier)")
    parser.set_defaults(command=_gate)


def _add_explain(parser: argparse.ArgumentParser) -> None:
    from .explain import add_to

    add_to(parser)


def _add_check(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="default: CASCADE_POLICIES, ./policies.yaml, the packaged file")
    parser.add_argument("--input-tokens", type=int, default=500, help="of a call, for its cost (default 500)")
    parser.add_argument("--output-tokens", type=int, default=200, help="of a call, for its cost (default 200)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 where there is a warning, for CI")
    parser.set_defaults(command=_check)


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 256:
        raise argparse.ArgumentTypeError("must be from 1 to 256")
    return number


def _add_serve(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--policy-file", help="default: CASCADE_POLICIES, ./policies.yaml, the packaged file")
    parser.add_argument("--host", help="the address to listen on (default: CASCADE_HOST, else 127.0.0.1)")
    parser.add_argument("--port", type=int, help="0 takes any that is free (default: CASCADE_PORT, else 8000)")
    parser.add_argument("--keys", metavar="FILE", help="the key file (default: next to the policy file)")
    parser.add_argument("--require-keys", action="store_true", help="refuse to start without an API key")
    parser.add_argument(
        "--fd",
        type=int,
        metavar="N",
        action="append",
        help="a listening socket that the parent process opened, in place of --host and --port; repeat for more",
    )
    parser.add_argument("--stop-on-eof", action="store_true", help="stop when standard input ends: when the parent dies")
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes that serve the port together (default: CASCADE_WORKERS, else this one)",
    )
    from cascade.gateway.serve.log_format import add_to

    add_to(parser)
    parser.set_defaults(command=_serve)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    from cascade.gateway.auth.commands import add_to

    add_to(parser)


def _add_journal(parser: argparse.ArgumentParser) -> None:
    from cascade.journal.read.commands import add_to

    add_to(parser)


def _add_promise(parser: argparse.ArgumentParser) -> None:
    from cascade.shadow.promise_command import add_to

    add_to(parser)


def _add_canary(parser: argparse.ArgumentParser) -> None:
    from cascade.shadow.canary_command import add_to

    add_to(parser)


_ASK, _OPERATE = "ask and check", "serve and watch"
_OWN = {
    "run": _OwnCommand(group=_ASK, summary="ask, judge, escalate", add_to=_add_run),
    "gate": _OwnCommand(group=_ASK, summary="score an answer that came from elsewhere", add_to=_add_gate),
    "explain": _OwnCommand(
        group=_ASK, summary="print which tiers a prompt would be sent to and why, asking nobody", add_to=_add_explain
    ),
    "check": _OwnCommand(
        group=_ASK, summary="validate a policy file, print its tiers and what a call would cost", add_to=_add_check
    ),
    "schema": _OwnCommand(
        group=_ASK,
        summary="print the JSON Schema of policies.yaml, for editors",
        add_to=lambda parser: parser.set_defaults(command=_schema),
    ),
    "serve": _OwnCommand(
        group=_OPERATE,
        summary="serve OpenAI's and Anthropic's HTTP APIs, see docs/how-to/run-the-gateway.md",
        add_to=_add_serve,
    ),
    "keys": _OwnCommand(group=_OPERATE, summary="the keys of the gateway's callers: create, list, revoke", add_to=_add_keys),
    "promise": _OwnCommand(
        group=_OPERATE, summary="whether policies keep their promise; 1 where one is in doubt or broken", add_to=_add_promise
    ),
    "canary": _OwnCommand(
        group=_OPERATE, summary="a new calibration on a share of the runs: status, promote, abort", add_to=_add_canary
    ),
    "journal": _OwnCommand(group=_OPERATE, summary="what was recorded: tail, show, export, verify", add_to=_add_journal),
}


def _options(args: argparse.Namespace) -> dict[str, Any]:
    schema = None
    if args.schema:
        with open(args.schema, encoding="utf-8") as file:
            try:
                schema = json.load(file)
            except ValueError as error:
                raise ValueError(f"{args.schema}: not JSON: {error}") from None
    return {"policy": args.policy, "policy_file": args.policy_file, "system": args.system, "schema": schema}


def _prompt(args: argparse.Namespace) -> str:
    return sys.stdin.read() if args.prompt == "-" else str(args.prompt)


def _run(args: argparse.Namespace) -> int:
    from .default_client import run

    result = run(_prompt(args), budget_usd=args.budget_usd, deadline_s=args.deadline_s, **_options(args))
    return _show(result, args.json)


def _gate(args: argparse.Namespace) -> int:
    from .default_client import gate

    return _show(gate(_prompt(args), args.answer, tier=args.tier, **_options(args)), args.json)


def _show(result: Result, as_json: bool) -> int:
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print(result.text)
        kind = "calibrated" if result.calibrated else "uncalibrated"
        verdict = "accepted" if result.accepted else f"NOT accepted ({result.reason_in_words})"
        print(
            f"— {verdict}, confidence {result.confidence:.3f} ({kind}), tier {result.tier} ({result.model}), "
            f"cost {usd(result.cost_usd)}, {result.latency_s:.2f} s",
            file=sys.stderr,
        )
        _show_attempts(result.attempts)
    return 0 if result.accepted else 1


def _show_attempts(attempts: Iterable[object]) -> None:
    for attempt in attempts:
        print(f"  {attempt}", file=sys.stderr)


def _check(args: argparse.Namespace) -> int:
    path = policy_files.find(args.file)
    file = policy_files.load(path)
    print(f"{path}: {len(file.models)} models, {len(file.policies)} policies, valid")
    for name, policy in file.policies.items():
        _print_policy(name, policy, file, args.input_tokens, args.output_tokens)
    from .policy.advice import advise

    warnings = [*advise(file, os.environ), *_deadline_advice(file)]
    print()
    for warning in warnings:
        print(f"warning: {warning}")
    print(f"{len(warnings)} warnings" if warnings else "no warnings")
    return 1 if warnings and args.strict else 0


def _deadline_advice(file: PolicyFile) -> Iterator[str]:
    for name, policy in file.policies.items():
        for i, tier in enumerate(policy.tiers):
            spec = file.models[tier.model]
            if _may_use_up_deadline(tier, spec, policy):
                yield (
                    f"policies.{name}.tiers[{i}] ({tier.name}): one slow response can use up the deadline: timeout_s is "
                    f"{spec.timeout_s:g}, deadline_s {policy.deadline_s:g}; lower models.{tier.model}.timeout_s so that "
                    "another model can answer"
                )


def _print_policy(name: str, policy: Policy, file: PolicyFile, tokens_in: int, tokens_out: int) -> None:
    print(f"\n{name}  (hash {policy.hash}; when unsure: {policy.when_unsure}; at most {policy.max_calls} calls)")
    total: float | None = 0.0
    for tier in policy.tiers:
        spec = file.models[tier.model]
        cost = _call_cost(tier.model, spec, tokens_in, tokens_out)
        total = plus(total, cost)
        judges = " > ".join(rule.use for rule in tier.judges) or "none"
        print(f"  {tier.name:<10} {spec.provider}:{spec.model or tier.model:<30} cost per call: {usd(cost)}")
        print(f"  {'':<10} judges {judges}; accepts from confidence {tier.accept_at:g}")
    for i, route in enumerate(policy.routes or ()):
        print(f"  routes[{i}]  {in_words(route.when)}: starts at {route.start_at}")
    print(f"  all tiers, without judging: cost {usd(total)} for {tokens_in} tokens in, {tokens_out} out")


def _may_use_up_deadline(tier: TierPolicy, spec: ModelSpec, policy: Policy) -> bool:
    alternatives = tier is not policy.tiers[-1] or bool(tier.fallbacks)
    hosted = spec.provider in KEY_ENV
    return alternatives and hosted and policy.deadline_s is not None and spec.timeout_s >= policy.deadline_s


def _call_cost(name: str, spec: ModelSpec, tokens_in: int, tokens_out: int) -> float | None:
    from cascade.costs.prices import Pricer
    from judges import Usage

    return Pricer(name, spec).cost(Usage(tokens_in, tokens_out))


def _serve(args: argparse.Namespace) -> int:
    with needed_by("serve", "gateway"):
        from cascade.gateway.serve.server import run
    return run(args)


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(policy_files.json_schema(), indent=2))
    return 0
