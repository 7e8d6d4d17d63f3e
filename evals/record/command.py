"""The command line of a recording."""

import argparse
import asyncio
import gc
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from cascade.costs.estimate import MAX_OUTPUT
from cascade.costs.prices import Pricer
from cascade.errors import CascadeError
from cascade.models.anthropic import AnthropicModel
from cascade.models.factory import build
from cascade.models.openai import OpenAIModel
from evals.common.cost_budget import CostBudget
from evals.common.progress import RecordingProgress
from evals.recording import Example, RecordingError
from judges import Usage

from . import plan, summary
from .adaptive_concurrency import AdaptiveLimiter
from .batch_client import BatchClient
from .checkpoint import Checkpoint, CheckpointError
from .client import AnswerSource, RecordingClient, StopSignal
from .dataset import Dataset, exists
from .dataset_readers import DatasetError
from .disk_reserve import BYTES
from .recorder import Recorder
from .write_recording import materialise

EXAMPLES = """examples:
  python -m evals.record questions.jsonl --policy openai --out rec.jsonl.gz --max-usd 5
  python -m evals.record tickets.csv --template 'Classify this message: {body}' --reference-field label \\
      --policy policies.yaml --tiers small,large --samples 8 --judges logprob,verifier:model=large --grader choice \\
      --out rec.jsonl
  nohup python -m evals.record questions.jsonl --batch --max-usd 20 --out rec.jsonl.gz > rec.log 2>&1 &

The same command again goes on where the last one stopped; what is already there is not asked again. A later command may
name a higher --limit, --max-usd or --samples, further tiers, and judges but logprob, which needs the answers themselves.
Answers stand in OUT.work; keep that file for as long as you may want to go on. docs/how-to/record-answers.md says more.
Exit status: 0 all is recorded, 1 something is missing, 2 the input is wrong, 130 interrupted.
"""


_BATCH_BYTES, _BATCH_S = 1 << 31, 600.0
_YOUNG = 50_000  # objects made before the garbage collector looks at them
_JOBS = 20_000  # rows of a model under way at once by batch: two full batches, so that one may gather while one is out


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        return _main(args)
    except (DatasetError, CheckpointError, RecordingError, CascadeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
    except KeyboardInterrupt:  # while the dataset is read or the recording written; in between, requests are waited for
        print("\ninterrupted; what was answered is kept, the same command goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        raise
    except OSError as error:
        print(f"error: {error.filename or args.out}: {error.strerror or error}", file=sys.stderr)
    return 2


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m evals.record",
        description="Ask every tier about every example, once, and keep what it answers as a recording.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", help=".jsonl, .jsonl.gz, .csv, .tsv, .parquet, or a folder of text files")
    add("--out", required=True, metavar="FILE", help="the recording, .jsonl or .jsonl.gz")
    add("--policy", metavar="P", help="a policy's name, or a policy file (default: its policy 'default')")
    add("--policy-file", metavar="FILE", help="where --policy names a policy")
    add("--tiers", help="tiers of the policy or models of its file, separated by commas (default: every tier)")
    add("--prompt-field", metavar="F", help="the field with the prompt: text or chat messages (default: prompt, messages)")
    add("--template", metavar="TEXT", help="the prompt as a text with {field}")
    add("--reference-field", default="reference", metavar="F", help="the field with the right answer (default: reference)")
    add("--system", metavar="TEXT", help="a system message for rows that have none")
    add("--samples", type=int, metavar="N", help="further samples of each answer (default: as many as the judges want)")
    add("--temperature", type=float, metavar="T", help="of the samples (default: the judge's, else 0.7)")
    add("--judges", help="judge[:option=value...],... whose needs and scores are recorded (default: each tier's own)")
    add("--grader", action="append", default=[], metavar="[TASK=]NAME[:OPTION=VALUE]",
        help="grade the answers, see python -m evals.grade; may be given several times")  # fmt: skip
    add("--max-usd", type=float, metavar="X", help="stop before the whole recording has cost more")
    add("--concurrency", type=int, default=16, metavar="N", help="requests at once to each model (default 16)")
    add("--batch", action="store_true", help="by the provider's batch API: half the price, answers within a day")
    add("--poll-s", type=float, default=30.0, metavar="S", help="seconds between looks at a batch (default 30)")
    add("--limit", type=int, metavar="N", help="the first N rows only")
    add("--retry-failed", action="store_true", help="ask again for what failed in earlier runs")
    return parser


def _main(args: argparse.Namespace) -> int:
    _check(args)
    judges = None if args.judges is None else [*map(str.strip, args.judges.split(","))]
    tiers = [t for t in map(str.strip, (args.tiers or "").split(",")) if t]
    made = plan.make(args.policy, args.policy_file, tiers, judges, args.samples, args.temperature)
    exists(args.dataset)
    dataset = Dataset(args.dataset, args.prompt_field, args.template, args.reference_field, args.system)
    check, end = _usable(args)
    survey = dataset.survey(check)
    end()
    path = Path(f"{args.out}.work")
    if Path(args.out).exists() and not path.exists():
        raise CheckpointError(f"{args.out}: exists, and was not recorded here (there is no {path.name}); name another --out")
    work = Checkpoint(path, survey)
    try:
        for target in made.targets:
            for setting in target.settings(args.batch):
                work.setting(setting)
        before = work.spent
        with _seldom_collecting():
            live, broken = asyncio.run(_record(args, made, dataset, work))
        return _finish(args, live, before, broken)
    finally:
        work.close()


@contextmanager
def _seldom_collecting() -> Iterator[None]:
    """With hundreds of requests under way, looking for cycles after every 700 objects takes a tenth of all time."""
    before = gc.get_threshold()
    gc.set_threshold(_YOUNG, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def _usable(args: argparse.Namespace) -> tuple[Callable[[Example], None], Callable[[], None]]:
    """What finds, before anything is paid for, a reference that the grader cannot use, and then a task that no row has."""
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


def _check(args: argparse.Namespace) -> None:
    for name, low in (
        ("samples", 0),
        ("concurrency", 1),
        ("limit", 1),
        ("poll_s", 0.01),
        ("max_usd", 0.0),
        ("temperature", 0.0),
    ):
        value = getattr(args, name)
        if value is not None and not low <= value < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} must be {low} or more, got {value}")
    if args.template is not None and args.prompt_field is not None:
        raise ValueError("--template and --prompt-field both say what the prompt is; give one of them")
    if not Path(args.out).resolve().parent.is_dir():
        raise ValueError(f"--out: the folder {Path(args.out).parent} does not exist; create it first")
    if not args.out.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"--out: {args.out}: a recording's name ends in .jsonl or .jsonl.gz")


