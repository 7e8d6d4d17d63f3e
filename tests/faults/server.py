"""A fault server in a process of its own: ``python -m tests.faults.server``. See ``process.FaultServer`` for its other end.

It speaks OpenAI's chat completions and Anthropic's messages, and keeps a ledger of what it billed. Raw protocol, because
half of the faults lie below HTTP. It prints its port and ends when its standard input does.
"""

import asyncio
import contextlib
import json
import random
import socket
import struct
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from decimal import Decimal

from tests.faults import replies
from tests.faults.replies import ParsedRequest, Plan, chunk, head, whole

_AWAY = "127.0.0.2"  # no client's own port can be in the way there while a port is closed


@dataclass
class Entry:
    """One request: what it was billed, and whether the answer was sent whole and in a form that can be read."""

    model: str
    run: int
    fault: str | None
    usd: Decimal
    arrived: bool = False


@dataclass
class Ledger:
    """All requests in the order of arrival (where ``keep``), and their totals by model."""

    keep: bool = True
    entries: list[Entry] = field(default_factory=list)
    requests: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    billed: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    arrived: dict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))

    def open(self, model: str, run: int, fault: str | None, usd: Decimal) -> Entry:
        """A new entry, billed."""
        entry = Entry(model, run, fault, usd)
        self.requests[model] += 1
        self.billed[model] += usd
        if self.keep:
            self.entries.append(entry)
        return entry

    def close(self, entry: Entry) -> None:
        """The answer left this process whole."""
        entry.arrived = True
        self.arrived[entry.model] += entry.usd

    def dump(self) -> bytes:
        """The ledger as JSON; USD as text, since floats would round."""
        return json.dumps(
            {
                "entries": [[e.model, e.run, e.fault, str(e.usd), e.arrived] for e in self.entries],
                "requests": self.requests,
                "billed": {m: str(usd) for m, usd in self.billed.items()},
                "arrived": {m: str(usd) for m, usd in self.arrived.items()},
            }
        ).encode()


class House:
    """All models, their plans and random generators, and the ports of those that refuse connections."""

    def __init__(self) -> None:
        self.plans: dict[str, Plan] = {}
        self.draws: dict[str, random.Random] = {}
        self.ledger = Ledger()
        self.port = 0
        self._doors: list[asyncio.Task[None]] = []
        self._shut: list[socket.socket] = []

    async def plan(self, setup: dict[str, object]) -> dict[str, str]:
        """Takes new plans, forgets the ledger; the address of each model's server."""
        for task in self._doors:
            task.cancel()
        for sock in self._shut:
            sock.close()
        self._doors, self._shut = [], []
        models: dict[str, dict[str, object]] = setup["models"]  # type: ignore[assignment]
        self.plans = {name: Plan(**{**plan, "faults": tuple(plan["faults"])}) for name, plan in models.items()}  # type: ignore[arg-type]
        self.draws = {name: random.Random(f"{setup['seed']} {name}") for name in models}
        self.ledger = Ledger(bool(setup["keep"]))
        urls = {}
        for name, plan in self.plans.items():
            urls[name] = f"http://127.0.0.1:{self.port}"
            if plan.faults == ("refused",):
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind((_AWAY, 0))  # bound and not listening: refused, and the port is nobody else's
                urls[name] = f"http://{_AWAY}:{sock.getsockname()[1]}"
                if plan.rate >= 1:
                    self._shut.append(sock)
                else:
                    self._doors.append(asyncio.create_task(self._door(sock, plan.rate, self.draws[name])))
        return urls

    async def _door(self, sock: socket.socket, rate: float, draw: random.Random) -> None:
        """Listens most of the time: closed for ``rate`` of it, for some milliseconds at once."""
        address, loop = sock.getsockname(), asyncio.get_running_loop()
        try:
            while True:
                await asyncio.sleep(0.05 * rate * draw.uniform(0.5, 1.5))
                sock.close()
                server = await loop.create_server(lambda: Connection(self, last=True), *address, reuse_address=True)
                await asyncio.sleep(0.05 * (1 - rate) * draw.uniform(0.5, 1.5))
                server.close()
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                sock.bind(address)
        finally:
            sock.close()


