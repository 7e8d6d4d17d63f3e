"""Recording against a real local server: answers a second, memory, how soon a long recording goes on; one line of JSON.

Server and recorder are processes of their own, each on a core of its own where there are two. Each figure stands beside
that of a bare loop over the same client, which keeps nothing, measured in turn with it. Of the rounds the fastest counts:
whatever else the machine does can only slow one down.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from tests.wire_server import chat

PER_S, OF_IDEAL, RESUME_S = 1500, 0.90, 5.0
GROWTH_MB = 5.0  # of the resident memory between the first and the last third
WORKERS, DELAY_S = 64, 0.05
ROWS = 100_000
_BODY = json.dumps(chat("The answer is 42.")).encode()
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: "
_REPLY = _HEAD + str(len(_BODY)).encode() + b"\r\n\r\n" + _BODY


class Connection(asyncio.Protocol):
    """Answers every POST alike, ``delay_s`` later; any other request is told how many there were, and when."""

    delay_s, requests, first, last = 0.0, 0, 0.0, 0.0

    def __init__(self) -> None:
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lower = head.lower()
        at = lower.find(b"content-length:")
        if at >= 0 and len(rest) < int(lower[at + 15 :].split(b"\r\n", 1)[0]):
            return
        self.buffer = b""
        if not head.startswith(b"POST"):
            self.transport.write(_response(json.dumps([Connection.requests, Connection.first, Connection.last]).encode()))
        elif self.delay_s:
            Connection.requests += 1
            asyncio.get_running_loop().call_later(self.delay_s, self._answer)
        else:
            Connection.requests += 1
            self._answer()

    def _answer(self) -> None:
        Connection.last = monotonic()
        Connection.first = Connection.first or Connection.last
        self.transport.write(_REPLY)


def _response(body: bytes) -> bytes:
    return _HEAD + str(len(body)).encode() + b"\r\n\r\n" + body


async def serve(delay_s: float) -> None:
    """Prints its port and serves until standard input ends."""
    Connection.delay_s = delay_s
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(Connection, "127.0.0.1", 0, backlog=2048)
    loop.add_reader(sys.stdin.fileno(), over.set)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


class Server:
    """``with Server(delay_s) as server``: the server on the first core."""

    def __init__(self, delay_s: float = 0.0) -> None:
        self.delay_s = delay_s

    def __enter__(self) -> "Server":
        argv = [sys.executable, __file__, "--serve", str(self.delay_s)]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        _pin(self._process.pid, 0)
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def figures(self) -> tuple[int, float, float]:
        """How many requests came, when the first and the last were answered (monotonic seconds)."""
        with urllib.request.urlopen(self.url, timeout=10) as reply:
            requests, first, last = json.loads(reply.read())
        return requests, first, last


def _pin(pid: int, core: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) > 1:
        os.sched_setaffinity(pid, cores[core : core + 1])


class Watched:
    """A process on the second core: its resident memory in MB and its CPU seconds, ten times a second until it ends."""

    def __init__(self, argv: list[str]) -> None:
        self.samples: list[tuple[float, float, float]] = []
        with tempfile.TemporaryFile() as output:
            process = subprocess.Popen([sys.executable, *argv], stdout=output, stderr=subprocess.STDOUT)
            _pin(process.pid, 1)
            while process.poll() is None:
                with suppress(OSError, IndexError):
                    self.samples.append((monotonic(), *_used(process.pid)))
                sleep(0.1)
            output.seek(0)
            self.output = output.read().decode()
        assert process.returncode == 0, self.output

    def within(self, first: float, last: float) -> dict[str, float]:
        """CPU seconds between two moments, and by how many MB the mean of the last third is above that of the first."""
        samples = [s for s in self.samples if first <= s[0] <= last]
        third = max(1, len(samples) // 3)
        low, high = (statistics.mean(mb for _, mb, _ in part) for part in (samples[:third], samples[-third:]))
        cpu = (samples[-1][2] - samples[0][2]) / (samples[-1][0] - samples[0][0]) * (last - first)
        return {"cpu_s": cpu, "mb": high, "growth_mb": high - low}


def _used(pid: int) -> tuple[float, float]:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    ticks = int(after_name[11]) + int(after_name[12])
    return pages * resource.getpagesize() / 2**20, ticks / os.sysconf("SC_CLK_TCK")


async def bare(url: str, workers: int, total: int) -> None:
    """The same client in a loop, and nothing kept."""
    from cascade.models.openai import OpenAIModel
    from cascade.models.protocol import Request
    from judges import Prompt

    model = OpenAIModel(name="m", model="m", base_url=f"{url}/v1", max_tokens=20)
    left = iter(range(total))

    async def worker() -> None:
        for i in left:
            await model.answer(Prompt.of(f"What is {i}?"), Request())

    await asyncio.gather(*(worker() for _ in range(workers)))
    await model.close()


def desk(folder: Path, url: str, rows: int) -> list[str]:
    """A dataset and a policy in the folder; the command that records them."""
    model = {
        "provider": "openai", "base_url": f"{url}/v1", "max_tokens": 20,
        "price": {"input_per_mtok": 1.0, "output_per_mtok": 2.0},
    }  # fmt: skip
    policy = {"version": 1, "models": {"m": model}, "policies": {"default": {"tiers": [{"model": "m"}]}}}
    (folder / "policy.yaml").write_text(json.dumps(policy))
    with (folder / "rows.jsonl").open("w") as file:
        file.writelines(json.dumps({"id": f"r{i}", "prompt": f"What is {i}?"}) + "\n" for i in range(rows))
    names = [str(folder / name) for name in ("rows.jsonl", "policy.yaml", "rec.jsonl")]
    return ["-m", "evals.record", names[0], "--policy", names[1], "--out", names[2]]


def measured(argv: list[str], server: Server, total: int) -> dict[str, float]:
    """Answers a second from the first to the last answer, by the clock and by the client's CPU, and its memory."""
    watched = Watched(argv)
    requests, first, last = server.figures()
    assert requests == total, (requests, watched.output)
    samples = watched.within(first, last)
    return {"per_s": total / (last - first), "per_cpu_s": total / samples["cpu_s"], **samples}


