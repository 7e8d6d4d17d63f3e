"""``cascade grade-shadows``: grades sampled runs, each once, so that the loss against premium is known."""

import argparse
import asyncio
import random
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cascade import CascadeError
from cascade.journal.anchors import AnchorBook
from cascade.journal.labels import LabelBook
from cascade.journal.open_store import open_store
from cascade.journal.read.commands import moment
from cascade.journal.store import Filter
from cascade.models.protocol import ModelError
from cascade.policy import load as policy_files
from cascade.util.argument_parser import CommandParser
from cascade.util.broken_pipe import quietly
from cascade.util.messages import error_line
from evals.common.cost_budget import OutOfMoneyError
from evals.grade import GraderError, names
from evals.grade.model import Memory, ModelGrader

from .grading.anchors import Anchor, forget, line, read_anchors, turns
from .grading.sampled_runs import SampledRun, Survey, sampled_runs
from .grading.shadow_grading import Report, ShadowGrading, grade_runs, make_grader, read_references

INTERRUPTED_S = 3_600.0
EXAMPLES = """examples:
  cascade grade-shadows --grader model:use=judge:mode=pairwise --max-usd 1
  cascade grade-shadows --grader number --references answers.jsonl --since 7d
  cascade grade-shadows --grader python:my_project.grading:grade --policy default
"""


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description="Grade the answers of sampled runs: the one returned, and premium's. Each run is graded once, in order. "
        "Runs that premium answered, and those in which both say the same, lose nothing and are not graded. Graders: "
        + ", ".join(names()) + ", and feedback: what the journal's feedback says of the answer, premium taken to be right.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    add = parser.add_argument
    add("--grader", required=True, metavar="NAME[:OPTION=VALUE]",
        help="model:use=NAME:mode=pairwise compares the two in both orders, without names")  # fmt: skip
    add("--references", metavar="FILE",
        help="JSON Lines with a reference, and the run_id or prompt_hash of the run")  # fmt: skip
    add("--since", help="runs that began at or after: 2026-01-31, 2026-01-31T12:00 (UTC), or 36h, 7d ago")
    add("--policy", help="of this policy")
    add("--journal", metavar="URL", help="sqlite:///file or postgresql://host/database")
    add("--policy-file", help="whose journal and models are used (default: the usual search)")
    add("--max-usd", type=float, metavar="X", help="of a model grader: stop before it has cost more in this run")
    add("--anchors", metavar="FILE",
        help="JSON Lines that people judged; the grader grades them again, to see whether it changed")  # fmt: skip
    add("--anchor-grades", type=int, default=20, metavar="N",
        help="of anchors, while no promise is in doubt (default 20)")  # fmt: skip
    add("--new-judge", action="store_true",
        help="forget the anchors' grades: those that follow are the baseline of the present judge")  # fmt: skip
    add("--again", action="store_true",
        help="also what a command was grading when it was killed, over an hour ago: it may be paid twice")  # fmt: skip
    return parser


def main(
    argv: Sequence[str] | None = None, paid: Callable[[float], None] | None = None, *, prog: str = "cascade grade-shadows"
) -> int:
    """The command; returns the exit code: 0, 1 where it stopped before the end, 2 where the input is wrong."""
    args = _parser(prog).parse_args(argv)
    try:
        url = args.journal or _journal_of(args.policy_file)
        memory = Memory.open(_cache(url), args.max_usd)
        if paid is not None:
            memory.paid = paid
        grading = ShadowGrading(
            grader=None
            if args.grader == "feedback"
            else make_grader(args.grader, memory=memory, policy_file=args.policy_file),
            references=read_references(args.references),
        )
        survey = Survey({})
        store = open_store(url, create=False)
        try:
            selection = Filter(since=moment(args.since, time.time()), policy=args.policy)
            runs = list(sampled_runs(store.read(selection), store.policies(), survey))
        finally:
            store.close()
        book = LabelBook(partial(open_store, url, full=True))
        try:
            if args.again:
                book.release_interrupted(time.time() - INTERRUPTED_S)
            anchors = read_anchors(args.anchors) if args.anchors else []
            report, anchor_lines = asyncio.run(_graded(runs, grading, book, _Anchors(anchors, url, args, memory)))
        finally:
            book.close()
    except (GraderError, CascadeError, OSError, ValueError) as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2
    print("\n".join([*_lines(report, survey), *anchor_lines, *memory.report_lines()]))
    return 1 if report.stopped else 0


@dataclass(frozen=True, slots=True)
class _Anchors:
    anchors: Sequence[Anchor]
    url: str
    args: argparse.Namespace
    memory: Memory


async def _graded(
    runs: Sequence[SampledRun], grading: ShadowGrading, book: LabelBook, anchors: _Anchors
) -> tuple[Report, list[str]]:
    """Grades the runs, then the anchors, with one connection to the judge model."""
    try:
        report = await grade_runs(runs, grading, book)
        return report, await _grade_anchors(grading, anchors, report)
    finally:
        if isinstance(grading.grader, ModelGrader):
            await grading.grader.close()


async def _grade_anchors(grading: ShadowGrading, anchors: _Anchors, report: Report) -> list[str]:
    """Grades the anchors that are due; what fails is tried by the next command."""
    if not anchors.anchors or report.stopped is not None:
        return []
    references = {anchor.id: anchor.reference for anchor in anchors.anchors if anchor.reference is not None}
    grading = ShadowGrading(grader=grading.grader, references=references)
    book = AnchorBook(partial(open_store, anchors.url, full=True))
    try:
        if anchors.args.new_judge:
            book.reset()
        for turn in turns(anchors.anchors, book, anchors.args.anchor_grades, random.Random()):
            forget(anchors.memory)
            for anchor in turn:
                if not grading.can(anchor.run):
                    raise GraderError(f"anchor {anchor.id!r}: the grader needs what it does not have: a reference")
                loss = await grading.loss(anchor.run)
                if loss is not None:
                    book.add(anchor.id, loss, anchor.human, grading.name)
        return [line(book.tracker())]
    except (ModelError, OutOfMoneyError) as error:
        report.stopped = f"an anchor could not be graded: {error}"
        return []
    finally:
        book.close()


def _cache(url: str) -> Path:
    from cascade.policy.journal_config import is_sqlite, sqlite_path

    folder = sqlite_path(url).resolve().parent if is_sqlite(url) else Path()
    return folder / ".cascade" / "grades.jsonl"


def _journal_of(policy_file: str | None) -> str:
    path = policy_files.find(policy_file)
    spec = policy_files.load(policy_file).journal
    if spec is None:
        raise ValueError(f"{path}: has no key 'journal'; add one, or name the journal with --journal URL")
    return spec.address()


def _lines(report: Report, survey: Survey) -> list[str]:
    count = report.graded + report.free
    lines = [f"{count} runs labelled: {report.graded} graded, {report.free} that lose nothing by themselves"]
    if report.losses:
        mean = sum(report.losses) / len(report.losses)
        lines.append(f"their mean loss is {mean:+.4f}, without weights; below 0, premium was worse")
    if report.earlier:
        lines.append(f"{report.earlier} had a label already")
    if report.interrupted:
        lines.append(f"{report.interrupted} were being graded when a command ended; --again grades them, and may pay twice")
    if report.undecided:
        lines.append(f"{report.undecided} could not be graded: no reference or feedback, or the grader cannot tell")
    lines += [f"{count} left out: {reason}" for reason, count in sorted(survey.left_out.items())]
    if report.stopped:
        lines.append(f"stopped: {report.stopped}; run the command again to go on")
    return lines


if __name__ == "__main__":
    raise SystemExit(quietly(main))
