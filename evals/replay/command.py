"""Replays a recording: calibrates, tunes, certifies, and prints one honest table; ``python -m evals.replay --help``."""

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from cascade import CascadeError, Policy
from cascade.data import STARTER_RECORDING
from cascade.util.atomic_write import replacing
from cascade.util.broken_pipe import quietly
from evals.engines import Engine, open_engine
from evals.recording import Example, RecordingError, models_of, read

from . import engine_check
from .arguments import parser
from .certificate.guarantee import Guarantee, Kind
from .certificate.menu import DEFAULT_PROMISES
from .pipeline import ReplayConfig, ReplayResult, as_file, page, replay
from .policy_output.next_commands import after_writing, to_write, with_own_questions
from .policy_output.own_policy import EmbeddingSource, OwnPolicy, check_recorded, own_policy
from .policy_output.write_policy import calibration_path, check_target, write_policy
from .rows.input_rows import ReplayError
from .rows.tasks import with_tasks


def _measured_tiers(own: OwnPolicy) -> tuple[Policy, list[str]]:
    """A policy with its calibration, and the tiers to compare it with.

    Those are its own, or those that its calibration chose from, the premium one last.
    """
    from cascade.policy import calibration_file, load

    file = load.load(own.path)
    policy = file.policies[own.name]
    tiers = [t.model_copy(update={"model": file.models[t.model].model or t.model}) for t in policy.tiers]
    models = [t.model for t in tiers]
    if policy.calibration is not None:
        beside = own.path.parent / policy.calibration
        calibration = calibration_file.read(calibration_file.starter() if policy.calibration == "starter" else beside)
        models = [candidate.model for candidate in calibration.candidates]
    return policy.model_copy(update={"tiers": tiers}), models


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


def _guarantee(args: argparse.Namespace) -> tuple[Guarantee, tuple[float, ...]]:
    """The promise, and the promises of the menu where there are several."""
    limits: dict[str, tuple[Kind, float]] = {
        "min_quality": ("min_quality", 1.0),
        "min_accepted_quality": ("min_accepted_quality", 1.0),
        "budget_per_1k": ("budget", 1e9),
        "error_price": ("error_price", 1e9),
    }
    if args.seed < 0:
        raise ReplayError(f"--seed must be 0 or more, got {args.seed}")
    if not 0.0 < args.delta < 1.0:
        raise ReplayError(f"--delta must lie between 0 and 1, got {args.delta}")
    for name, (kind, high) in limits.items():
        value = getattr(args, name)
        if value is not None:
            if not 0.0 <= value <= high:
                raise ReplayError(f"--{name.replace('_', '-')} must lie in [0, {high:g}], got {value}")
            return Guarantee(kind, value, args.delta), ()
    losses = DEFAULT_PROMISES if args.max_loss is None else _losses(args.max_loss)
    if args.max_loss is None and (args.method == "preset" or args.max_task_loss is not None or _is_measured(args)):
        losses = losses[:1]
    return Guarantee("max_loss", losses[0], args.delta), losses if len(set(losses)) > 1 else ()


def _is_measured(args: argparse.Namespace) -> bool:
    """Whether the policy of --policy-file is to be measured as it is: nothing asks for a choice."""
    goals = (
        args.by, args.max_task_loss, args.max_loss, args.min_quality, args.min_accepted_quality, args.budget_per_1k,
        args.error_price,
    )  # fmt: skip
    chooses = args.keep_premium or args.method != "auto" or any(x is not None for x in (args.out, args.write_policy, *goals))
    return args.policy_file is not None and (args.as_is or not chooses)


def _volume(text: str | None) -> float | None:
    """Prompts a month: a number, with k, M or B for thousands, millions or billions."""
    if text is None:
        return None
    factor = {"k": 1e3, "m": 1e6, "b": 1e9}.get(text[-1:].lower(), 1.0)
    try:
        volume = float(text[:-1] if factor > 1 else text) * factor
    except ValueError:
        volume = 0.0
    if not 0 < volume < 1e15:
        raise ReplayError(f"--volume must be a number of prompts a month, such as 250k or 1M; got {text!r}")
    return volume


def _tiers(text: str) -> list[str]:
    tiers = [name.strip() for name in text.split(",")]
    if not all(tiers):
        raise ReplayError(f"--tiers: a name is empty in {text!r}; separate the models with one comma each")
    return tiers


def _contradictions(args: argparse.Namespace, guarantee: Guarantee, menu: Sequence[float]) -> None:
    """Raises ReplayError for flags of which one would be ignored."""
    goal = "--" + guarantee.kind.replace("budget", "budget_per_1k").replace("_", "-")
    if args.policy_file is None:
        for flag, is_set in {
            "--policy": args.policy is not None, "--as-is": args.as_is, "--write-policy": args.write_policy is not None,
        }.items():  # fmt: skip
            if is_set:
                raise ReplayError(f"{flag} needs --policy-file: it is about a policy of that file")
    else:
        judged = args.judges is not None and not _is_measured(args)
        for flag, is_set in {"--tiers": args.tiers is not None, "--judges": judged}.items():
            if is_set:
                raise ReplayError(f"{flag} and --policy-file exclude each other: the policy has its own")
    if _is_measured(args):
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
    if args.method == "preset" and args.tiers is not None and len(_tiers(args.tiers)) != 2:
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
            raise ReplayError(f"{flag} goes with one set of thresholds: leave --by task and --max-task-loss out")
        if _is_measured(args) or args.method == "preset" or guarantee.kind not in ("max_loss", "min_quality"):
            raise ReplayError(f"{flag} chooses a ladder for a promise: use it with --max-loss or --min-quality alone")


