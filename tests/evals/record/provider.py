"""A provider in a process of its own: both APIs, one request or by batch, counting what was asked and billed.

``python -m tests.evals.record.provider`` prints its port and serves until standard input ends. ``/control`` changes how
it behaves and tells what it counted. Written on asyncio alone, so that it is faster than what is measured against it.
"""

import asyncio
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.workers import warm_python

IN_USD, OUT_USD = 1e-6, 2e-6  # of a token
TOKENS_IN, TOKENS_OUT = 10, 5


@dataclass
class Manner:
    """How it behaves. ``per_s``: requests a second that are answered, the others are refused with ``retry_after_s``.

    ``faults`` maps a word of a prompt to the HTTP status that such prompts get (0: the connection is cut, -1: no JSON),
    ``passing`` those that get it only the first time. ``polls``: how often a batch is still in progress when asked about.
    ``lost`` maps a word of a prompt to what becomes of it in its first batch: ``expired`` or ``errored``.
    ``ends`` maps one to the ``finish_reason`` of its chat completion; prompts with a word of ``mute`` get an empty one.
    After ``down_after`` requests it is down for ``down_s`` seconds, and until so many as ``down_least`` came meanwhile: all
    get the status ``down_as``, as in ``faults``.
    """

    delay_s: float = 0.0
    per_s: float | None = None
    retry_after_s: float | None = None
    faults: dict[str, int] = field(default_factory=dict)
    passing: dict[str, int] = field(default_factory=dict)
    polls: int = 1
    lost: dict[str, str] = field(default_factory=dict)
    logprobs: int = 3
    ends: dict[str, str] = field(default_factory=dict)
    mute: list[str] = field(default_factory=list)
    down_after: int | None = None
    down_s: float = 0.0
    down_least: int = 0
    down_as: int = 0


class House:
    """What all connections share: the manner, the counts, the batches."""

    def __init__(self) -> None:
        self.forget(Manner())

    def forget(self, manner: Manner) -> None:
        self.manner = manner
        self.received: Counter[str] = Counter()  # every request that came, by what it asks
        self.answered: Counter[str] = Counter()
        self.refused = 0
        self.down_until = 0.0
        self.down_requests = 0
        self.refused_at: list[float] = []
        self.came_at: list[float] = []
        self.usd = 0.0
        self.active = self.most_active = 0
        self.recent: deque[float] = deque()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.requests: dict[str, list[dict[str, Any]]] = {}
        self.seen: Counter[str] = Counter()
        self.submitted: Counter[str] = Counter()

    def counts(self) -> dict[str, Any]:
        names = ("received", "answered", "refused", "refused_at", "came_at", "usd", "active", "most_active", "submitted")
        return {name: getattr(self, name) for name in names} | {"batches": len(self.batches), "files": len(self.files)}


