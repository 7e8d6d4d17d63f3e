"""Replays a recording: calibrates, tunes, certifies, and prints one honest table; ``python -m evals.replay --help``."""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace

from cascade import CascadeError, Policy
from cascade.data import STARTER_RECORDING
from cascade.util.atomic_write import replacing
from cascade.util.broken_pipe import quietly
from cascade.util.messages import error_line
from evals.engines import Engine, open_engine
from evals.recording import Example, RecordingError, models_of, read

from . import engine_check
from .argument_checks import check_contradictions, check_targets, guarantee_of, is_measured, tiers_of, volume_of
from .arguments import parser
from .certificate.menu import DEFAULT_PROMISES
from .pipeline import ReplayConfig, ReplayResult, as_file, page, replay
from .policy_output.next_commands import after_writing, to_write, with_own_questions
from .policy_output.own_policy import EmbeddingSource, OwnPolicy, as_recorded, check_recorded, own_policy
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
    names = {model: spec.model or model for model, spec in file.models.items()}
    tiers = [as_recorded(tier, names) for tier in policy.tiers]
    models = [t.model for t in tiers]
    if policy.calibration is not None:
        beside = own.path.parent / policy.calibration
        calibration = calibration_file.read(calibration_file.starter() if policy.calibration == "starter" else beside)
        models = [candidate.model for candidate in calibration.candidates]
    return policy.model_copy(update={"tiers": tiers}), models


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
    guarantee, menu = guarantee_of(args)
    check_contradictions(args, guarantee, menu)
    check_targets(args)
    policy, tiers = None, [] if args.tiers is None else tiers_of(args.tiers)
    own = None if args.policy_file is None else own_policy(args.policy_file, args.policy)
    if own is not None and is_measured(args):
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
        volume=volume_of(args.volume),
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
    """Where embeddings come from, where the replay reads any. Raises ReplayError for a limit on requests that none makes."""
    source = None
    if own is not None and own.embedding is not None:
        reads = args.by_prompt or args.speculate if measured is None else measured.reads_embedding
        source = own.embedding if reads else None
    if args.max_usd is not None and source is None:
        raise ReplayError(
            "--max-usd limits what embeddings cost, and this replay asks for none: it needs --policy-file, a policy with "
            "`embedding`, and --by-prompt"
        )
    return None if source is None else replace(source, max_usd=args.max_usd)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m evals.replay", engine: Engine | None = None) -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong. ``engine``: one that is open already."""
    args = parser(prog).parse_args(argv)
    try:
        report, next_commands = _run(args, engine)
    except (ReplayError, RecordingError, CascadeError, OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
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