def _smaller_than_each_task(losses: Sequence[float], task_loss: float) -> None:
    """Raises ReplayError unless there is one promise on the whole that does not follow from the tasks' promise."""
    if len(losses) > 1:
        raise ReplayError("--max-task-loss goes with one promise on the whole: give one value to --max-loss")
    if not 0.0 < losses[0] < task_loss:
        raise ReplayError(
            f"--max-loss {losses[0]:g} must be above 0 and less than --max-task-loss {task_loss:g}, from which it follows "
            "otherwise; leave it out, or give a smaller one"
        )


def _check_targets(args: argparse.Namespace) -> None:
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


def _examples(path: str) -> list[Example]:
    try:
        return list(read(path))
    except OSError as error:
        raise ReplayError(f"{path}: the recording cannot be read: {error.strerror or error}; check the path") from None


def _run(args: argparse.Namespace, engine: Engine | None) -> tuple[ReplayResult, list[str]]:
    """The result of the replay, and the commands to go on with."""
    next_commands: list[str] = []
    if args.write_policy and not args.out:
        args.out = str(calibration_path(args.write_policy))
    guarantee, menu = _guarantee(args)
    _contradictions(args, guarantee, menu)
    _check_targets(args)
    policy, tiers = None, [] if args.tiers is None else _tiers(args.tiers)
    own = None if args.policy_file is None else own_policy(args.policy_file, args.policy)
    if own is not None and _is_measured(args):
        policy, tiers = _measured_tiers(own)
    elif own is not None:
        tiers = own.models
    if own is not None and args.write_policy:
        check_target(own, args.write_policy)
    examples = _examples(args.recording)
    if own is not None:
        check_recorded(own, tiers, examples)
        examples = with_tasks(examples, own.policy, own.name)
    if not tiers:
        tiers = models_of(examples)
        if len(tiers) > 4:
            raise ReplayError(f"the recording has {len(tiers)} models; choose with --tiers from: {', '.join(tiers)}")
    judges = None if args.judges is None else tuple(j for j in args.judges.split(",") if j)
    config = ReplayConfig(
        guarantee=guarantee, menu=menu, choose=args.choose, seed=args.seed, judges=judges, method=args.method,
        split=args.split, keep_premium=args.keep_premium, policy=policy,
        own=None if policy is not None else own, by_task=args.by == "task",
        by_prompt=args.by_prompt, task_tags=args.task_tags, max_latency_s=args.max_latency, speculate=args.speculate,
        max_task_loss=args.max_task_loss,
        embedding=_embedding_source(args, own, policy),
        promises_whole=args.max_loss is not None,
        volume=_volume(args.volume),
    )  # fmt: skip
    with open_engine(args.engine) if engine is None else nullcontext(engine) as engine:
        report = asyncio.run(replay(args.recording, examples, tiers, config, engine))
    if args.out:
        assert report.calibration_file is not None
        engine_check.write_calibration(args.out, report.calibration_file)
    if args.write_policy:
        assert own is not None
        write_policy(own, args.write_policy, args.out)
        next_commands = after_writing(own, args.write_policy)
    elif own is not None and policy is not None:
        promise = args.max_loss or ",".join(f"{value:g}" for value in DEFAULT_PROMISES)
        next_commands = [to_write(own, args.recording, promise)]
    elif own is None and args.recording == str(STARTER_RECORDING):
        next_commands = with_own_questions()
    if args.report:
        from evals.report import write as html

        html.write(args.report, page(report.data))
    if args.json:
        text = json.dumps(as_file(report.data), indent=2, allow_nan=False) + "\n"
        with replacing(args.json) as file:
            file.write(text.encode())
    return report, next_commands


def _embedding_source(args: argparse.Namespace, own: OwnPolicy | None, measured: Policy | None) -> EmbeddingSource | None:
    """Where embeddings come from, where the replay reads any."""
    if own is None:
        return None
    reads = args.by_prompt or args.speculate if measured is None else measured.reads_embedding
    return own.embedding if reads else None


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m evals.replay", engine: Engine | None = None) -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong. ``engine``: one that is open already."""
    args = parser(prog).parse_args(argv)
    try:
        report, next_commands = _run(args, engine)
    except (ReplayError, RecordingError, CascadeError, OSError, ValueError) as error:
        # One line, because a validation error of several lines would hide what matters.
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    for warning in report.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    outputs = {
        "calibration": args.out, "policy that uses it": args.write_policy, "report": args.report, "figures": args.json,
    }  # fmt: skip
    written = [f"{file} ({what})" for what, file in outputs.items() if file]
    print(report.text(full=args.full, written=written, next_commands=next_commands))
    return 0


if __name__ == "__main__":
    raise SystemExit(quietly(main))
