"""The command line of ``python -m evals.record``."""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path

from cascade.costs.estimate import MAX_OUTPUT
from cascade.costs.prices import Pricer
from cascade.errors import CascadeError, PolicyError
from cascade.models.anthropic import AnthropicModel
from cascade.models.factory import build
from cascade.models.openai import OpenAIModel
from evals.common.cost_budget import CostBudget
from evals.common.progress import RecordingProgress
from evals.engines import Engine, open_engine
from evals.recording import Example, RecordingError
from judges import Usage

from . import plan, summary
from .adaptive_concurrency import AdaptiveLimiter
from .arguments import check_arguments, parser
from .batch_client import BatchClient
from .checkpoint import Checkpoint, CheckpointError
from .client import AnswerSource, RecordingClient, StopSignal
from .dataset import Dataset, check_exists
from .dataset_readers import DatasetError
from .disk_reserve import BYTES
from .recorder import Recorder
from .write_recording import write_recording

_BATCH_BYTES, _BATCH_S = 1 << 31, 600.0
_GC_THRESHOLD = 50_000  # objects allocated between garbage collections
_BATCH_ROWS = 20_000  # rows under way at once with --batch: two full batches, so that one fills while the other is open


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m evals.record", engine: Engine | None = None) -> int:
    """Runs the command and returns its exit status. ``engine`` is one that is open already."""
    args = parser(prog).parse_args(argv)
    try:
        return _run(args, engine)
    except (DatasetError, CheckpointError, RecordingError, CascadeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # while the dataset is read or the recording written; in between, requests are awaited
        print("\ninterrupted; the answers so far are kept; run the same command again to continue", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
    return 2


def _run(args: argparse.Namespace, engine: Engine | None) -> int:
    check_arguments(args)
    judges = None if args.judges is None else [*map(str.strip, args.judges.split(","))]
    tiers = [t for t in map(str.strip, (args.tiers or "").split(",")) if t]
    recording_plan = plan.make_plan(args.policy, args.policy_file, tiers, judges, args.samples, args.temperature)
    fused = [target.key for target in recording_plan.targets if target.fuse is not None]
    if args.batch and fused:
        raise PolicyError(
            f"--batch: {fused[0]} reads other answers before it answers (fuse); name the other tiers by --tiers"
        )
    check_exists(args.dataset)
    dataset = Dataset(args.dataset, args.prompt_field, args.template, args.reference_field, args.system)
    check, end = _reference_check(args)
    present = {target.key: bytearray() for target in recording_plan.targets} if args.missing else {}
    known_models: set[str] = set()

    def check_row(example: Example) -> None:
        check(example)
        for key, rows in present.items():
            rows.append(key in example.answers)
        known_models.update(example.answers)

    survey = dataset.survey(check_row)
    end()
    _check_missing(args, present, known_models)
    path = Path(f"{args.out}.work")
    if Path(args.out).exists() and not path.exists():
        raise CheckpointError(
            f"{args.out}: exists, but was not written by this command (there is no {path.name}); choose another --out"
        )
    checkpoint = Checkpoint(path, survey)
    try:
        for target in recording_plan.targets:
            for setting in target.pinned_settings(args.batch):
                checkpoint.pin(setting)
        spent_before = checkpoint.spent
        with open_engine(args.engine) if engine is None else nullcontext(engine) as engine:
            with _rare_garbage_collection():
                recording = _record(args, recording_plan, dataset, checkpoint, present=present, engine=engine)
                recorder, disk_error = asyncio.run(recording)
            return _finish_run(args, recorder, spent_before, disk_error, engine)
    finally:
        checkpoint.close()


@contextmanager
def _rare_garbage_collection() -> Iterator[None]:
    """Collects garbage less often: with hundreds of requests under way, the default costs a tenth of all time."""
    before = gc.get_threshold()
    gc.set_threshold(_GC_THRESHOLD, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _reference_check(args: argparse.Namespace) -> tuple[Callable[[Example], None], Callable[[], None]]:
    """Checks to run before anything is paid for: of each row's reference, and at the end of the graders' tasks."""
    if not args.grader:
        return lambda _: None, lambda: None
    from evals.grade import GraderError
    from evals.grade.command import job_of

    file = plan.policy_path(args.policy, args.policy_file)
    job = job_of(args.grader, args.out, policy_file=file, max_usd=args.max_usd)
    tasks: set[str] = set()

    def check(example: Example) -> None:
        tasks.add(example.task)
        job.check(example)

    def end() -> None:
        if unknown := sorted(set(job.by_task) - tasks):
            raise GraderError(
                f"--grader: the dataset has no task {unknown[0]!r}; it has: {', '.join(map(repr, sorted(tasks)))}"
            )

    return check, end


def _check_missing(args: argparse.Namespace, present: Mapping[str, bytearray], known_models: set[str]) -> None:
    """Raises DatasetError where --missing has no recording; prints a note about a model that the recording does not have."""
    if not args.missing:
        return
    if not known_models:
        raise DatasetError(f"--missing: {args.dataset} has no recorded answers; give a recording as the dataset")
    names = ", ".join(sorted(known_models))
    for key, rows in present.items():
        if not any(rows):
            print(f"note: --missing: the recording has no answers of {key!r}; it has: {names}", file=sys.stderr)


def _make_clients(
    args: argparse.Namespace,
    recording_plan: plan.Plan,
    checkpoint: Checkpoint,
    stop_signal: StopSignal,
    engine: Engine | None,
) -> dict[str, AnswerSource]:
    budget = CostBudget(args.max_usd, _unavailable_usd(checkpoint))
    clients: dict[str, AnswerSource] = {}
    for name, spec in recording_plan.specs.items():
        pricer = Pricer(name, spec)
        if args.max_usd is not None and pricer.cost(Usage(1, 1)) is None:
            raise ValueError(f"--max-usd: the price of {name!r} is not known; give its 'price' in the policy file")
        if args.max_usd is not None and spec.max_tokens is None:
            print(f"note: {name} has no max_tokens; under --max-usd an answer has at most {MAX_OUTPUT:,}", file=sys.stderr)
        if not args.batch:
            clients[name] = RecordingClient(
                name=name,
                model=build(name, spec) if engine is None else engine.model(name, spec),
                pricer=pricer,
                limiter=AdaptiveLimiter(args.concurrency),
                budget=budget,
                checkpoint=checkpoint,
                stop_signal=stop_signal,
            )
            continue
        # The results of a whole batch are one response.
        model = build(name, spec.model_copy(update={"max_body_bytes": _BATCH_BYTES, "timeout_s": _BATCH_S}))
        if not isinstance(model, OpenAIModel | AnthropicModel):
            raise ValueError(f"--batch: {name!r} is of the provider {spec.provider!r}, which has no batch API")
        clients[name] = BatchClient(
            name=name,
            model=model,
            pricer=pricer,
            budget=budget,
            checkpoint=checkpoint,
            stop_signal=stop_signal,
            poll_s=args.poll_s,
        )
    return clients


async def _record(
    args: argparse.Namespace,
    recording_plan: plan.Plan,
    dataset: Dataset,
    checkpoint: Checkpoint,
    *,
    present: Mapping[str, bytearray],
    engine: Engine | None,
) -> tuple[Recorder, OSError | None]:
    stop_signal = StopSignal()
    clients = _make_clients(args, recording_plan, checkpoint, stop_signal, engine)
    recorder = Recorder(
        dataset=dataset,
        targets=recording_plan.targets,
        clients=clients,
        checkpoint=checkpoint,
        stop_signal=stop_signal,
        limit=args.limit,
        retry_failed=args.retry_failed,
        sample_with_answer=args.batch,
        present=present,
    )
    total, left = recorder.rows * len(recording_plan.targets), recorder.count_missing()
    if left and checkpoint.log.reserve.disk_full:
        raise CheckpointError(
            f"{checkpoint.path}: the disk has less than {BYTES >> 20} MB left, so that "
            "answers might be lost; free some disk space"
        )
    progress = RecordingProgress(total, total - left)
    recorder.step = progress.step
    if progress.done:
        print(f"{progress.done:,} of {total:,} answers are already recorded", file=sys.stderr)
    try:
        await _until_done(recorder, progress, _BATCH_ROWS if args.batch else args.concurrency)
    except OSError as error:
        return recorder, error
    finally:
        progress.end()
        for client in clients.values():
            await client.model.close()
    return recorder, None


async def _until_done(recorder: Recorder, progress: RecordingProgress, workers: int) -> None:
    """Runs to the end and shows the progress; one Ctrl-C waits for the requests under way, a second drops them."""
    task = asyncio.create_task(recorder.run(workers))
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if recorder.stop_signal.reason == "interrupted":
            task.cancel()
            return
        recorder.stop("interrupted")
        if not recorder.sample_with_answer:
            print("\nwaiting for the requests under way; press Ctrl-C again to drop them", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupted)
    while not task.done():
        await asyncio.wait((task,), timeout=0.25)
        waits = [client.waiting_for for client in recorder.clients.values()]
        checkpoint = recorder.checkpoint
        progress.show(checkpoint.spent, checkpoint.unpriced_parts > 0, [text for text in waits if text is not None])
    with suppress(asyncio.CancelledError):
        await task


def _unavailable_usd(checkpoint: Checkpoint) -> float:
    """USD of the limit that are already used."""
    return checkpoint.spent + checkpoint.unconfirmed_usd + checkpoint.grading_usd


def _grade_recording(args: argparse.Namespace, checkpoint: Checkpoint, engine: Engine | None) -> bool:
    """Grades the recording if there is a grader; returns False and prints why if that failed."""
    if not args.grader:
        return True
    from evals.grade import command as grade

    file = plan.policy_path(args.policy, args.policy_file)
    options = [text for spec in args.grader for text in ("--grader", spec)]
    if args.max_usd is not None:  # what a judge model costs is part of what the recording costs
        options += ["--max-usd", str(max(0.0, args.max_usd - _unavailable_usd(checkpoint)))]
    argv = [args.out, *options, *(("--policy-file", file) if file else ())]
    return grade.main(argv, checkpoint.add_grading_cost, engine=engine) == 0


def _finish_run(
    args: argparse.Namespace,
    recorder: Recorder,
    spent_before: float,
    disk_error: OSError | None,
    engine: Engine | None,
) -> int:
    """Writes the recording, grades it, and prints the summary."""
    checkpoint, out = recorder.checkpoint, Path(args.out)
    any_recorded = any(
        checkpoint.has_parts(row, m) for m in range(len(checkpoint.models)) for row in range(checkpoint.survey.rows)
    )
    try:
        if (any_recorded or args.missing) and not (checkpoint.written and out.exists()):
            print(f"{out}: {write_recording(out, recorder.dataset, checkpoint):,} rows")
        graded = (
            disk_error is not None
            or recorder.stop_signal.reason == "interrupted"
            or not out.exists()
            or _grade_recording(args, checkpoint, engine)
        )
    except OSError as error:
        disk_error, graded = disk_error or error, False
    missing = summary.print_summary(recorder, spent_before, args.max_usd) or not graded
    if not missing:
        path = plan.policy_path(args.policy, args.policy_file)
        policy = None if args.policy == path else args.policy
        print("\n".join(summary.next_commands(args.out, path, policy, graded=bool(args.grader))))
    if disk_error is not None or recorder.stop_signal.reason == "disk":
        why = disk_error.strerror if disk_error is not None else "No space left on device"
        print(f"error: {checkpoint.path}: {why}; free some disk space and run the same command again", file=sys.stderr)
    if recorder.stop_signal.reason == "interrupted":
        return 130
    return 1 if missing or disk_error is not None or recorder.stop_signal.reason is not None else 0
