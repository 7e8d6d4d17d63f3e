"""The arguments of a replay as values, and an error of one line for those that are wrong or contradict each other."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from .certificate.guarantee import Guarantee, Kind
from .certificate.menu import DEFAULT_PROMISES
from .rows.input_rows import ReplayError


def _losses(text: str) -> tuple[float, ...]:
    """The promises of ``--max-loss``."""
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise ReplayError(f"--max-loss must be numbers separated by commas, such as 0.02,0.05; got {text!r}") from None
    for value in values:
        if not 0.0 <= value <= 1.0:
            raise ReplayError(f"--max-loss must lie in [0, 1], got {value:g}")
    if len(values) > 1 and min(values) <= 0.0:
        raise ReplayError("--max-loss: each promise of a menu must be above 0")
    return values


def guarantee_of(args: argparse.Namespace) -> tuple[Guarantee, tuple[float, ...]]:
    """The promise, and the promises of the menu where there are several."""
    limits: dict[str, tuple[Kind, float]] = {
        "min_quality": ("min_quality", 1.0),
        "min_accepted_quality": ("min_accepted_quality", 1.0),
        "budget_per_1k": ("budget", 1e9),
        "error_price": ("error_price", 1e9),
    }
    if args.seed < 0:
        raise ReplayError(f"--seed must be 0 or more, got {args.seed}")
    if args.max_usd is not None and not 0.0 <= args.max_usd < 1e9:
        raise ReplayError(f"--max-usd must be a number of USD from 0, got {args.max_usd:g}")
    if not 0.0 < args.delta < 1.0:
        raise ReplayError(f"--delta must lie between 0 and 1, got {args.delta}")
    for name, (kind, high) in limits.items():
        value = getattr(args, name)
        if value is not None:
            if not 0.0 <= value <= high:
                raise ReplayError(f"--{name.replace('_', '-')} must lie in [0, {high:g}], got {value}")
            return Guarantee(kind, value, args.delta), ()
    losses = DEFAULT_PROMISES if args.max_loss is None else _losses(args.max_loss)
    if args.max_loss is None and (args.method == "preset" or args.max_task_loss is not None or is_measured(args)):
        losses = losses[:1]
    return Guarantee("max_loss", losses[0], args.delta), losses if len(set(losses)) > 1 else ()


def is_measured(args: argparse.Namespace) -> bool:
    """Whether the policy of --policy-file is to be measured as it is: nothing asks for a choice."""
    goals = (
        args.by, args.max_task_loss, args.max_loss, args.min_quality, args.min_accepted_quality, args.budget_per_1k,
        args.error_price,
    )  # fmt: skip
    chooses = args.keep_premium or args.method != "auto" or any(x is not None for x in (args.out, args.write_policy, *goals))
    return args.policy_file is not None and (args.as_is or not chooses)


def volume_of(text: str | None) -> float | None:
    """Prompts a month: a number, with k, M or B for thousands, millions or billions."""
    if text is None:
        return None
    factor = {"k": 1e3, "m": 1e6, "b": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        volume = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        volume = 0.0
    if not 0 < volume < 1e15:
        raise ReplayError(f"--volume must be a number of prompts per month, such as 250k or 1M; got {text!r}")
    return volume


def tiers_of(text: str) -> list[str]:
    tiers = [name.strip() for name in text.split(",")]
    if not all(tiers):
        raise ReplayError(f"--tiers: a name is empty in {text!r}; separate the models with one comma each")
    return tiers


def check_contradictions(args: argparse.Namespace, guarantee: Guarantee, menu: Sequence[float]) -> None:
    """Raises ReplayError for flags of which one would be ignored."""
    goal = "--" + guarantee.kind.replace("budget", "budget_per_1k").replace("_", "-")
    if args.policy_file is None:
        for flag, is_set in {
            "--policy": args.policy is not None, "--as-is": args.as_is, "--write-policy": args.write_policy is not None,
        }.items():  # fmt: skip
            if is_set:
                raise ReplayError(f"{flag} needs --policy-file: it is about a policy of that file")
    else:
        judged = args.judges is not None and not is_measured(args)
        for flag, is_set in {"--tiers": args.tiers is not None, "--judges": judged}.items():
            if is_set:
                raise ReplayError(f"{flag} and --policy-file exclude each other: the policy has its own")
    if is_measured(args):
        chosen = {
            "--out": args.out is not None, "--write-policy": args.write_policy is not None,
            "--keep-premium": args.keep_premium, f"--method {args.method}": args.method != "auto",
            goal: guarantee.kind != "max_loss",
        }  # fmt: skip
        for flag, is_set in chosen.items():
            if is_set:
                raise ReplayError(f"{flag} and --as-is exclude each other: the policy is measured, and nothing is chosen")
    _task_contradictions(args, guarantee)
    _latency_contradictions(args, guarantee)
    if args.choose is not None and args.choose not in menu:
        promises = ", ".join(f"{value:g}" for value in menu)
        raise ReplayError(
            f"--choose {args.choose:g}: " + (f"the menu has {promises}" if menu else "there is no menu; leave it out")
        )
    if args.method == "preset" and menu:
        raise ReplayError("--method preset tests one promise; give one value to --max-loss")
    if args.method != "auto" and guarantee.kind not in ("max_loss", "min_quality"):
        raise ReplayError(f"--method {args.method} and {goal} exclude each other: {goal} is always tuned first")
    if args.method == "preset" and args.tiers is not None and len(tiers_of(args.tiers)) != 2:
        raise ReplayError(f"--method preset and --tiers {args.tiers} exclude each other: the fixed grid is for two tiers")


def _task_contradictions(args: argparse.Namespace, guarantee: Guarantee) -> None:
    """Raises ReplayError for flags that thresholds by task do not go with."""
    if args.max_task_loss is not None:
        if not 0.0 < args.max_task_loss <= 1.0:
            raise ReplayError(f"--max-task-loss must lie in (0, 1], got {args.max_task_loss:g}")
        if guarantee.kind != "max_loss":
            raise ReplayError(
                "--max-task-loss is about the loss against the premium tier: of the promises --max-loss alone goes with it"
            )
        if args.max_loss is not None:
            _smaller_than_each_task(_losses(args.max_loss), args.max_task_loss)
    if args.task_tags and not args.by_prompt:
        raise ReplayError("--task-tags makes the task a feature of the prompt: use it with --by-prompt")
    if args.by is None and args.max_task_loss is None:
        return
    if args.by_prompt:
        raise ReplayError("--by-prompt finds tasks by itself: leave it out, or leave --by task and --max-task-loss out")
    if args.as_is or args.method == "preset" or guarantee.kind != "max_loss":
        raise ReplayError("--by task and --max-task-loss tune for a promise on the loss: use them with --max-loss alone")


def _latency_contradictions(args: argparse.Namespace, guarantee: Guarantee) -> None:
    """Raises ReplayError for flags that latencies do not go with."""
    if args.max_latency is not None and not 0.0 < args.max_latency < 1e6:
        raise ReplayError(f"--max-latency must be a number of seconds above 0, got {args.max_latency:g}")
    for flag, is_set in {"--max-latency": args.max_latency is not None, "--speculate": args.speculate}.items():
        if not is_set:
            continue
        if args.by is not None or args.max_task_loss is not None:
            raise ReplayError(
                f"{flag} is about the 95th percentile of all runs, which does not follow from those of the tasks, whose "
                "thresholds are chosen one task at a time: leave --by task and --max-task-loss out, or replay each task's "
                "rows by themselves"
            )
        if is_measured(args) or args.method == "preset" or guarantee.kind not in ("max_loss", "min_quality"):
            raise ReplayError(f"{flag} chooses a cascade for a promise: use it with --max-loss or --min-quality alone")


def _smaller_than_each_task(losses: Sequence[float], task_loss: float) -> None:
    """Raises ReplayError unless there is one promise on the whole that does not follow from the tasks' promise."""
    if len(losses) > 1:
        raise ReplayError("--max-task-loss goes with one promise on the whole: give one value to --max-loss")
    if not 0.0 < losses[0] < task_loss:
        raise ReplayError(
            f"--max-loss {losses[0]:g} must be above 0 and less than --max-task-loss {task_loss:g}, from which it follows "
            "otherwise; leave it out, or give a smaller one"
        )


def check_targets(args: argparse.Namespace) -> None:
    """Raises ReplayError for files that cannot be written or that would overwrite one another or what is read."""
    used = {Path(args.recording).resolve(): "the recording"}
    if args.policy_file is not None:
        used[Path(args.policy_file).resolve()] = "--policy-file"
    for name in ("out", "write-policy", "report", "json"):
        option = getattr(args, name.replace("-", "_"))
        if option is None:
            continue
        target = Path(option).resolve()
        if target.is_dir():
            raise ReplayError(f"--{name}: {option or '.'} is a folder; name a file")
        if not target.parent.is_dir():
            raise ReplayError(f"--{name}: the folder {Path(option).parent} does not exist; create it first")
        if not os.access(target.parent, os.W_OK):
            raise ReplayError(f"--{name}: the folder {Path(option).parent} cannot be written; choose another")
        if target in used:
            raise ReplayError(f"--{name} and {used[target]} are one file, {option}; name another")
        used[target] = f"--{name}"
