"""No key in any log, repr, exception, warning, journal or span, wherever the key stands and however a provider echoes it."""

import asyncio
import json
import logging
import traceback
import warnings
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pydantic import ValidationError

from cascade import Cascade, PolicyError, RunError
from cascade.models.anthropic import AnthropicModel
from cascade.models.openai import OpenAIModel
from cascade.policy.load import parse
from cascade.policy.schema import ModelSpec, PolicyFile
from cascade.telemetry import Telemetry
from cascade.util.redaction import MASK, redact
from tests.wire_server import Reply, WireServer, chat, message

SECRET = "Tr0ub4dor+&3/x=Qz?7"  # no prefix that a pattern could know, and every encoding writes it differently
# The given model stands in for the scripted one; the pauses between tries need not be waited here.
POLICIES = """
models: {m: {provider: scripted, answers: [x], retry: {attempts: 2, initial_backoff_s: 0.001}}}
policies:
  default:
    tiers: [{model: m, accept_at: 0.9, judges: [rules, schema, {use: self_consistency, samples: 1}]}]
"""


def spellings(secret: str) -> dict[str, str]:
    """The ways in which a provider might write it."""
    raw = secret.encode()
    return {
        "plain": secret,
        "upper": secret.upper(),
        "lower": secret.lower(),
        "url": quote(secret, safe=""),
        "url, small": quote(secret, safe="").lower(),
        "form": quote_plus(secret),
        "json": json.dumps(secret)[1:-1].replace("/", "\\/"),
        "escapes": "".join(f"\\u{ord(c):04x}" for c in secret),
        "html": secret.replace("&", "&amp;"),
        "hex": raw.hex(),
        "base64": b64encode(raw).decode(),
        "base64, url": urlsafe_b64encode(raw).decode().rstrip("="),
        "base64 of Bearer": b64encode(b"Bearer " + raw).decode(),
        "base64 of user and password": b64encode(b"user:" + raw).decode(),
        "base64 of something around it": b64encode(b"x" + raw + b"yz").decode(),
        "repr of bytes": repr(raw)[2:-1],
    }


def core(encoded: str) -> str:
    """The middle of a spelling: enough of it to give the secret away."""
    return encoded[4:-4]


def leaks(text: str) -> list[str]:
    """Which spellings of the secret stand in the text."""
    low = text.lower()
    return [name for name, spelt in spellings(SECRET).items() if core(spelt).lower() in low]


PLACES: dict[str, dict[str, Any]] = {
    "api_key": {"api_key": SECRET},
    "password": {"userinfo": f"user:{quote(SECRET, safe='')}@"},
    "user": {"userinfo": f"{quote(SECRET, safe='')}@"},
    "header": {"headers": {"X-Team": SECRET}},
    "authorization": {"headers": {"Authorization": f"Bearer {SECRET}"}},
    "cookie": {"headers": {"Cookie": f"session={SECRET}; a=b"}},
}
ECHO = {
    "error": lambda text: Reply({"error": {"message": f"bad key {text}!", "type": "auth"}}, 401),
    "error as text": lambda text: Reply({"error": f"bad key {text}!"}, 403),
    "flat": lambda text: Reply({"message": f"bad key {text}!"}, 400),
    "overloaded": lambda text: Reply({"error": {"message": f"<{text}>"}}, 529, headers={"x-echo": "1"}),
    "status 200": lambda text: Reply({"error": {"message": f"key={text}&x"}}),
    "html": lambda text: Reply(raw=f"<html>{text}</html>".encode(), status=502),
    "html, 200": lambda text: Reply(raw=f"<html>{text}</html>".encode()),
    "cut": lambda text: Reply(raw=f'{{"choices": [{{"message": "{text}'.encode()),
    "odd choices": lambda text: Reply({"choices": [text], "content": [text]}),
    "odd content": lambda text: Reply({"choices": [{"message": {"content": {"x": text}}}], "content": [{"type": text}]}),
    "redirect": lambda text: Reply({}, 307, headers={"location": f"http://other.invalid/{quote(text)}"}),
    "response header": lambda text: Reply({"error": {"message": "no"}}, 500, headers={"x-echo": quote(text)}),
}  # fmt: skip