class Connection(asyncio.Protocol):
    """One connection: reads requests, one at a time, and answers as the model's plan says. ``last``: then closes."""

    def __init__(self, house: House, *, last: bool = False) -> None:
        self.house, self.last = house, last
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.drained = asyncio.Event()
        self.drained.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self.task is not None:
            self.task.cancel()

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    def eof_received(self) -> bool:
        return False

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        top, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator or (self.task is not None and not self.task.done()):
            return
        lines = top.decode("latin-1").split("\r\n")
        length = next((int(line[15:]) for line in lines if line.lower().startswith("content-length:")), 0)
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        path, body = lines[0].split(" ")[1], rest[:length]
        if path.startswith("/control/"):
            self.task = asyncio.ensure_future(self._control(path, body))
            return
        request = replies.read(path, body)
        plan = self.house.plans[request.model]
        draw = self.house.draws[request.model]
        is_faulty = bool(plan.faults) and plan.faults != ("refused",) and draw.random() < plan.rate
        fault = draw.choice(plan.faults) if is_faulty else None
        free = fault in replies.REFUSALS or fault in replies.PAGES
        usd = Decimal(0) if free else plan.usd(request.tokens_in, request.tokens_out)
        entry = self.house.ledger.open(request.model, request.run, fault, usd)
        if fault is None and not request.stream and not plan.delay_s:
            body = replies.answer(request.anthropic, plan.answer, request.tokens_in, request.tokens_out)
            self.transport.write(whole(body, 200, "application/json", *(["connection: close"] if self.last else [])))
            self.house.ledger.close(entry)
            if self.last:
                self.transport.close()
        else:
            self.task = asyncio.ensure_future(self._slowly(request, plan, fault, entry))

    async def _control(self, path: str, body: bytes) -> None:
        if path == "/control/plan":
            reply = json.dumps(await self.house.plan(json.loads(body))).encode()
        else:
            reply = self.house.ledger.dump()
        self.transport.write(whole(reply))

    async def _slowly(self, request: ParsedRequest, plan: Plan, fault: str | None, entry: Entry) -> None:
        if plan.delay_s:
            await asyncio.sleep(plan.delay_s)
        if request.stream and (fault is None or fault in replies.STREAM_FAULTS):
            await self._stream(request, plan, fault, entry)
        elif fault is None:
            await self._send(whole(replies.answer(request.anthropic, plan.answer, request.tokens_in, request.tokens_out)))
            self.house.ledger.close(entry)
        else:
            await self._fail(request, plan, fault, entry)
        if self.last:
            self.transport.close()

    async def _fail(self, request: ParsedRequest, plan: Plan, fault: str, entry: Entry) -> None:
        body = replies.answer(request.anthropic, plan.answer, request.tokens_in, request.tokens_out)
        half = body[: len(body) // 2]
        match fault:
            case "no_choices":
                await self._send(whole(replies.answer(request.anthropic, "", request.tokens_in, request.tokens_out)))
                self.house.ledger.close(entry)
            case "html" | "error_200":
                await self._send(replies.page(fault))
            case "bad_utf8":
                await self._send(whole(body.replace(plan.answer.encode(), b"the \xff\xfe answer")))
            case "bad_gzip":
                await self._send(whole(body, 200, "application/json", "content-encoding: gzip"))
            case "bomb":
                await self._send(whole(replies.bomb(request.anthropic), 200, "application/json", "content-encoding: gzip"))
            case "huge":
                size = replies.HUGE_BYTES
                start, end = body.split(plan.answer.encode())
                await self._send(head(200, "application/json", len(start) + size + len(end)) + start)
                for _ in range(size // 100_000):
                    await self._send(b"x" * 100_000)
                await self._send(end)
            case "cut_json":
                await self._send(whole(half))
            case "drip":
                await self._send(head(length=len(body)))
                for i in range(len(body)):
                    await self._send(body[i : i + 1])
                    await asyncio.sleep(replies.DRIP_S)
                self.house.ledger.close(entry)
            case "hang":
                await asyncio.sleep(3600)
            case "closed":
                self.transport.close()
            case "reset" | "cut_length":
                await self._end(head(length=len(body)) + half, reset=fault == "reset")
            case "cut_close":
                await self._end(head(200, "application/json", None, "connection: close") + half)
            case "cut_chunked" | "bad_chunk":
                bad = b"zz\r\n" if fault == "bad_chunk" else b""
                await self._end(head(200, "application/json", None, "transfer-encoding: chunked") + chunk(half) + bad)
            case _:
                await self._send(replies.refusal(fault, request.anthropic))

    async def _stream(self, request: ParsedRequest, plan: Plan, fault: str | None, entry: Entry) -> None:
        pieces = replies.events(request, plan.answer)
        await self._send(head(200, "text/event-stream", None, "transfer-encoding: chunked"))
        half = len(pieces) // 2 if fault is not None else len(pieces)
        for piece in pieces[:half]:
            await self._send(chunk(piece))
        rest = b"".join(pieces[half:])
        match fault:
            case None:
                await self._send(chunk(b""))
                self.house.ledger.close(entry)
            case "hang":
                await asyncio.sleep(3600)
            case "drip":
                for byte in rest:
                    await self._send(chunk(bytes([byte])))
                    await asyncio.sleep(replies.DRIP_S)
            case "error_event":
                await self._send(chunk(replies.error_event(request.anthropic)) + chunk(b""))
            case "bad_utf8":
                await self._send(chunk(pieces[half].replace(b'": "', b'": "\xff')) + chunk(rest) + chunk(b""))
            case "huge":
                for _ in range(replies.HUGE_BYTES // 100_000):
                    await self._send(chunk(b"data: " + b"x" * 100_000))
                await self._send(chunk(b"\n\n") + chunk(b""))
            case "early_end":
                await self._send(chunk(b""))
            case "bad_chunk":
                await self._end(b"zz\r\n")
            case _:
                await self._end(chunk(rest[: len(rest) // 2]), reset=fault == "reset")

    async def _send(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise asyncio.CancelledError  # the client has gone
        self.transport.write(data)
        await self.drained.wait()

    async def _end(self, data: bytes, *, reset: bool = False) -> None:
        """Sends and closes: by FIN, or by RST once the client has had time to read."""
        await self._send(data)
        if not reset:
            self.transport.close()
            return
        await asyncio.sleep(0.002)
        sock = self.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


async def serve() -> None:
    """Serves until standard input ends."""
    loop, house, over = asyncio.get_running_loop(), House(), asyncio.Event()
    server = await loop.create_server(lambda: Connection(house), "127.0.0.1", 0, backlog=2048)
    house.port = server.sockets[0].getsockname()[1]
    loop.add_reader(sys.stdin.fileno(), lambda: None if sys.stdin.buffer.read1() else over.set())
    print(house.port, flush=True)
    await over.wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve())