def _lines(args: argparse.Namespace, made: plan.Plan, work: Checkpoint, halt: StopSignal) -> dict[str, AnswerSource]:
    budget = CostBudget(args.max_usd, _gone(work))
    lines: dict[str, AnswerSource] = {}
    for name, spec in made.specs.items():
        pricer = Pricer(name, spec)
        if args.max_usd is not None and pricer.cost(Usage(1, 1)) is None:
            raise ValueError(f"--max-usd: the price of {name!r} is not known; give its 'price' in the policy file")
        if args.max_usd is not None and spec.max_tokens is None:
            print(f"note: {name} has no max_tokens; under --max-usd an answer has at most {MAX_OUTPUT:,}", file=sys.stderr)
        if not args.batch:
            lines[name] = RecordingClient(
                name, build(name, spec), pricer, AdaptiveLimiter(args.concurrency), budget, work, halt
            )
            continue
        # The results of a whole batch come in one body.
        model = build(name, spec.model_copy(update={"max_body_bytes": _BATCH_BYTES, "timeout_s": _BATCH_S}))
        if not isinstance(model, OpenAIModel | AnthropicModel):
            raise ValueError(f"--batch: {name!r} is of the provider {spec.provider!r}, which takes no batches")
        lines[name] = BatchClient(name, model, pricer, budget, work, halt, args.poll_s)
    return lines


async def _record(
    args: argparse.Namespace, made: plan.Plan, dataset: Dataset, work: Checkpoint
) -> tuple[Recorder, OSError | None]:
    halt = StopSignal()
    lines = _lines(args, made, work, halt)
    live = Recorder(dataset, made.targets, lines, work, halt, args.limit, args.retry_failed, args.batch)
    total, left = live.rows * len(made.targets), live.left()
    if left and work.file.reserve.lacks:
        raise CheckpointError(
            f"{work.path}: the disk has less than {BYTES >> 20} MB left, so that answers might be lost; make room"
        )
    progress = RecordingProgress(total, total - left)
    live.step = progress.step
    if progress.done:
        print(f"{progress.done:,} of {total:,} answers are there already", file=sys.stderr)
    try:
        await _until_done(live, progress, _JOBS if args.batch else args.concurrency)
    except OSError as error:
        return live, error
    finally:
        progress.end()
        for line in lines.values():
            await line.model.close()
    return live, None


async def _until_done(live: Recorder, progress: RecordingProgress, workers: int) -> None:
    """Runs to the end with the progress shown; Ctrl-C once waits for what is under way, twice drops it."""
    task = asyncio.create_task(live.run(workers))
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if live.halt.reason == "interrupted":
            task.cancel()
            return
        live.stop("interrupted")
        if not live.together:
            print("\nwaiting for the requests under way; again to drop them", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupted)
    while not task.done():
        await asyncio.wait((task,), timeout=0.25)
        waits = [waits for line in live.lines.values() if (waits := line.waits) is not None]
        progress.show(live.work.spent, live.work.unpriced > 0, waits)
    with suppress(asyncio.CancelledError):
        await task


def _gone(work: Checkpoint) -> float:
    """USD of the budget that cannot be spent again."""
    return work.spent + work.charged + work.graded


def _graded(args: argparse.Namespace, work: Checkpoint) -> bool:
    """Grades the recording where that was asked for; False where it failed, which is then said."""
    if not args.grader:
        return True
    from evals.grade import command as grade

    file = plan.policy_path(args.policy, args.policy_file)
    options = [text for spec in args.grader for text in ("--grader", spec)]
    if args.max_usd is not None:  # what a judge model costs is part of what the recording costs
        options += ["--max-usd", str(max(0.0, args.max_usd - _gone(work)))]
    return grade.main([args.out, *options, *(("--policy-file", file) if file else ())], work.grades) == 0


def _finish(args: argparse.Namespace, live: Recorder, before: float, broken: OSError | None) -> int:
    """Writes the recording, grades it, and says what is missing."""
    work, out = live.work, Path(args.out)
    anything = any(work.touched(row, m) for m in range(len(work.models)) for row in range(work.survey.rows))
    try:
        if anything and not (work.written and out.exists()):
            print(f"{out}: {materialise(out, live.dataset, work):,} rows")
        graded = broken is not None or live.halt.reason == "interrupted" or not out.exists() or _graded(args, work)
    except OSError as error:
        broken, graded = broken or error, False
    missing = summary.tell(live, before, args.max_usd) or not graded
    if broken is not None or live.halt.reason == "disk":
        why = broken.strerror if broken is not None else "No space left on device"
        print(f"error: {work.path}: {why}; make room, and the same command goes on", file=sys.stderr)
    if live.halt.reason == "interrupted":
        return 130
    return 1 if missing or broken is not None or live.halt.reason is not None else 0
