"""Replays a recording: calibrates, tunes, certifies, and prints one honest table; ``python -m evals.replay --help``."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from cascade import CascadeError, Policy
from evals import production
from evals.files import replacing
from evals.prove import Kind, Promise
from evals.recording import RecordingError, models_of, read
from evals.rows import ReplayError
from evals.study import Asked, Report, as_file, page, replay

STARTER = Path(__file__).parent / "starter" / "starter.jsonl.gz"


def _from_file(path: str) -> Policy:
    """The policy ``default`` (or the only one) of a policy file, its models called as the provider calls them."""
    from cascade import policy_file

    file = policy_file.load(path)
    policy = file.policies.get("default") or next(iter(file.policies.values()))
    tiers = [t.model_copy(update={"model": file.models[t.model].model or t.model}) for t in policy.tiers]
    return policy.model_copy(update={"tiers": tiers})


EXAMPLES = """examples:
  python -m evals.replay                                         the shipped recording
  python -m evals.replay logs.jsonl --tiers mini,large --max-loss 0.03 --delta 0.1 \\
      --out calibration.json --report report.html                at most 3 points below `large`, with 90 % probability
  python -m evals.replay logs.jsonl --tiers a,b,c --min-quality 0.9
  python -m evals.replay logs.jsonl --tiers a,b,c --min-accepted-quality 0.95
  python -m evals.replay logs.jsonl --tiers a,b,c --budget-per-1k 0.5
  python -m evals.replay logs.jsonl --tiers a,b --judges rules,self_consistency:samples=9
  python -m evals.replay logs.jsonl --policy-file policies.yaml   a policy as it is, without tuning
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evals.replay",
        description="Calibrate, tune and certify on one half of a recording; print one table of the other half.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recording", nargs="?", default=str(STARTER), help="JSON Lines, .gz allowed (default: the shipped one)")
    add("--tiers", help="models of the recording, cheapest first, premium last, separated by commas")
    goal = parser.add_mutually_exclusive_group()
    goal.add_argument("--max-loss", type=float, metavar="EPS", help="mean quality below the premium tier's (default 0.02)")
    goal.add_argument("--min-quality", type=float, metavar="Q", help="least mean quality, in [0, 1]")
    goal.add_argument("--min-accepted-quality", type=float, metavar="Q", help="least quality of accepted answers")
    goal.add_argument("--budget-per-1k", type=float, metavar="USD", help="best quality for USD per 1,000 prompts")
    goal.add_argument("--error-price", type=float, metavar="USD", help="least cost, a wrong answer costing USD")
    add("--delta", type=float, default=0.1, help="probability that a certified promise is broken (default 0.1)")
    add("--judges", help="judge[:option=value...],... of every tier (default: what the recording can feed)")
    add("--method", choices=("auto", "split", "preset"), default="auto",
        help="preset: a grid fixed beforehand (two tiers, one score); split: tune on some rows first")  # fmt: skip
    add("--split", choices=("half", "recorded"), default="half", help="halves drawn by --seed, or the recording's own split")
    add("--keep-premium", action="store_true", help="only ladders that end with the premium tier")
    add("--policy-file", help="replay this file's policy as it is, without choosing anything")
    add("--seed", type=int, default=0, help="of splits, folds and bootstrap (default 0)")
    add("--out", metavar="FILE", help="write the calibration that policies.yaml refers to")
    add("--report", metavar="FILE", help="write a self-contained HTML page")
    add("--json", metavar="FILE", help="write every figure as JSON")
    return parser


def _promise(args: argparse.Namespace) -> Promise:
    limits: dict[str, tuple[Kind, float]] = {
        "max_loss": ("max_loss", 1.0),
        "min_quality": ("min_quality", 1.0),
        "min_accepted_quality": ("min_accepted_quality", 1.0),
        "budget_per_1k": ("budget", 1e9),
        "error_price": ("error_price", 1e9),
    }
    kind: Kind = "max_loss"
    value = 0.02
    for name, (named, high) in limits.items():
        given = getattr(args, name)
        if given is not None:
            if not 0.0 <= given <= high:
                raise ReplayError(f"--{name.replace('_', '-')} must lie in [0, {high:g}], got {given}")
            kind, value = named, given
    if not 0.0 < args.delta < 1.0:
        raise ReplayError(f"--delta must lie between 0 and 1, got {args.delta}")
    return Promise(kind, value, args.delta)


def _run(args: argparse.Namespace) -> Report:
    promise = _promise(args)
    for name in ("out", "report", "json"):
        target = getattr(args, name)
        if target and not Path(target).resolve().parent.is_dir():
            raise ReplayError(f"--{name}: the folder {Path(target).parent} does not exist; create it first")
    examples = list(read(args.recording))
    policy = _from_file(args.policy_file) if args.policy_file else None
    tiers = args.tiers.split(",") if args.tiers else models_of(examples)
    if policy is not None:
        tiers = [t.model for t in policy.tiers]
    elif not args.tiers and len(tiers) > 4:
        raise ReplayError(f"the recording has {len(tiers)} models; choose with --tiers from: {', '.join(tiers)}")
    judges = None if args.judges is None else tuple(j for j in args.judges.split(",") if j)
    asked = Asked(promise, args.seed, judges, args.method, args.split, args.keep_premium, policy)
    report = asyncio.run(replay(args.recording, examples, tiers, asked))
    if args.out:
        if report.artefact is None:
            raise ReplayError("--out: a policy that was given has no calibration to write")
        production.write(args.out, report.artefact)
    if args.report:
        from evals import report as html

        html.write(args.report, page(report.data))
    if args.json:
        text = json.dumps(as_file(report.data), indent=2, allow_nan=False) + "\n"
        with replacing(args.json) as file:
            file.write(text.encode())
    return report


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong."""
    args = _parser().parse_args(argv)
    try:
        report = _run(args)
    except (ReplayError, RecordingError, CascadeError, OSError, ValueError) as error:
        # One line, because a validation error of several lines would hide what matters.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    print(report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
