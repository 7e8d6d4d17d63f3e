"""The command line: ``python -m cascade run | gate | check | schema | serve | keys | journal``."""

import argparse
import json
import sys
from collections.abc import Sequence
from typing import Any

from cascade.policy.schema import ModelSpec, Policy, PolicyFile
from cascade.util.broken_pipe import quietly
from cascade.util.plain_data import usd
from cascade.util.providers import KEY_ENV
from cascade.util.totals import plus

from .errors import CascadeError, UnsureError
from .policy import load as files
from .result import Result

_EXAMPLES = """examples:
  python -m cascade run "What is the capital of France? Reply with the answer only."
  python -m cascade run --policy openai --schema order.json --json "Extract the order: 3 mugs for Ana"
  python -m cascade gate --policy openai --answer 51 "What is 17 * 3?"
  python -m cascade check my-policies.yaml
  python -m cascade journal tail -f
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. 0: done and, for run and gate, accepted; 1: not accepted; 2: an error, said on standard error."""
    args = _parser().parse_args(argv)
    try:
        return int(args.command(args))
    except UnsureError as error:
        _show(error.result, args.json)
        return 1
    except BrokenPipeError:
        raise
    except (CascadeError, OSError, ValueError) as error:
        print(f"cascade: {error}", file=sys.stderr)
        return 2


def _parser() -> argparse.ArgumentParser:
    from cascade.gateway.auth.commands import add_to as add_keys_to
    from cascade.journal.read.commands import add_to

    parser = argparse.ArgumentParser(
        "python -m cascade", epilog=_EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter, description=main.__doc__
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="ask, judge, escalate; '-' reads the prompt from standard input")
    gate = commands.add_parser("gate", help="score an answer that came from elsewhere")
    for command in (run, gate):
        command.add_argument("prompt")
        command.add_argument("--policy", default="default")
        command.add_argument("--policy-file")
        command.add_argument("--system", help="a system message")
        command.add_argument("--schema", help="a file with the JSON Schema of the answer")
        command.add_argument("--json", action="store_true", help="print the whole result as JSON")
    run.add_argument("--budget-usd", type=float)
    run.add_argument("--deadline-s", type=float)
    run.set_defaults(command=_run)
    gate.add_argument("--answer", required=True)
    gate.add_argument("--tier", help="whose judges and threshold to use (default: the first tier)")
    gate.set_defaults(command=_gate)
    check = commands.add_parser("check", help="validate a policy file, print its ladders and what a call would cost")
    check.add_argument("file", nargs="?")
    check.add_argument("--input-tokens", type=int, default=500)
    check.add_argument("--output-tokens", type=int, default=200)
    check.set_defaults(command=_check)
    schema = commands.add_parser("schema", help="print the JSON Schema of policies.yaml, for editors")
    schema.set_defaults(command=_schema)
    serve = commands.add_parser("serve", help="serve OpenAI's and Anthropic's HTTP APIs, see docs/how-to/run-the-gateway.md")
    serve.add_argument("--policy-file")
    serve.add_argument("--host", default="127.0.0.1", help="the address to listen on (default 127.0.0.1)")
    serve.add_argument("--port", type=int, default=8000, help="0 takes any that is free (default 8000)")
    serve.add_argument("--keys", metavar="FILE", help="the key file (default: beside the policy file)")
    serve.add_argument("--require-keys", action="store_true", help="refuse to start without an API key")
    serve.set_defaults(command=_serve)
    add_keys_to(commands.add_parser("keys", help="the keys of the gateway's callers: create, list, revoke"))
    add_to(commands.add_parser("journal", help="what was recorded: tail, show, export, verify"))
    return parser


def _common(args: argparse.Namespace) -> dict[str, Any]:
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

    result = run(_prompt(args), budget_usd=args.budget_usd, deadline_s=args.deadline_s, **_common(args))
    return _show(result, args.json)


def _gate(args: argparse.Namespace) -> int:
    from .default_client import gate

    return _show(gate(_prompt(args), args.answer, tier=args.tier, **_common(args)), args.json)


def _show(result: Result, as_json: bool) -> int:
    if as_json:
        print(json.dumps(result.to_dict(), indent=2))
    else:
        print(result.text)
        kind = "calibrated" if result.calibrated else "uncalibrated"
        verdict = "accepted" if result.accepted else f"NOT accepted ({result.reason})"
        print(
            f"— {verdict}, confidence {result.confidence:.3f} ({kind}), tier {result.tier} ({result.model}), "
            f"{usd(result.cost_usd)}, {result.latency_s:.2f} s",
            file=sys.stderr,
        )
        for attempt in result.attempts:
            print(f"  {attempt}", file=sys.stderr)
    return 0 if result.accepted else 1


def _check(args: argparse.Namespace) -> int:
    found = files.find(args.file)
    file = files.load(args.file)
    print(f"{found}: {len(file.models)} models, {len(file.policies)} policies, valid")
    for name, policy in file.policies.items():
        _print_policy(name, policy, file, args.input_tokens, args.output_tokens)
    return 0


def _print_policy(name: str, policy: Policy, file: PolicyFile, tokens_in: int, tokens_out: int) -> None:
    print(f"\n{name}  (hash {policy.hash}; when unsure: {policy.when_unsure}; at most {policy.max_calls} calls)")
    total: float | None = 0.0
    for tier in policy.tiers:
        spec = file.models[tier.model]
        cost = _call_cost(tier.model, spec, tokens_in, tokens_out)
        total = plus(total, cost)
        judges = " > ".join(rule.use for rule in tier.judges) or "none"
        print(f"  {tier.name:<10} {spec.provider}:{spec.model or tier.model:<30} {usd(cost)} a call")
        print(f"  {'':<10} judges {judges}; accepts from {tier.accept_at:g}")
        others = tier is not policy.tiers[-1] or tier.fallbacks
        if others and policy.deadline_s is not None and spec.provider in KEY_ENV and spec.timeout_s >= policy.deadline_s:
            print(
                f"  {'':<10} warning: a hanging answer uses up the run: timeout_s is {spec.timeout_s:g}, deadline_s "
                f"{policy.deadline_s:g}; lower models.{tier.model}.timeout_s so that others can still be asked"
            )
    print(f"  all tiers, without judging: {usd(total)} for {tokens_in} tokens in, {tokens_out} out")


def _call_cost(name: str, spec: ModelSpec, tokens_in: int, tokens_out: int) -> float | None:
    from cascade.costs.prices import Pricer
    from judges import Usage

    return Pricer(name, spec).cost(Usage(tokens_in, tokens_out))


def _serve(args: argparse.Namespace) -> int:
    try:
        from cascade.gateway.serve.server import run
    except ModuleNotFoundError as error:
        if error.name not in ("starlette", "uvicorn", "prometheus_client"):
            raise
        raise CascadeError(
            f"serve needs the package {error.name!r}; install it: pip install 'cascade-gate[gateway]'"
        ) from None
    return run(args)


def _schema(args: argparse.Namespace) -> int:
    print(json.dumps(files.json_schema(), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(quietly(main))
