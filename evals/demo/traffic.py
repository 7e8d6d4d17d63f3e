"""Sends a recording's questions to a gateway, and says how good some of the answers were: ``python -m evals.demo.traffic``.

``--serve`` starts a gateway of its own with the shipped recording behind it: a dashboard to look at, no key needed. The
questions come in a random order, at random moments, as those of many users would.
"""

import argparse
import asyncio
import os
import random
import signal
import socket
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from cascade.data import STARTER_RECORDING
from cascade.policy.load import packaged
from cascade.util.argument_parser import CommandParser
from cascade.util.messages import error_text
from evals.recording import Example, RecordingError, read

EXAMPLES = """examples:
  python -m evals.demo.traffic --serve                                     # a gateway of its own, at http://127.0.0.1:8080/dashboard
  python -m evals.demo.traffic --url https://gateway.example:8080 --rate 50 --recording rec.jsonl"""
_READY_S = 60.0
_STOP_S = 60.0
_MOST_UNDER_WAY = 200


@dataclass(slots=True)
class Counts:
    """The outcomes of the questions: ``ends`` by HTTP status or lost connection; ``graded``: qualities sent as feedback."""

    ends: Counter[str] = field(default_factory=Counter)
    graded: list[float] = field(default_factory=list)

    def words(self) -> str:
        """A line for people."""
        total = sum(self.ends.values())
        others = ", ".join(f"{n:,} {end}" for end, n in self.ends.most_common() if end != "200")
        feedback = (
            f"; feedback on {len(self.graded):,}, mean quality {sum(self.graded) / len(self.graded):.3f}"
            if self.graded
            else ""
        )
        return f"{total:,} questions, {self.ends['200']:,} answered{f', {others}' if others else ''}{feedback}"


def body_of(example: Example, policy: str) -> dict[str, Any]:
    """The question as a chat completion; its schema as a response format, its tools as they are."""
    body: dict[str, Any] = {"model": policy, "messages": list(example.to_prompt().messages)}
    if example.schema is not None:
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "answer", "schema": example.schema}}
    if example.tools:
        body["tools"] = list(example.tools)
    return body


def quality_of(example: Example, model: str, text: str | None) -> float | None:
    """The recorded quality of an answer that says just this; None where it was not recorded, or not graded."""
    recorded: Mapping[str, Any] = example.answers.get(model, {})
    for answer in (recorded, *recorded.get("samples", ())):
        if answer.get("text") == text:
            quality: float | None = answer.get("quality")
            return quality
    return None


async def ask(client: httpx2.AsyncClient, example: Example, policy: str, counts: Counts, *, tell: bool) -> None:
    """One question, and where ``tell`` says so what its answer was worth."""
    try:
        response = await client.post("/v1/chat/completions", json=body_of(example, policy))
        counts.ends[str(response.status_code)] += 1
        if response.status_code != 200 or not tell:
            return
        body = response.json()
        about = body["cascade"]
        quality = quality_of(example, about["model"], body["choices"][0]["message"]["content"])
        if quality is not None:
            await client.post("/v1/feedback", json={"run_id": about["run_id"], "quality": quality})
            counts.graded.append(quality)
    except httpx2.HTTPError as error:
        counts.ends[type(error).__name__] += 1


async def send(
    client: httpx2.AsyncClient,
    examples: Sequence[Example],
    counts: Counts,
    *,
    policy: str = "default",
    rate: float = 5.0,
    feedback: float = 0.3,
    seconds: float | None = None,
    seed: int = 0,
) -> None:
    """Sends questions at ``rate`` a second on average, with feedback on that share, for so long (None: until cancelled)."""
    rng = random.Random(seed)
    ends = None if seconds is None else asyncio.get_running_loop().time() + seconds
    gate = asyncio.Semaphore(_MOST_UNDER_WAY)

    async def one(example: Example, tell: bool) -> None:
        async with gate:
            await ask(client, example, policy, counts, tell=tell)

    async with asyncio.TaskGroup() as group:
        while ends is None or asyncio.get_running_loop().time() < ends:
            group.create_task(one(rng.choice(examples), rng.random() < feedback))
            await asyncio.sleep(rng.expovariate(rate))


