"""The arguments of ``python -m evals.record``."""

import argparse
from pathlib import Path

from cascade.util.argument_parser import CommandParser
from evals.engines import add_argument

EXAMPLES = """examples:
  python -m evals.record questions.jsonl --policy openai --out rec.jsonl.gz --max-usd 5
  python -m evals.record tickets.csv --template 'Classify this message: {body}' --reference-field label \\
      --policy policies.yaml --tiers small,large --samples 8 --judges logprob,verifier:model=large --grader choice \\
      --out rec.jsonl
  nohup python -m evals.record questions.jsonl --batch --max-usd 20 --out rec.jsonl.gz > rec.log 2>&1 &

Run the same command again to continue where it stopped; answers that are recorded are not requested again. A later
command may add tiers, a higher --limit, --max-usd or --samples, and judges other than logprob, which needs new answers.
The answers are stored in OUT.work; keep that file as long as you may want to continue. See docs/how-to/record-answers.md.
Exit status: 0 everything is recorded, 1 something is missing, 2 the input is wrong, 130 interrupted.
"""


def parser(prog: str = "python -m evals.record") -> argparse.ArgumentParser:
    """The command line's parser."""
    parser = CommandParser(
        prog=prog,
        description="Send every example to every tier once, and record the answers.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("dataset", help=".jsonl, .jsonl.gz, .csv, .tsv, .parquet, or a folder of text files")
    add("--out", required=True, metavar="FILE", help="the recording, .jsonl or .jsonl.gz")
    add("--policy", metavar="P", help="a policy's name, or a policy file (default: its policy 'default')")
    add("--policy-file", metavar="FILE", help="the policy file, where --policy is a policy's name")
    add("--tiers", help="tiers of the policy or models of its file, separated by commas (default: every tier)")
    add("--prompt-field", metavar="F", help="the field with the prompt: text or chat messages (default: prompt, messages)")
    add("--template", metavar="TEXT", help="build the prompt from a text with {field} placeholders")
    add("--reference-field", default="reference", metavar="F", help="the field with the right answer (default: reference)")
    add("--system", metavar="TEXT", help="a system message for rows that have none")
    add("--samples", type=int, metavar="N", help="further samples of each answer (default: as many as the judges read)")
    add("--temperature", type=float, metavar="T", help="of the samples (default: the judge's, else 0.7)")
    add("--judges", help="judge[:option=value...],... whose scores are recorded (default: each tier's own)")
    add("--grader", action="append", default=[], metavar="[TASK=]NAME[:OPTION=VALUE]",
        help="grade the answers, see python -m evals.grade; may be given several times")  # fmt: skip
    add("--max-usd", type=float, metavar="X", help="stop before the whole recording costs more than this")
    add("--concurrency", type=int, default=16, metavar="N", help="concurrent requests to each model (default 16)")
    add("--batch", action="store_true", help="use the provider's batch API: half the price, answers within a day")
    add("--poll-s", type=float, default=30.0, metavar="S", help="seconds between polls of a batch (default 30)")
    add("--limit", type=int, metavar="N", help="record the first N rows only")
    add(
        "--missing",
        action="store_true",
        help="the dataset is a recording: request only the answers that it lacks, keep its grades",
    )
    add("--retry-failed", action="store_true", help="repeat the requests that failed in earlier runs")
    add_argument(parser)
    return parser


def check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for an argument that cannot be used."""
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
    if args.batch and args.engine != "local":
        raise ValueError("--batch sends whole files of requests from this process; leave --engine out")
    if args.template is not None and args.prompt_field is not None:
        raise ValueError("--template and --prompt-field both define the prompt; use one of them")
    if not Path(args.out).resolve().parent.is_dir():
        raise ValueError(f"--out: the folder {Path(args.out).parent} does not exist; create it first")
    if not args.out.endswith((".jsonl", ".jsonl.gz")):
        raise ValueError(f"--out: {args.out}: a recording's name ends in .jsonl or .jsonl.gz")