def key_of(body: dict[str, Any]) -> str:
    """What a request asks: model, last message, temperature and number, but a verifier's nonce does not matter."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    if "<question " in text:
        text = "verify " + text.split(">", 1)[1].split("</question")[0].strip()
    return json.dumps([body["model"], text[:60], body.get("temperature"), body.get("n", 1)])


def answer_text(body: dict[str, Any]) -> str:
    """The answer: the same for the same question to the same model."""
    key = json.loads(key_of(body))
    return f"{key[0]} says {key[1][:40]}"


def chat(body: dict[str, Any], logprobs: int) -> dict[str, Any]:
    """A chat completion."""
    n = body.get("n", 1)
    verified = "<question " in str(body["messages"][-1]["content"])
    text = "yes" if verified else answer_text(body)
    choice: dict[str, Any] = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    if body.get("logprobs"):
        tokens = [{"token": t, "logprob": -0.25} for t in re.findall(r"\s*\S+", text)][:logprobs]
        if body.get("top_logprobs"):
            tokens[0]["top_logprobs"] = [{"token": tokens[0]["token"], "logprob": -0.25}, {"token": "no", "logprob": -1.5}]
        choice["logprobs"] = {"content": tokens}
    usage = {"prompt_tokens": TOKENS_IN, "completion_tokens": TOKENS_OUT * n, "total_tokens": TOKENS_IN + TOKENS_OUT * n}
    choices = [{**choice, "index": i} for i in range(n)]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": body["model"], "choices": choices, "usage": usage}


def message(body: dict[str, Any]) -> dict[str, Any]:
    """An Anthropic message."""
    text = "7" if "<question " in str(body["messages"][-1]["content"]) else answer_text(body)
    return {
        "id": "m", "type": "message", "role": "assistant", "model": body["model"], "stop_reason": "end_turn",
        "content": [{"type": "text", "text": text}],
        "usage": {"input_tokens": TOKENS_IN, "output_tokens": TOKENS_OUT},
    }  # fmt: skip


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self, house: House) -> None:
        self.house, self.buffer = house, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        top, separator, rest = self.buffer.partition(b"\r\n\r\n")
        if not separator:
            return
        lines = top.decode("latin-1").split("\r\n")
        headers = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines[1:])}
        if headers.get("transfer-encoding") == "chunked":
            if not rest.endswith(b"0\r\n\r\n"):
                return
            body, self.buffer = _unchunked(rest), b""
        else:
            length = int(headers.get("content-length", 0))
            if len(rest) < length:
                return
            body, self.buffer = rest[:length], rest[length:]
        method, path, _ = lines[0].split(" ")
        path = path.split("?")[0]
        if path.endswith(("/chat/completions", "/v1/messages")):
            self._ask(path, json.loads(body))
        else:
            self._send(*route(self.house, method, path, headers, body))

    def _ask(self, path: str, body: dict[str, Any]) -> None:
        house, manner = self.house, self.house.manner
        loop = asyncio.get_running_loop()
        now = loop.time()
        key = key_of(body)
        house.received[key] += 1
        house.came_at.append(now)
        if manner.per_s is not None:
            while house.recent and house.recent[0] <= now - 1:
                house.recent.popleft()
            if len(house.recent) >= manner.per_s:
                house.refused += 1
                house.refused_at.append(now)
                after = manner.retry_after_s
                error = {"error": {"message": "slow down", "type": "rate_limit"}}
                self._send(429, error, {} if after is None else {"retry-after": f"{after:g}"})
                return
            house.recent.append(now)
        status = next((s for word, s in manner.faults.items() if word in key), None)
        if status is None and not house.seen[key]:
            status = next((s for word, s in manner.passing.items() if word in key), None)
        house.seen[key] += 1
        if manner.down_after is not None and len(house.came_at) > manner.down_after:
            house.down_until = house.down_until or now + manner.down_s
            if now < house.down_until or house.down_requests < manner.down_least:
                house.down_requests += 1
                status = manner.down_as
        if status == 0:
            self.transport.abort()
        elif status == -1:
            self._send(200, b"<html>", {})
        elif status is not None:
            self._send(status, {"error": {"message": f"status {status}", "type": "fault"}}, {})
        elif manner.delay_s:
            house.active += 1
            house.most_active = max(house.most_active, house.active)
            loop.call_later(manner.delay_s, self._answer, path, body, key, True)
        else:
            self._answer(path, body, key, False)

    def _answer(self, path: str, body: dict[str, Any], key: str, was_active: bool) -> None:
        house = self.house
        house.active -= was_active
        if self.transport.is_closing():
            return
        house.answered[key] += 1
        house.usd += IN_USD * TOKENS_IN + OUT_USD * TOKENS_OUT * body.get("n", 1)
        self._send(200, message(body) if path.endswith("/messages") else self._chat(body, key), {})

    def _chat(self, body: dict[str, Any], key: str) -> dict[str, Any]:
        reply, manner = chat(body, self.house.manner.logprobs), self.house.manner
        for choice in reply["choices"]:
            choice["finish_reason"] = next((end for word, end in manner.ends.items() if word in key), "stop")
            if any(word in key for word in manner.mute):
                choice["message"] = {"role": "assistant", "content": ""}
        return reply

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        more = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        top = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n{more}content-length: {len(raw)}\r\n\r\n"
        self.transport.write(top.encode() + raw)


def _unchunked(data: bytes) -> bytes:
    joined = b""
    while data:
        size, _, rest = data.partition(b"\r\n")
        n = int(size, 16)
        joined, data = joined + rest[:n], rest[n + 2 :] if n else b""
    return joined


def route(house: House, method: str, path: str, headers: dict[str, str], body: bytes) -> tuple[int, Any, dict[str, str]]:
    """Everything but a question: control, files, batches."""
    parts = path.strip("/").split("/")
    if parts[0] == "control":
        settings = json.loads(body) if body else {}
        if "only" in settings:
            house.manner = Manner(**{**asdict(house.manner), **settings["only"]})
        elif settings:
            house.forget(Manner(**settings))
        return 200, house.counts(), {}
    if parts[:2] == ["v1", "files"]:
        return _files(house, method, parts[2:], headers, body)
    if parts[:2] == ["v1", "batches"]:
        return _openai_batches(house, method, parts[2:], body)
    if parts[:3] == ["v1", "messages", "batches"]:
        return _anthropic_batches(house, method, parts[3:], headers, body)
    return 404, {"error": {"message": f"no route {method} {path}"}}, {}


def _files(
    house: House, method: str, rest: list[str], headers: dict[str, str], body: bytes
) -> tuple[int, Any, dict[str, str]]:
    if method == "POST":
        boundary = headers["content-type"].split("boundary=")[1].strip('"').encode()
        sections = body.split(b"--" + boundary)
        content = next(s.split(b"\r\n\r\n", 1)[1][:-2] for s in sections if b'name="file"' in s)
        id = f"file-{len(house.files)}"
        house.files[id] = content
        return 200, {"id": id, "object": "file", "bytes": len(content), "purpose": "batch", "created_at": 1, "filename": "b.jsonl", "status": "processed"}, {}  # fmt: skip # noqa: E501
    if len(rest) == 2 and rest[1] == "content" and rest[0] in house.files:
        return 200, house.files[rest[0]], {}
    if method == "DELETE" and rest and rest[0] in house.files:
        del house.files[rest[0]]
        return 200, {"id": rest[0], "object": "file", "deleted": True}, {}
    return 404, {"error": {"message": "no such file"}}, {}


def _fate(house: House, key: str) -> str:
    """What becomes of a request in a batch: the first time perhaps nothing good."""
    house.submitted[key] += 1
    if house.submitted[key] > 1:
        return "succeeded"
    return next((fate for word, fate in house.manner.lost.items() if word in key), "succeeded")


def _bill(house: House, body: dict[str, Any]) -> None:
    house.usd += (IN_USD * TOKENS_IN + OUT_USD * TOKENS_OUT * body.get("n", 1)) / 2


def _openai_batches(house: House, method: str, rest: list[str], body: bytes) -> tuple[int, Any, dict[str, str]]:
    if method == "POST" and not rest:
        request = json.loads(body)
        id = f"batch_{len(house.batches)}"
        house.batches[id] = {
            "id": id, "object": "batch", "endpoint": request["endpoint"], "input_file_id": request["input_file_id"],
            "completion_window": request["completion_window"], "created_at": int(time.time()), "polls": 0,
            "status": "validating", "metadata": request.get("metadata"),
        }  # fmt: skip
        return 200, house.batches[id], {}
    if not rest:
        return 200, {"object": "list", "data": list(house.batches.values())[::-1], "has_more": False}, {}
    batch = house.batches.get(rest[0])
    if batch is None:
        return 404, {"error": {"message": "no such batch"}}, {}
    batch["polls"] += 1
    if batch["status"] not in ("completed", "expired") and batch["polls"] > house.manner.polls:
        _finish_openai(house, batch)
    elif batch["status"] == "validating":
        batch["status"] = "in_progress"
    return 200, batch, {}


def _finish_openai(house: House, batch: dict[str, Any]) -> None:
    good, bad, expired = [], [], False
    for line in house.files[batch["input_file_id"]].splitlines():
        item = json.loads(line)
        fate = _fate(house, key_of(item["body"]))
        entry: dict[str, Any] = {"id": "r", "custom_id": item["custom_id"]}
        if fate == "succeeded":
            _bill(house, item["body"])
            reply = {"status_code": 200, "request_id": "q", "body": chat(item["body"], house.manner.logprobs)}
            good.append({**entry, "response": reply, "error": None})
        elif fate == "expired":
            expired = True
            bad.append({**entry, "response": None, "error": {"code": "batch_expired", "message": "it took too long"}})
        else:
            reply = {"status_code": 500, "request_id": "q", "body": {"error": {"message": "server error"}}}
            bad.append({**entry, "response": reply, "error": None})
    for name, lines in (("output_file_id", good), ("error_file_id", bad)):
        if lines:
            id = f"file-{len(house.files)}"
            house.files[id] = b"\n".join(json.dumps(one).encode() for one in reversed(lines)) + b"\n"
            batch[name] = id
    batch["status"] = "expired" if expired else "completed"


def _anthropic_batches(
    house: House, method: str, rest: list[str], headers: dict[str, str], body: bytes
) -> tuple[int, Any, dict[str, str]]:
    if method == "POST" and not rest:
        id = f"msgbatch_{len(house.batches)}"
        house.requests[id] = json.loads(body)["requests"]
        counts = {"processing": len(house.requests[id]), "succeeded": 0, "errored": 0, "canceled": 0, "expired": 0}
        house.batches[id] = {
            "id": id, "type": "message_batch", "processing_status": "in_progress", "request_counts": counts, "polls": 0,
            "created_at": _now(), "expires_at": _now(), "ended_at": None,
            "results_url": None, "archived_at": None, "cancel_initiated_at": None,
        }  # fmt: skip
        return 200, house.batches[id], {}
    if not rest:
        return 200, {"data": list(house.batches.values())[::-1], "has_more": False, "first_id": None, "last_id": None}, {}
    batch = house.batches.get(rest[0])
    if batch is None:
        return 404, {"type": "error", "error": {"type": "not_found_error", "message": "no such batch"}}, {}
    if rest[1:] == ["results"]:
        return 200, house.files[rest[0]], {}
    batch["polls"] += 1
    if batch["processing_status"] == "in_progress" and batch["polls"] > house.manner.polls:
        lines = []
        for item in house.requests[rest[0]]:
            fate = _fate(house, key_of(item["params"]))
            result: dict[str, Any] = {"type": fate}
            if fate == "succeeded":
                _bill(house, item["params"])
                result["message"] = message(item["params"])
            elif fate == "errored":
                result["error"] = {"type": "error", "error": {"type": "api_error", "message": "server error"}}
            lines.append({"custom_id": item["custom_id"], "result": result})
        house.files[rest[0]] = b"\n".join(json.dumps(one).encode() for one in reversed(lines)) + b"\n"
        url = f"http://{headers['host']}/v1/messages/batches/{rest[0]}/results"
        batch.update(processing_status="ended", results_url=url)
    return 200, batch, {}


def _now() -> str:
    return datetime.now(UTC).isoformat()


async def serve() -> None:
    """Serves until standard input ends."""
    loop, house, over = asyncio.get_running_loop(), House(), asyncio.Event()
    server = await loop.create_server(lambda: Connection(house), "127.0.0.1", 0, backlog=2048)
    loop.add_reader(sys.stdin.fileno(), lambda: None if sys.stdin.buffer.read1() else over.set())
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()


class Provider:
    """The server in a process of its own: ``with Provider() as provider``."""

    def __enter__(self) -> "Provider":
        self._process = warm_python.Popen(
            [sys.executable, "-m", "tests.evals.record.provider"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)

    def behave(self, **manner: Any) -> None:
        """Takes a new manner and forgets what was counted."""
        self._control(json.dumps(asdict(Manner(**manner))).encode())

    def change(self, **manner: Any) -> None:
        """Behaves otherwise from now on in what is named; nothing is forgotten."""
        self._control(json.dumps({"only": manner}).encode())

    def counts(self) -> dict[str, Any]:
        """What was counted since."""
        return self._control(b"")

    def _control(self, body: bytes) -> dict[str, Any]:
        request = urllib.request.Request(f"{self.url}/control", body or None)
        with urllib.request.urlopen(request, timeout=10) as reply:
            result: dict[str, Any] = json.loads(reply.read())
        return result


if __name__ == "__main__":
    asyncio.run(serve())
