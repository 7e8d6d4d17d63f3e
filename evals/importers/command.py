"""``python -m evals.recording import``: other tools' logs, put together to one recording."""

import argparse
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from cascade.costs.prices import Price
from cascade.util.messages import counted
from evals.common.notes import Notes
from evals.recording import RecordingError, read, write
from evals.recording.join import QUESTION_FIELDS, ByPrompt
from evals.recording.merge import merged
from evals.recording.summary import summary

from .base import Names, Options, to_examples

FORMATS = (
    "inspect_ai", "lm_eval", "promptfoo", "openai_batch", "anthropic_batch", "litellm", "langfuse", "otel", "openai_stored",
)  # fmt: skip
# In one tool's logs the same prompt under another task, or with another right answer, is another example.
WITH_GOLD = ("task", "reference", *QUESTION_FIELDS)
EXAMPLES = """examples:
  python -m evals.recording import inspect_ai logs/*.eval --out rec.jsonl.gz
  python -m evals.recording import lm_eval out/*/samples_*.jsonl --out rec.jsonl --model mini large --price mini=0.1,0.4 \\
      --price large=2,8
  python -m evals.recording import promptfoo results.json --out rec.jsonl
  python -m evals.recording import openai_batch output.jsonl errors.jsonl --input sent*.jsonl --out rec.jsonl
  python -m evals.recording import litellm spend_logs.json --out rec.jsonl
  python -m evals.recording import otel traces.jsonl --out rec.jsonl
"""


def add_to(commands: Any) -> None:
    """Adds the command to a parser's."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "import",
        help="make a recording from other tools' logs",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("format", choices=FORMATS)
    add("logs", nargs="+", metavar="FILE", help="logs of that tool, of several models too")
    add("--out", required=True, metavar="REC", help=".jsonl, .jsonl.gz or .parquet")
    add("--model", nargs="+", action="extend", default=[], metavar="NAME",
        help="the models' names in the recording: one for each file in order, or OLD=NEW")  # fmt: skip
    add("--price", nargs="+", action="extend", default=[], metavar="NAME=IN,OUT",
        help="USD per million tokens of a model; tokens that the log has not counted are then estimated")  # fmt: skip
    add("--match", choices=("id", "prompt"), default="id", help="how answers are matched to examples")
    add(
        "--score", metavar="NAME", help="whose score is the quality: inspect_ai SCORER[.KEY], lm_eval METRIC, promptfoo NAME"
    )
    add("--filter", metavar="NAME", help="lm_eval: the filter whose grade is taken (default: the first)")
    add(
        "--input",
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="openai_batch, anthropic_batch: what was sent as a batch",
    )
    add("--reference", default="reference", metavar="VAR", help="promptfoo: the variable that holds the right answer")
    add("--max-bad", type=float, default=0.1, metavar="SHARE",
        help="share of a log's records that may be unreadable and left out (default: 0.1)")  # fmt: skip
    parser.set_defaults(command=run)


def run(args: argparse.Namespace) -> str:
    """Imports and returns what to tell. Raises RecordingError, OSError."""
    for log in (*args.logs, *args.input):
        if os.path.realpath(log) == os.path.realpath(args.out):
            raise RecordingError(
                f"--out: {args.out} is the log itself, which the recording must not replace; give another name"
            )
    if not 0.0 <= args.max_bad <= 1.0:
        raise RecordingError(f"--max-bad must be from 0 to 1, got {args.max_bad:g}")
    notes, same = Notes(), ByPrompt(WITH_GOLD) if args.match == "prompt" else None
    options = Options(args.score, args.filter, tuple(args.input), args.reference, args.max_bad)
    items = import_module(f"evals.importers.{args.format}").items
    prices = dict(_price(text) for text in args.price)
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, str] = {}
        for number, (log, names) in enumerate(zip(args.logs, _names(args.model, prices, len(args.logs)), strict=True)):
            part = str(Path(folder, f"{number}.jsonl"))
            examples = to_examples(items(log, options), names, notes, same)
            try:
                if write(part, examples):
                    parts[part] = log
            except RecordingError as error:
                raise error if log in str(error) else RecordingError(f"{log}: {error}") from None
            except RecursionError:
                raise RecordingError(f"{log}: is nested too deeply; take out what is") from None
        if unknown := sorted(_renamed(args.model).keys() - notes.models):
            raise RecordingError(f"--model: no log has a model {unknown[0]!r}; they have: {', '.join(sorted(notes.models))}")
        if not parts:
            raise RecordingError("\n".join(["nothing could be imported; nothing was written", *notes.lines()]))
        try:
            first, *others = parts
            count = write(args.out, merged(first, others, notes.note))
        except RecordingError as error:
            message = _of_logs(str(error), parts)
            apart = same is None and ("give one of them another id" in message or "another reference" in message)
            hint = "; --match prompt distinguishes them by prompt and reference" if apart else ""
            raise RecordingError(message + hint) from None
    return "\n".join([f"{counted(count, 'example')} written to {args.out}", *_models(args.out, args.match), *notes.lines()])


def _of_logs(message: str, parts: Mapping[str, str]) -> str:
    """An error about a part as one about its log: there the line says nothing, the example does."""
    for part, log in parts.items():
        for line in re.findall(rf"{re.escape(part)}:(\d+)", message):
            with open(part, "rb") as file:
                id = json.loads(next(islice(file, int(line) - 1, None)))["id"]
            message = message.replace(f"{part}:{line}", f"{log}: id {id!r}")
        message = message.replace(part, log)
    return message


def _models(path: str, match: str) -> Iterator[str]:
    """A line a model, with what is still missing before thresholds can be chosen."""
    counts = summary(read(path))
    for model, seen in counts["models"].items():
        n = seen["answers"]
        answers = f"{counted(n, 'answer')}, {seen['graded']:,} graded, {seen['priced']:,} priced"
        yield f"  {model}: {answers}, {counted(seen['samples'], 'sample')}"
        if seen["priced"] < n:
            yield f"    what {n - seen['priced']:,} of them cost is unknown; --price {shlex.quote(model)}=IN,OUT gives it"
        if seen["graded"] < n:
            yield f"    {n - seen['graded']:,} of them have no quality; python -m evals.grade gives it by the references"
        if n < counts["examples"]:
            hint = "; --match prompt finds equal questions under other ids" if match == "id" else ""
            yield f"    {counts['examples'] - n:,} examples have no answer of it, so that a replay leaves them out{hint}"


def _names(options: Sequence[str], prices: Mapping[str, Price], logs: int) -> list[Names]:
    """The names for each log."""
    renamed = _renamed(options)
    if renamed or not options:
        return [Names(None, renamed, prices)] * logs
    if len(options) != logs:
        raise RecordingError(f"--model: {len(options)} names for {logs} files; give each file one, or write OLD=NEW")
    return [Names(name, {}, prices) for name in options]


def _renamed(options: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in options]
    if not any(sign for _, sign, _ in pairs):
        return {}
    if not all(old and new for old, _, new in pairs):
        raise RecordingError("--model: write OLD=NEW for every model, or one name for each file")
    return {old: new for old, _, new in pairs}


def _price(text: str) -> tuple[str, Price]:
    name, sign, rates = text.rpartition("=")
    try:
        input_rate, output_rate = (float(rate) for rate in rates.split(","))
    except ValueError:
        input_rate = output_rate = -1.0
    if not (name and sign and 0 <= input_rate < math.inf and 0 <= output_rate < math.inf):
        raise RecordingError(f"--price: {text!r}: write NAME=IN,OUT in USD per million tokens, for example mini=0.15,0.6")
    return name, Price(input_rate, output_rate)
