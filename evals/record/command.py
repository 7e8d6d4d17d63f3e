"""The command line of a recording."""

import argparse
import asyncio
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cascade.errors import CascadeError
from cascade.models.factory import Pricer, build
from cascade.policy import ModelSpec
from evals.record import plan
from evals.record.dataset import Dataset, DatasetError, exists
from evals.record.finish import Grade, failures, grader, materialise
from evals.record.line import Halt, Line
from evals.record.live import Live
from evals.record.pace import Pace
from evals.record.purse import Purse
from evals.record.show import Progress
from evals.record.work import Work, WorkError
from evals.recording import RecordingError
from judges import Usage

EXAMPLES = """examples:
  python -m evals.record questions.jsonl --policy openai --out rec.jsonl.gz --max-usd 5
  python -m evals.record tickets.csv --template 'Classify this message: {body}' --reference-field label \\
      --policy policies.yaml --tiers small,large --samples 8 --judges logprob,verifier:model=large --grader choice \\
      --out rec.jsonl

The same command again goes on where the last one stopped; what is already there is not asked again. A later command may
name further tiers, samples and judges. Answers stand in OUT.work until you delete that file.
Exit status: 0 all is recorded, 1 something is missing, 2 the input is wrong, 130 interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        return _main(args)
    except (DatasetError, WorkError, RecordingError, CascadeError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
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
    add(
        "--grader",
        metavar="KIND",
        help="grade the answers: KIND or task=KIND,..., of number, date, json, choice, text, contains",
    )
    add("--max-usd", type=float, metavar="X", help="stop before the whole recording has cost more")
    add("--concurrency", type=int, default=16, metavar="N", help="requests at once to each model (default 16)")
    add("--limit", type=int, metavar="N", help="the first N rows only")
    add("--retry-failed", action="store_true", help="ask again for what failed in earlier runs")
    return parser


def _main(args: argparse.Namespace) -> int:
    _check(args)
    judges = None if args.judges is None else args.judges.split(",")
    tiers = [t for t in (args.tiers or "").split(",") if t]
    made = plan.make(args.policy, args.policy_file, tiers, judges, args.samples, args.temperature)
    graded = grader(args.grader)
    exists(args.dataset)
    dataset = Dataset(args.dataset, args.prompt_field, args.template, args.reference_field, args.system)
    survey = dataset.survey()
    path = Path(f"{args.out}.work")
    if Path(args.out).exists() and not path.exists():
        raise WorkError(f"{args.out}: exists, and was not recorded here (there is no {path.name}); name another --out")
    work = Work(path, survey)
    try:
        for target in made.targets:
            for name, value in target.settings().items():
                work.setting(name, value)
        return asyncio.run(_record(args, made, dataset, work, graded))
    finally:
        work.close()


def _check(args: argparse.Namespace) -> None:
    for name, low in (("samples", 0), ("concurrency", 1), ("limit", 1), ("max_usd", 0.0), ("temperature", 0.0)):
        value = getattr(args, name)
        if value is not None and not low <= value < float("inf"):
            raise ValueError(f"--{name.replace('_', '-')} must be {low} or more, got {value}")
    if not Path(args.out).resolve().parent.is_dir():
        raise ValueError(f"--out: the folder {Path(args.out).parent} does not exist; create it first")
    if not args.out.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"--out: {args.out}: a recording's name ends in .jsonl or .jsonl.gz")


def _lines(args: argparse.Namespace, made: plan.Plan, work: Work, halt: Halt) -> dict[str, Line]:
    purse = Purse(args.max_usd, work.spent + work.charged)
    lines = {}
    for name, spec in made.specs.items():
        pricer = Pricer(name, spec)
        if args.max_usd is not None and not _priced(pricer, spec):
            raise ValueError(f"--max-usd: the price of {name!r} is not known; give its 'price' in the policy file")
        lines[name] = Line(name, build(name, spec), pricer, Pace(args.concurrency), purse, work, halt)
    return lines


def _priced(pricer: Pricer, spec: ModelSpec) -> bool:
    return pricer.cost(Usage(1, 1)) is not None


async def _record(args: argparse.Namespace, made: plan.Plan, dataset: Dataset, work: Work, graded: Grade | None) -> int:
    halt = Halt()
    lines = _lines(args, made, work, halt)
    live = Live(dataset, made.targets, lines, work, halt, args.limit, args.retry_failed)
    total = live.rows * len(made.targets)
    before = work.spent
    progress = Progress(total, total - live.left())
    live.step = progress.step
    if progress.done:
        print(f"{progress.done:,} of {total:,} answers are there already", file=sys.stderr)
    broken = None
    try:
        await _until_done(live, progress, args.concurrency)
    except OSError as error:
        broken = error
    finally:
        progress.end()
        for line in lines.values():
            await line.model.close()
    return _finish(args, live, graded, before, broken)


async def _until_done(live: Live, progress: Progress, workers: int) -> None:
    """Runs to the end with the progress shown; Ctrl-C once waits for what is under way, twice drops it."""
    task = asyncio.create_task(live.run(workers))
    loop = asyncio.get_running_loop()

    def interrupted() -> None:
        if live.halt.reason == "interrupted":
            task.cancel()
            return
        live.stop("interrupted")
        print("\nwaiting for the requests under way; again to drop them", file=sys.stderr)

    for number in (signal.SIGINT, signal.SIGTERM):
        with suppress(NotImplementedError, RuntimeError):  # not the main thread
            loop.add_signal_handler(number, interrupted)
    while not task.done():
        await asyncio.wait((task,), timeout=0.25)
        progress.show(live.work.spent, live.work.unpriced > 0)
    with suppress(asyncio.CancelledError):
        await task


def _finish(args: argparse.Namespace, live: Live, graded: Grade | None, before: float, broken: OSError | None) -> int:
    work, reason = live.work, live.halt.reason
    rows = 0
    if not work.written or not Path(args.out).exists() or graded is not None:
        try:
            rows = _written(args.out, live, graded)
        except OSError as error:
            broken = broken or error
    left = live.left()
    spent = f"${work.spent:.6f} spent" + (f", ${work.spent - before:.6f} of it now" if before else "")
    if work.unpriced:
        spent += f", and {work.unpriced} requests of unknown price"
    if work.charged:
        spent += f"; requests that were cut off may have cost up to ${work.charged:.6f} more"
    print(f"{args.out}: {rows:,} rows; {spent}" if rows else spent)
    for (key, part, kind), n in sorted(failures(work).items()):
        print(f"  failed: {key}: {part}: {kind}: {n} rows (--retry-failed asks again)")
    for line in live.lines.values():
        if line.stopped is not None:
            print(f"  stopped: {line.name}: {line.stopped}")
    if reason == "budget":
        print(f"  stopped before --max-usd {args.max_usd:g} was passed")
    if left:
        print(f"  {left:,} answers are missing; the same command goes on")
    if broken is not None:
        print(f"error: {work.path}: {broken.strerror}; make room, and the same command goes on", file=sys.stderr)
    if reason == "interrupted":
        return 130
    return 1 if left or broken is not None or failures(work) else 0


def _written(out: str, live: Live, graded: Grade | None) -> int:
    anything = any(live.work.touched(row, m) for m in range(len(live.work.models)) for row in range(live.work.survey.rows))
    return materialise(out, live.dataset, live.work, graded) if anything else 0
