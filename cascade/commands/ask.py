"""``cascade run`` and ``cascade gate``: a judged answer, on standard output."""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

from cascade.errors import RunError, UnsureError
from cascade.result import Result
from cascade.util.plain_data import usd

POLICY_FILE_HELP = "default: CASCADE_POLICIES, ./policies.yaml, the packaged file"


def add_prompt_to(parser: argparse.ArgumentParser, policies: str = "a policy's name, or policy/tier") -> None:
    """Adds the arguments that say what is asked, and of which policy; ``policies``: what its option accepts."""
    parser.add_argument("prompt", help="the prompt; '-' reads it from standard input")
    parser.add_argument("--policy", default="default", help=f"{policies} (default: default)")
    parser.add_argument("--policy-file", help=POLICY_FILE_HELP)
    parser.add_argument("--system", help="a system message")
    parser.add_argument("--schema", help="a file with the JSON Schema of the answer")


def read_prompt(args: argparse.Namespace) -> str:
    """The prompt of the command line."""
    return sys.stdin.read() if args.prompt == "-" else str(args.prompt)


def read_json(path: str | None) -> Any:
    """What a JSON file holds; None without a file. Raises ValueError where it is not JSON."""
    if not path:
        return None
    with open(path, encoding="utf-8") as file:
        try:
            return json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: not JSON: {error}") from None


def add_needs_to(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that say what a call needs."""
    parser.add_argument("--min-confidence", type=float, help="accept nothing below it, whatever the policy says")
    parser.add_argument("--max-latency-s", type=float, help="seconds that the run should take; slower tiers are not asked")


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``run``."""
    add_prompt_to(parser)
    _add_json(parser)
    parser.add_argument("--budget-usd", type=float, help="the most that the run may spend")
    parser.add_argument("--deadline-s", type=float, help="the most seconds that the run may take")
    add_needs_to(parser)
    parser.set_defaults(command=lambda args: _print_result(_run, args))


def add_gate(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of ``gate``."""
    add_prompt_to(parser)
    _add_json(parser)
    parser.add_argument("--answer", required=True, help="the answer to score")
    parser.add_argument("--tier", help="whose judges and threshold to use (default: the first tier)")
    parser.set_defaults(command=lambda args: _print_result(_gate, args))


def _add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the whole result as JSON")


def _run(args: argparse.Namespace) -> Result:
    from cascade.default_client import run

    return run(
        read_prompt(args),
        budget_usd=args.budget_usd,
        deadline_s=args.deadline_s,
        min_confidence=args.min_confidence,
        max_latency_s=args.max_latency_s,
        **_options(args),
    )


def _gate(args: argparse.Namespace) -> Result:
    from cascade.default_client import gate

    return gate(read_prompt(args), args.answer, tier=args.tier, **_options(args))


def _options(args: argparse.Namespace) -> dict[str, Any]:
    schema = read_json(args.schema)
    return {"policy": args.policy, "policy_file": args.policy_file, "system": args.system, "schema": schema}


def _print_result(answer: Callable[[argparse.Namespace], Result], args: argparse.Namespace) -> int:
    try:
        return _show(answer(args), args.json)
    except UnsureError as error:
        return _show(error.result, args.json)
    except RunError as error:
        print(f"cascade: {error}", file=sys.stderr)
        _show_attempts(error.attempts)
        return 2


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
