"""The arguments of ``python -m evals.grade``."""

import argparse

from cascade.util.argument_parser import CommandParser
from evals.engines import add_argument

from .code import RISK
from .registry import names

EXAMPLES = """examples:
  python -m evals.grade recording.jsonl --grader number
  python -m evals.grade recording.jsonl --grader text --grader orders=json:credit=fields --grader sums=number:tolerance=0.01
  python -m evals.grade recording.jsonl.gz --grader python:my_project.grading:grade --out graded.jsonl.gz
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium --policy-file policies.yaml --max-usd 2
  python -m evals.grade recording.jsonl --grader model:use=gpt-premium:mode=pairwise:against=gpt-4o
"""


def parser(prog: str = "python -m evals.grade") -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = CommandParser(
        prog=prog,
        description="Grade the answers and samples of a recording. Graders: " + ", ".join(names()) + ".",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("recording", help="JSON Lines, .gz allowed; replaced as a whole unless --out is given")
    add("--grader", action="append", required=True, metavar="[TASK=]NAME[:OPTION=VALUE]",
        help="for all tasks, or for one; may be given several times")  # fmt: skip
    add("--models", help="only these models' answers, separated by commas")
    add("--regrade", action="store_true", help="also answers that have a grade of the same grader and version")
    add("--out", metavar="FILE", help="write here instead")
    add("--unsafe", action="store_true", help=f"run code even where the kernel offers no isolation; {RISK}")
    add("--policy-file", help="where a model grader's model is described (default: the usual search)")
    add("--max-usd", type=float, metavar="X", help="of model graders: stop before they have cost more in this run")
    add("--concurrency", type=int, default=16, help="grades made at once by processes and models (default 16)")
    add_argument(parser)
    return parser