@asynccontextmanager
async def gateway(port: int) -> AsyncIterator[str]:
    """A gateway in a process of its own, with the packaged policies and a journal for the time being; gives its address.

    The port is taken here, before the gateway starts, so that no other program can answer in its place. The gateway stops
    when this process ends, in whatever way: its standard input ends with it.

    Raises:
        RuntimeError: The port is in use, or the gateway does not start.
    """
    try:
        listener = socket.create_server(("127.0.0.1", port), backlog=1024)
    except (OSError, OverflowError) as error:
        raise RuntimeError(f"cannot listen on 127.0.0.1:{port} ({error}); choose another port: --port N") from None
    with closing(listener), tempfile.TemporaryDirectory(prefix="cascade-traffic-") as folder:
        policies = Path(folder) / "policies.yaml"
        journal = "journal: {url: 'sqlite:///journal.db'}"
        policies.write_text(f"{packaged().read_text(encoding='utf-8')}\n{journal}\n", encoding="utf-8")
        number = listener.fileno()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "cascade", "serve", "--policy-file", str(policies)),
            *("--fd", str(number), "--stop-on-eof"),
            stdin=asyncio.subprocess.PIPE,
            pass_fds=(number,),
        )
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.close()  # only the gateway has it now: once it has ended, connections are refused
        try:
            await _ready(url, process)
            yield url
        finally:
            await asyncio.shield(_stop(process))


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ends the gateway; it is killed where it does not end by itself."""
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _ready(url: str, process: asyncio.subprocess.Process) -> None:
    async with httpx2.AsyncClient(base_url=url, timeout=_READY_S) as client, asyncio.timeout(_READY_S):
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"the gateway did not start: it ended with status {process.returncode}")
            try:
                if (await client.get("/v1/models")).status_code < 500:
                    return
            except httpx2.HTTPError:
                pass
            await asyncio.sleep(0.1)


def address(url: str) -> str:
    """An address as it may be shown: without a user, a password, a query."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "the address"
    if not host:
        return "the address"
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}{f':{port}' if port else ''}"


def parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = CommandParser(prog="python -m evals.demo.traffic", description=__doc__, epilog=EXAMPLES)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--url", type=_url, help="the gateway's address, such as http://127.0.0.1:8000")
    where.add_argument("--serve", action="store_true", help="start a gateway with the shipped recording behind it")
    parser.add_argument("--port", type=int, default=8080, help="of --serve (default: 8080)")
    parser.add_argument("--recording", default=STARTER_RECORDING, help="whose questions are sent (default: the shipped one)")
    parser.add_argument("--policy", default="default")
    parser.add_argument(
        "--rate", type=_positive, default=5.0, metavar="N", help="questions a second on average (default: 5)"
    )
    parser.add_argument("--feedback", type=_share, default=0.3, metavar="P", help="share that gets feedback (default: 0.3)")
    parser.add_argument("--seconds", type=_positive, help="how long (default: until it is stopped)")
    parser.add_argument(
        "--key-env", default="CASCADE_KEY", metavar="NAME", help="whose value is the key (default: CASCADE_KEY)"
    )
    parser.add_argument("--seed", type=int, default=0)
    return parser


def _url(text: str) -> str:
    if not address(text).startswith(("http://", "https://")):
        raise argparse.ArgumentTypeError("must be the address of a gateway, such as http://127.0.0.1:8000")
    return text


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be more than 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


async def _main(args: argparse.Namespace, examples: Sequence[Example], counts: Counts) -> None:
    key = os.environ.get(args.key_env)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    settings = {name: getattr(args, name) for name in ("policy", "rate", "feedback", "seconds", "seed")}

    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        with suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(number, task.cancel)

    async def to(url: str) -> None:
        async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
            await send(client, examples, counts, **settings)

    if not args.serve:
        await to(args.url)
        return
    async with gateway(args.port) as url:
        print(f"dashboard: {url}/dashboard (Ctrl+C ends it)", flush=True)
        await to(url)


def main(argv: Sequence[str] | None = None) -> int:
    """Sends questions until it is stopped; 0 where at least one was answered."""
    args = parser().parse_args(argv)
    counts = Counts()
    try:
        examples = list(read(args.recording))
        asyncio.run(_main(args, examples, counts))
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass
    except (RecordingError, OSError, RuntimeError, TimeoutError) as error:
        print(f"error: {error_text(error)}", file=sys.stderr)
        return 2
    print(counts.words())
    if counts.ends["200"]:
        return 0
    print(f"error: {address(args.url) if args.url else 'the gateway'}: no question was answered", file=sys.stderr)
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
