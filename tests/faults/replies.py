"""What the fault server says: plans, and the bytes of OpenAI's and Anthropic's answers, plain and as server-sent events."""

import json
import re
import zlib
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from typing import Any

# The server refuses these at once, so it bills nothing. The number is the HTTP status.
REFUSALS = {"429": 429, "429_retry_after": 429, "500": 500, "503": 503, "529": 529}
# These can be received whole; the token counts are in them, so the client can know what they cost.
COUNTED = ("no_choices",)
# The provider has made an answer, billed it, and it never arrives in a form that can be read.
LOST = (
    "closed",  # before the first byte of the answer
    "reset",  # RST after half the body
    "cut_length",  # half the body, and the connection closed before its Content-Length
    "cut_json",  # half the body, with the Content-Length of the half
    "cut_close",  # half the body, without a length, ended by closing
    "cut_chunked",  # half the body, without the last chunk
    "bad_chunk",  # a chunk's size that is not a number
    "bad_utf8",
    "bad_gzip",  # says gzip and is not
    "huge",  # 20 MB
    "bomb",  # 20 kB that gzip unpacks to 20 MB
    "drip",  # a byte every 50 ms
    "hang",
)
# A proxy's page where an answer should be.
PAGES = ("html", "error_200")
FAULTS = (*REFUSALS, "refused", *COUNTED, *LOST, *PAGES)
# What happens in the middle of a stream of events; a request for a stream meets the other faults like any other.
STREAM_FAULTS = ("reset", "cut_stream", "early_end", "error_event", "bad_chunk", "bad_utf8", "huge", "drip", "hang")

HUGE_BYTES = 20_000_000
DRIP_S = 0.05


@dataclass(frozen=True)
class Plan:
    """How the server behaves as one model: a healthy answer, its price in USD per million tokens, and its faults.

    ``rate`` is the share of requests, from 0 to 1, that meet one of ``faults``, each as likely as it is often in there;
    "refused" stands alone, since it is the port that fails. ``delay_s`` is waited before each answer.
    """

    answer: str = "the answer is 42"
    input_per_mtok: float = 1.0
    output_per_mtok: float = 4.0
    faults: tuple[str, ...] = ()
    rate: float = 1.0
    delay_s: float = 0.0

    def __post_init__(self) -> None:
        if unknown := set(self.faults) - {*FAULTS, *STREAM_FAULTS}:
            raise ValueError(f"unknown faults {unknown}")

    def usd(self, tokens_in: int, tokens_out: int) -> Decimal:
        """The bill for one answer, exactly."""
        owed = tokens_in * Decimal(str(self.input_per_mtok)) + tokens_out * Decimal(str(self.output_per_mtok))
        return owed / 1_000_000


@dataclass(frozen=True, slots=True)
class ParsedRequest:
    """A request as the server reads it; ``run`` is the number after "run:" in the prompt, if any."""

    model: str
    anthropic: bool
    stream: bool
    run: int
    tokens_in: int
    tokens_out: int


def read(path: str, body: bytes) -> ParsedRequest:
    """The request for an answer in ``body``. Token counts depend on the run, so that sums of costs tell runs apart."""
    request = json.loads(body)
    marked = re.search(rb"run:(\d+)", body)
    run = int(marked[1]) if marked else 0
    return ParsedRequest(
        request["model"], path.endswith("/messages"), bool(request.get("stream")), run, 40 + run % 13, 7 + run % 5
    )


def head(status: int = 200, kind: str = "application/json", length: int | None = None, *more: str) -> bytes:
    """The status line and headers; without a ``length`` the body is chunked or ends with the connection."""
    lines = [f"HTTP/1.1 {status} Said", f"content-type: {kind}", *more]
    if length is not None:
        lines.append(f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def whole(body: bytes, status: int = 200, kind: str = "application/json", *more: str) -> bytes:
    """A complete response."""
    return head(status, kind, len(body), *more) + body


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; the empty one is the last."""
    return b"%x\r\n%b\r\n" % (len(data), data)


@lru_cache(maxsize=4096)
def answer(anthropic: bool, text: str, tokens_in: int, tokens_out: int) -> bytes:
    """The JSON of a healthy answer."""
    if anthropic:
        usage = {"input_tokens": tokens_in, "output_tokens": tokens_out}
        content = [{"type": "text", "text": text}] if text else []
        envelope: dict[str, Any] = {"id": "m", "type": "message", "role": "assistant", "model": "m", "usage": usage}
        return json.dumps({**envelope, "stop_reason": "end_turn" if text else None, "content": content}).encode()
    usage = {"prompt_tokens": tokens_in, "completion_tokens": tokens_out, "total_tokens": tokens_in + tokens_out}
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    envelope = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
    return json.dumps({**envelope, "choices": [choice] if text else []}).encode()


def refusal(fault: str, anthropic: bool) -> bytes:
    """A complete error response in the provider's shape."""
    status = REFUSALS[fault]
    error = {"type": {429: "rate_limit_error", 529: "overloaded_error"}.get(status, "api_error"), "message": "not now"}
    body = {"type": "error", "error": error} if anthropic else {"error": {**error, "code": None, "param": None}}
    return whole(
        json.dumps(body).encode(), status, "application/json", *(["retry-after: 1"] if fault == "429_retry_after" else [])
    )


def page(fault: str) -> bytes:
    """What a proxy says with status 200 where an answer should be."""
    if fault == "html":
        return whole(b"<!doctype html><title>Bad gateway</title><h1>Bad gateway</h1>" * 20, 200, "text/html")
    return whole(json.dumps({"error": {"message": "upstream is down", "code": 502}}).encode())


@lru_cache(maxsize=2)
def bomb(anthropic: bool) -> bytes:
    """A healthy answer of 20 MB, gzipped to 20 kB."""
    packer = zlib.compressobj(wbits=31)
    return packer.compress(answer(anthropic, "x" * HUGE_BYTES, 1, 1)) + packer.flush()


def events(request: ParsedRequest, text: str) -> list[bytes]:
    """The server-sent events of a streamed answer, one token each, usage included."""
    words = re.findall(r"\S+\s*", text)
    if request.anthropic:
        usage = {"input_tokens": request.tokens_in, "output_tokens": 1}
        begun = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
        named: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**begun, "stop_reason": None, "stop_sequence": None}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": w}} for w in words),
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": request.tokens_out},
            },
            {"type": "message_stop"},
        ]
        return [f"event: {e['type']}\ndata: {json.dumps(e)}\n\n".encode() for e in named]
    base = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas = [{"role": "assistant", "content": ""}, *({"content": w} for w in words), {}]
    chunks = [
        {**base, "choices": [{"index": 0, "delta": d, "finish_reason": None if d else "stop"}], "usage": None}
        for d in deltas
    ]
    counts = {"prompt_tokens": request.tokens_in, "completion_tokens": request.tokens_out}
    chunks.append({**base, "choices": [], "usage": {**counts, "total_tokens": request.tokens_in + request.tokens_out}})
    return [*(f"data: {json.dumps(e)}\n\n".encode() for e in chunks), b"data: [DONE]\n\n"]


def error_event(anthropic: bool) -> bytes:
    """The event by which a provider breaks off a stream."""
    error = {"type": "overloaded_error", "message": "not now"}
    if anthropic:
        return f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n".encode()
    return f"data: {json.dumps({'error': error})}\n\n".encode()