def compared(workers: int, delay_s: float, total: int, rounds: int) -> dict[str, Any]:
    """The recorder and the bare loop in turn; medians of the rounds, and the ratios of each round."""
    ours, theirs = [], []
    for _ in range(rounds):
        with Server(delay_s) as server:
            theirs.append(measured([__file__, "--bare", server.url, str(workers), str(total)], server, total))
        with Server(delay_s) as server, tempfile.TemporaryDirectory() as folder:
            argv = [*desk(Path(folder), server.url, total), "--concurrency", str(workers)]
            ours.append(measured(argv, server, total))
            with Path(folder, "rec.jsonl").open("rb") as file:
                assert sum(1 for _ in file) == total
    by_cpu = [a["per_cpu_s"] / b["per_cpu_s"] for a, b in zip(ours, theirs, strict=True)]
    return {
        "per_s": [round(one["per_s"]) for one in ours],
        "bare_per_s": [round(one["per_s"]) for one in theirs],
        "per_cpu_s": round(statistics.median(one["per_cpu_s"] for one in ours)),
        "ratio": [round(a["per_s"] / b["per_s"], 2) for a, b in zip(ours, theirs, strict=True)],
        "ratio_by_cpu": [round(r, 2) for r in by_cpu],
        "mb": round(max(one["mb"] for one in ours), 1),
        "growth_mb": [round(one["growth_mb"], 1) for one in ours],
        "n": total,
    }


def resumed(rounds: int) -> list[float]:
    """Seconds from the start of the process to its first request, where ROWS answers are there already."""
    from evals.common.answer_rows import answer_fields
    from evals.record.checkpoint import ANSWER, Checkpoint
    from evals.record.dataset import Dataset
    from judges import Answer, Usage

    took = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for _ in range(rounds):
            with Server() as server:
                argv = desk(folder, server.url, ROWS + 10)
                work = folder / "rec.jsonl.work"
                work.unlink(missing_ok=True)
                (folder / "rec.jsonl").unlink(missing_ok=True)
                open_work = Checkpoint(work, Dataset(str(folder / "rows.jsonl")).survey())
                fields = answer_fields(Answer("The answer is 42.", finish_reason="stop", usage=Usage(10, 5)), 2e-5, 0.4)
                for row in range(ROWS):
                    open_work.add_part(row, open_work.model_index("m"), ANSWER, 1, 2e-5, fields)
                open_work.close()
                began = monotonic()
                Watched(argv)
                requests, first, _ = server.figures()
                assert requests == 10
                took.append(round(first - began, 2))
    return took


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--answers", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--serve", type=float, metavar="DELAY_S")
    parser.add_argument("--bare", nargs=3, metavar=("URL", "WORKERS", "TOTAL"))
    args = parser.parse_args()
    if args.serve is not None:
        asyncio.run(serve(args.serve))
        return 0
    if args.bare is not None:
        asyncio.run(bare(args.bare[0], int(args.bare[1]), int(args.bare[2])))
        return 0
    at_once = compared(200, 0.0, args.answers, args.rounds)
    slow = compared(WORKERS, DELAY_S, args.answers // 3, args.rounds)
    ideal = WORKERS / DELAY_S
    resume = resumed(args.rounds)
    slow["of_ideal"] = round(max(slow["per_s"]) / ideal, 3)
    ok = {
        "per_s": max(at_once["per_s"]) >= PER_S,
        "growth_mb": statistics.median(at_once["growth_mb"]) <= GROWTH_MB,
        "of_ideal": slow["of_ideal"] >= OF_IDEAL,
        "resume_s": min(resume) <= RESUME_S,
    }
    targets = {"per_s": PER_S, "growth_mb": GROWTH_MB, "of_ideal": OF_IDEAL, "resume_s": RESUME_S}
    figures = {"at_200": at_once, f"at_{WORKERS}_of_{DELAY_S * 1e3:g}_ms": slow, f"resume_of_{ROWS}_s": resume}
    print(json.dumps({"benchmark": "record", **figures, "targets": targets, "ok": ok}))
    return 0 if all(ok.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