class Captured(logging.Handler):
    """Everything that any logger says, with the exceptions it says it of."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.text = ""
        self.setFormatter(logging.Formatter("%(name)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.text += self.format(record) + repr(record.args) + "\n"


@contextmanager
def everything_logged() -> Iterator[Captured]:
    """All loggers at DEBUG."""
    handler = Captured()
    root = logging.getLogger()
    names = ["", "httpx2", "httpcore2", "openai", "anthropic", "asyncio", "aiohttp", "aiohttp.client", "cascade"]
    before = {name: logging.getLogger(name).level for name in names}
    for name in names:
        logging.getLogger(name).setLevel(logging.DEBUG)
    root.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield handler
        handler.text += "".join(str(w.message) for w in caught)
    finally:
        root.removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def text_of(error: BaseException) -> str:
    """All that can be seen of an exception: its chain, its attributes, the locals of its frames, as tools print them."""
    seen: set[int] = set()
    text, todo = "", [error]
    while todo:
        at = todo.pop()
        if id(at) in seen:
            continue
        seen.add(id(at))
        text += f"{at} {at!r} {at.args} {vars(at)}"
        todo += [e for e in (at.__cause__, at.__context__) if e is not None]
        todo += list(at.exceptions) if isinstance(at, BaseExceptionGroup) else []
    own = traceback.TracebackException.from_exception(error, capture_locals=True, compact=False).format()
    # The frames of this file hold the secret on purpose.
    return text + "".join(part for part in own if __file__ not in part)


@dataclass
class Looked:
    """What could be seen after each of some runs, and at the end."""

    after: list[str] = field(default_factory=list)
    end: str = ""


def look(
    kind: Any, place: dict[str, Any], base_url: str, folder: Path, runs: Iterable[Any] = (None,), **more: Any
) -> Looked:
    """Runs of a model with the secret in one place; each of ``runs`` is drawn before its run."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    options = {"api_key": "none-at-all", **{k: v for k, v in place.items() if k != "userinfo"}, **more}
    address = base_url.replace("://", f"://{place.get('userinfo', '')}")
    seen = Looked()

    async def go() -> None:
        model = kind(name="m", model="x", base_url=address, **options)
        telemetry = Telemetry(traces=True, content=True, tracer_provider=provider)
        file = parse(POLICIES)
        async with Cascade(file, models={"m": model}, telemetry=telemetry, journal=f"sqlite:///{folder}/journal.db") as c:
            for _ in runs:
                try:
                    result = await c.arun("hi")
                except RunError as error:
                    text = text_of(error) + repr(error.attempts)
                else:
                    text = repr(result) + str(result)
                text += "".join(span.to_json() for span in exporter.get_finished_spans())
                exporter.clear()
                seen.after.append(text)
            ladder = c._runtime.compile("default")
            seen.end += "".join(map(repr, (c, file, model, model._client, ladder, ladder.handles, telemetry)))

    asyncio.run(go(), debug=True)
    for file in folder.iterdir():
        seen.end += file.read_bytes().decode("utf-8", "replace")
    return seen


@pytest.fixture(scope="module")
def server() -> Iterator[WireServer]:
    """One server for all."""
    with WireServer() as running:
        yield running


BOTH = pytest.mark.parametrize("kind", [OpenAIModel, AnthropicModel], ids=["openai", "anthropic"])


@BOTH
@pytest.mark.parametrize("place", PLACES)
def test_no_failure_shows_the_key(server: WireServer, kind: Any, place: str, tmp_path: Path) -> None:
    """Every kind of failure, the key echoed in every spelling: nothing captured holds it."""
    names: list[str] = []
    logs: list[str] = []

    def runs() -> Iterator[None]:
        for failure, reply in ECHO.items():
            for name, spelt in spellings(SECRET).items() if failure == "error" else [("plain", SECRET)]:
                names.append(f"{failure}, {name}")
                server.reply, logged.text = reply(spelt), ""
                server.received.clear()
                yield
                assert server.received  # it was asked
                logs.append(logged.text)

    with everything_logged() as logged:
        seen = look(kind, PLACES[place], server.base_url, tmp_path, runs())
    leaked = {name: leaks(text + log) for name, text, log in zip(names, seen.after, logs, strict=True)}
    assert not {name: bad for name, bad in leaked.items() if bad}
    assert len(leaked) >= 25
    assert not leaks(seen.end)


@BOTH
@pytest.mark.parametrize("place", PLACES)
def test_no_success_and_no_lost_connection_shows_it(server: WireServer, kind: Any, place: str, tmp_path: Path) -> None:
    """Good answers, refused connections, names that do not resolve, timeouts."""
    server.reply = Reply({**chat(), **message()})
    with everything_logged() as logged:
        for i, address in enumerate((server.base_url, "http://127.0.0.1:9", "http://no-such-host.invalid")):
            (folder := tmp_path / str(i)).mkdir()
            seen = look(kind, PLACES[place], address, folder)
            assert not leaks("".join(seen.after) + seen.end)
        server.reply = Reply({**chat(), **message()}, delay_s=0.2)
        seen = look(kind, PLACES[place], server.base_url, tmp_path / "0", timeout_s=0.05)
        assert not leaks("".join(seen.after) + seen.end)
    assert not leaks(logged.text)


