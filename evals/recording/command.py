"""The commands that look at recordings and make new ones of them, streamed, with little memory."""

import argparse
import hashlib
import heapq
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from cascade.policy.thresholds import NO_TASK
from cascade.util.argument_parser import CommandParser
from cascade.util.messages import counted, error_text
from evals.common.notes import Notes

from .check import RecordingError
from .format import Example, read, write, write_all
from .join import ByPrompt
from .merge import merged
from .summary import summary

EXAMPLES = """examples:
  python -m evals.recording show recording.jsonl.gz
  python -m evals.recording merge mini.jsonl large.jsonl --out both.jsonl.gz
  python -m evals.recording split recording.jsonl train=0.5 test=0.5 --seed 0
  python -m evals.recording sample recording.jsonl 500 --out small.jsonl
  python -m evals.recording merge recording.jsonl --out recording.parquet
  python -m evals.recording import inspect_ai logs/*.eval --out recording.jsonl
"""


def _show(args: argparse.Namespace) -> str:
    counts = summary(read(args.recording))
    if args.json:
        return json.dumps(counts, indent=2)
    n, size = counts["examples"], Path(args.recording).stat().st_size
    lines = [f"{args.recording}: {counted(n, 'example')}, {size / 1e6:,.1f} MB, {counts['references']:,} with a reference"]
    tasks = [f"{task or NO_TASK} {count:,}" for task, count in list(counts["tasks"].items())[:12]]
    lines.append(f"tasks: {', '.join(tasks)}{' ...' if len(counts['tasks']) > 12 else ''}")
    lines.append("splits: " + ", ".join(f"{split} {count:,}" for split, count in counts["splits"].items()))
    if not counts["models"]:
        lines.append("no model has answered")
        return "\n".join(lines)
    width = max(5, *(len(m) for m in counts["models"]))
    lines.append(f"\n{'model':<{width}}  answers  graded  quality  USD/1000  mean s  samples  signals")
    for model, m in counts["models"].items():
        quality, usd, seconds = (
            "—" if value is None else format(value, form)
            for value, form in ((m["quality"], ".3f"), (m["usd_per_1000"], ".4g"), (m["mean_s"], ".2f"))
        )
        signals = ", ".join(f"{k} {v:,}" for k, v in m["signals"].items()) or "none"
        lines.append(
            f"{model:<{width}}  {m['answers']:>7,}  {m['graded']:>6,}  {quality:>7}  {usd:>8}  {seconds:>6}  "
            f"{m['samples']:>7,}  {signals}"
        )
    return "\n".join(lines)


def _merge(args: argparse.Namespace) -> str:
    (first, *others), notes = args.recordings, Notes()
    count = write(args.out, merged(first, others, notes.note, ByPrompt() if args.match == "prompt" else None))
    return "\n".join([f"{counted(count, 'example')} written to {args.out}", *notes.lines()])


def draw(seed: int, *parts: str) -> float:
    """A number in [0, 1) that depends only on the seed and the parts."""
    digest = hashlib.blake2b("\0".join((str(seed), *parts)).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _sample(args: argparse.Namespace) -> str:
    if args.n < 1:
        raise RecordingError(f"sample: the number of examples must be 1 or more, got {args.n}")
    if os.path.realpath(args.out) == os.path.realpath(args.recording):
        raise RecordingError("sample: --out is the recording itself, whose other examples would be lost; give another name")
    least = heapq.nsmallest(args.n, ((draw(args.seed, e.id), e.id) for e in read(args.recording)))
    chosen = {id for _, id in least}
    count = write(args.out, (e for e in read(args.recording) if e.id in chosen))
    return f"{counted(count, 'example')} written to {args.out}"


def _shares(texts: Sequence[str]) -> list[tuple[str, float]]:
    shares = []
    for text in texts:
        name, sign, value = text.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if not (name and sign and 0 < share <= 1):
            raise RecordingError(f"split: {text!r}: write name=share, for example train=0.5 test=0.5")
        if Path(name).name != name:
            raise RecordingError(f"split: {name!r}: the part's name becomes part of a file's, and can hold no folder")
        shares.append((name, share))
    # Some file systems ignore case.
    if len({n.casefold() for n, _ in shares}) < len(shares) or abs(sum(s for _, s in shares) - 1) > 1e-9:
        raise RecordingError("split: the parts need names of their own, and their shares must add up to 1")
    return shares


def _split(args: argparse.Namespace) -> str:
    shares = _shares(args.parts)
    path = Path(args.recording)
    ending = "".join(path.suffixes[-2:] if path.suffix == ".gz" else path.suffixes[-1:])
    stem = path.name.removesuffix(ending)

    def part(example: Example) -> str:
        # By the question, so that equal ones stay together.
        at = draw(args.seed, json.dumps([example.system, example.prompt], sort_keys=True))
        for name, share in shares:
            at -= share
            if at < 0:
                return name
        return shares[-1][0]

    def chosen(name: str) -> Iterator[Example]:
        split = name if name in ("train", "test") else None
        empty = True
        for example in read(path):
            if part(example) == name:
                empty = False
                yield replace(example, split=split) if split else example
        if empty:
            raise RecordingError(
                f"split: no example came into the part {name!r}; nothing was written; give it a larger share"
            )

    targets = [path.with_name(f"{stem}.{name}{ending}") for name, _ in shares]
    # All or none: parts of two different draws would share examples.
    counts = write_all([(target, chosen(name)) for target, (name, _) in zip(targets, shares, strict=True)])
    return "\n".join(f"{counted(n, 'example')} written to {target}" for n, target in zip(counts, targets, strict=True))


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = CommandParser(
        prog=prog,
        description="Look at recordings and make new ones. Files that end in .gz or .parquet are read and written as such.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = commands.add_parser("show", help="show examples, tasks, models, quality, cost, signals")
    show.add_argument("recording")
    show.add_argument("--json", action="store_true", help="for machines")
    show.set_defaults(command=_show)
    merge = commands.add_parser("merge", help="combine the answers to the same examples, or rewrite one file")
    merge.add_argument("recordings", nargs="+")
    merge.add_argument("--out", required=True)
    merge.add_argument("--match", choices=("id", "prompt"), default="id",
                       help="how examples are matched: by id, or by prompt")  # fmt: skip
    merge.set_defaults(command=_merge)
    split = commands.add_parser("split", help="split into parts by share, each in a file of its own next to the recording")
    split.add_argument("recording")
    split.add_argument("parts", nargs="+", metavar="NAME=SHARE")
    split.add_argument("--seed", type=int, default=0)
    split.set_defaults(command=_split)
    sample = commands.add_parser("sample", help="draw examples at random")
    sample.add_argument("recording")
    sample.add_argument("n", type=int)
    sample.add_argument("--out", required=True)
    sample.add_argument("--seed", type=int, default=0)
    sample.set_defaults(command=_sample)
    # By name: the importers build on this package, which must not depend on them.
    import_module("evals.importers.command").add_to(commands)
    return parser


def printable(text: str) -> str:
    """Escapes control and unprintable characters: names in a recording are untrusted input."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m evals.recording") -> int:
    """The command; returns the exit code: 0, or 2 where the input is wrong."""
    args = _parser(prog).parse_args(argv)
    try:
        print(printable(args.command(args)))
    except BrokenPipeError:
        raise
    except (RecordingError, OSError, ValueError, ModuleNotFoundError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    return 0