def test_the_search_finds_what_it_looks_for() -> None:
    """Every spelling is seen as a leak, in capitals, too."""
    for name, spelt in spellings(SECRET).items():
        assert name in leaks(f"... {spelt} ...")
        assert leaks(spelt.upper())


@given(
    st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=300),
    st.text(max_size=50),
    st.text(max_size=50),
    st.integers(0, 15),
)
@example("!!!!!!!!", "", "", 0)
def test_any_secret_goes_in_any_spelling(secret: str, before: str, after: str, spelling: int) -> None:
    """For any key in any surrounding text, the redacted text does not contain it."""
    spelling_of = list(spellings(secret).values())[spelling]
    left = redact(f"{before} {spelling_of} {after}", secret)
    assert spelling_of not in left or spelling_of in f"{before} {MASK} {after}"
    assert len(left) <= 200


FILE = """
models: {{m: {{{0}}}}}
policies: {{default: {{tiers: [{{model: m}}]}}}}
"""


@pytest.mark.parametrize(
    "spec",
    [
        f"provider: openai, api_key: '{SECRET}'",
        f"provider: openai, api_key_env: '{SECRET}'",
        f"provider: openai, api_key_env: ['{SECRET}']",
        f"provider: openai, base_url: 'https://user:{SECRET}@host/v1'",
        f"provider: openai, base_url: 'https://{SECRET}@host/v1'",
        f"provider: openai, base_url: 'https://host/v1?key={SECRET}'",
        f"provider: openai, base_url: 'https://host/v1#{SECRET}'",
        f"provider: openai, base_url: '{SECRET}'",
        f"provider: openai, headers: 'Bearer {SECRET}'",
        f"provider: openai, headers: ['{SECRET}']",
        f"provider: openai, headers: {{X-Key: ['{SECRET}']}}",
        f"provider: openai, headers: {{X-Key: 5, X-Other: '{SECRET}'}}",
        f'provider: openai, headers: {{X-Key: "{SECRET}\\n"}}',
        f"provider: openai, max_tokens: 'Bearer {SECRET}'",
        f"provider: '{SECRET}'",
        f"provider: openai, headers: {{X-Key: '{SECRET}'}}, temperature: 9",
    ],
)
def test_a_wrong_policy_file_does_not_quote_the_key(spec: str) -> None:
    """Keys are put in wrong places by mistake; the error names the place and not the key."""
    with pytest.raises(PolicyError, match=r"policies.yaml:2: models\.m") as caught:
        parse(FILE.format(spec))
    # The frames that read the file hold its text, as they must.
    assert not leaks(repr(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__))


def test_pydantic_does_not_quote_the_key() -> None:
    """Nor where the types are used without the file's reader."""
    spec = {"provider": "openai", "headers": {"X": [SECRET]}, "base_url": SECRET}
    with pytest.raises(ValidationError) as caught:
        PolicyFile.model_validate({"models": {"m": spec}, "policies": {"p": {"tiers": [{"model": "m"}]}}})
    assert not leaks(str(caught.value))
    with pytest.raises(ValidationError) as caught:
        ModelSpec.model_validate(spec)
    assert not leaks(str(caught.value))


def test_a_right_policy_file_does_not_show_its_headers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers may hold keys; neither the file's repr nor its models' shows their values."""
    monkeypatch.setenv("THE_KEY", SECRET)
    file = parse(FILE.format(f"provider: openai, api_key_env: THE_KEY, headers: {{X-Key: '{SECRET}'}}"))

    async def go() -> str:
        async with Cascade(file) as c:
            compiled = c._runtime.compile("default")
            return "".join(
                map(repr, (file, c._runtime, c._runtime._specs, c.policies, compiled, compiled.handles, compiled.tiers))
            )

    assert not leaks(asyncio.run(go()))


@BOTH
@pytest.mark.parametrize("address", [f"http://h/v1?key={SECRET}", f"http://h/#{SECRET}", f"http://user:{SECRET}@h", SECRET])
def test_an_unusable_address_is_refused(kind: Any, address: str) -> None:
    """The SDKs would put the path behind a query, and their client logs addresses; the error does not quote it."""
    with pytest.raises(ValueError, match="base_url") as caught:
        kind(name="m", model="x", base_url=address)
    assert not leaks(str(caught.value) + repr(caught.value.__cause__) + repr(caught.value.__context__))
