"""Who may ask what: keys, their limits, and what is never believed."""

import sqlite3
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anthropic
import httpx2
import openai
import pytest

from cascade.cli import main
from cascade.errors import CascadeError
from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.auth.keys import Keys
from cascade.gateway.errors import ApiError
from cascade.journal.open_store import open_store
from tests.cascade.gateway.conftest import Running, Serve

FILE = """
journal: {url: sqlite:///j.db}
models:
  m: {provider: scripted, answers: ["51"]}
  paid: {provider: openai, model: gpt-4o-mini, base_url: "http://127.0.0.1:9/v1",
    price: {input_per_mtok: 1000000, output_per_mtok: 1}}
policies:
  default: {tiers: [{model: m, accept_at: 0.0}]}
  other: {tiers: [{name: only, model: m, accept_at: 0.0}]}
  dear: {tiers: [{model: paid, accept_at: 0.0}]}
"""
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is 17 * 3?"}]}


@pytest.fixture
def keys(tmp_path: Path) -> KeyFile:
    """An empty key file."""
    return KeyFile(tmp_path / "keys.db")


@pytest.fixture
def guarded(keys: KeyFile, serve: Serve) -> Callable[..., Running]:
    """Makes a gateway with one key, as ``create`` takes it."""

    def make(**options: object) -> Running:
        _, secret = keys.create("ana", **options)  # type: ignore[arg-type]
        running = serve(FILE, key_store=keys)
        running.key = secret
        return running

    return make


def ask(running: Running, headers: dict[str, str], path: str = "/v1/chat/completions", **fields: object) -> httpx2.Response:
    """One request with these headers."""
    return httpx2.post(running.url + path, json={**ASK, **fields}, headers=headers)


def test_who_may_ask(guarded: Callable[..., Running], keys: KeyFile) -> None:
    """A missing, wrong, revoked or second key, or one in the URL, is refused with the same message."""
    _, revoked = keys.create("ben")
    keys.revoke("ben")
    running = guarded()
    good = running.key
    wrong = good[:-1] + ("0" if good[-1] != "0" else "1")
    other_id = good.replace(good.split("-")[2], "00000000")
    table: list[tuple[dict[str, str], int, str]] = [
        ({}, 401, "an API key is required"),
        ({"authorization": f"Bearer {good}"}, 200, ""),
        ({"authorization": f"bearer  {good}"}, 200, ""),
        ({"x-api-key": good}, 200, ""),
        ({"authorization": f"Bearer {good}", "x-api-key": good}, 200, ""),
        ({"authorization": f"Bearer {good}", "x-api-key": "another"}, 401, "two different"),
        ({"authorization": f"Basic {good}"}, 401, "not valid"),
        ({"authorization": "Bearer"}, 401, "not valid"),
        ({"authorization": good}, 401, "not valid"),
        *[
            ({"authorization": f"Bearer {k}"}, 401, "the API key is not valid")
            for k in (wrong, other_id, revoked, "sk-cg-", "x")
        ],
        ({"authorization": f"Bearer {good}" + "x" * 40_000}, 431, "headers"),
    ]
    for headers, status, wording in table:
        reply = ask(running, headers)
        assert reply.status_code == status, (headers, reply.text)
        assert wording in reply.text
        assert good not in reply.text
    assert httpx2.post(f"{running.url}/v1/chat/completions?key={good}", json=ASK).json()["error"]["code"] == "key_in_query"
    message = ask(running, {"authorization": f"Bearer {good}"}, "/v1/chat/completions?api-version=1")
    assert message.json()["error"]["code"] == "unknown_parameter"


def test_the_clients_own_exceptions(guarded: Callable[..., Running]) -> None:
    """Both clients take a refused key for one."""
    running = guarded()
    with running.openai() as client:
        assert client.chat.completions.create(**ASK).choices[0].message.content == "51"  # type: ignore[call-overload]
        assert "default" in [m.id for m in client.models.list()]
    with running.anthropic() as client:
        assert client.messages.create(max_tokens=5, **ASK).content[0].text == "51"  # type: ignore[call-overload]
    running.key = "sk-cg-nobody"
    with running.openai() as client, pytest.raises(openai.AuthenticationError):
        client.models.list()
    with running.anthropic() as client, pytest.raises(anthropic.AuthenticationError):
        client.messages.create(max_tokens=5, **ASK)  # type: ignore[call-overload]


def test_nothing_that_a_client_says_of_itself_is_believed(guarded: Callable[..., Running]) -> None:
    """Headers that look internal give no access and are not echoed."""
    running = guarded()
    spoofed = {
        "x-forwarded-for": "127.0.0.1",
        "x-real-ip": "127.0.0.1",
        "forwarded": "for=127.0.0.1",
        "x-cascade-key": "ana",
        "x-cascade-internal": "true",
        "x-cascade-run-id": "mine",
        "x-cascade-accepted": "true",
    }
    assert ask(running, spoofed).status_code == 401
    reply = ask(running, {**spoofed, "authorization": f"Bearer {running.key}"})
    assert reply.headers["x-cascade-run-id"] == reply.json()["cascade"]["run_id"] != "mine"


def test_a_key_of_some_policies(guarded: Callable[..., Running]) -> None:
    """It names those and their tiers, sees no others, and does not reveal whether others exist."""
    running = guarded(policies=["other"])
    headers = {"authorization": f"Bearer {running.key}"}
    assert ask(running, headers, model="other").status_code == 200
    assert ask(running, headers, model="other/only").status_code == 200
    for name in ("default", "default/m", "nonsense"):
        reply = ask(running, headers, model=name)
        assert (reply.status_code, reply.json()["error"]["code"]) == (403, "policy_not_allowed")
    for path in ("/v1/route", "/v1/gate"):
        refused = httpx2.post(running.url + path, json={"prompt": "q", "answer": "a"} if "gate" in path else {"prompt": "q"},
                              headers=headers)  # fmt: skip
        assert refused.status_code == 403
    with running.openai() as client:
        assert [m.id for m in client.models.list()] == ["other", "other/only"]


def test_a_rate(guarded: Callable[..., Running]) -> None:
    """Ten seconds' worth at once, then a 429 that says when to come again."""
    running = guarded(per_minute=12)
    headers = {"authorization": f"Bearer {running.key}"}
    replies = [ask(running, headers) for _ in range(3)]
    assert [r.status_code for r in replies] == [200, 200, 429]
    assert replies[-1].json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(replies[-1].headers["retry-after"]) <= 5


def test_a_daily_budget(guarded: Callable[..., Running]) -> None:
    """What does not fit is not asked; a model without a price cannot be asked under one."""
    running = guarded(usd_per_day=0.5)
    headers = {"authorization": f"Bearer {running.key}"}
    reply = ask(running, headers, model="dear")
    assert (reply.status_code, reply.json()["error"]["code"]) == (429, "insufficient_quota")
    assert "key" in reply.json()["error"]["message"]


def test_the_journal_says_whose_run_it_was(guarded: Callable[..., Running], tmp_path: Path) -> None:
    """By the key's name, which a client cannot give itself."""
    running = guarded()
    headers = {"authorization": f"Bearer {running.key}"}
    run_id = ask(running, headers).json()["cascade"]["run_id"]
    assert ask(running, headers, metadata={"key": "ben"}).status_code == 400
    running.stop()
    store = open_store(f"sqlite:///{tmp_path}/j.db", create=False)
    record = store.find(run_id)
    store.close()
    assert record is not None
    assert record.tags == {"key": "ana"}
    for file in tmp_path.glob("*"):
        assert running.key.encode() not in file.read_bytes()


def test_a_key_works_and_is_revoked_within_seconds(guarded: Callable[..., Running], keys: KeyFile) -> None:
    """Keys are created and revoked while the gateway runs; a missing key file gives no access."""
    running = guarded()
    _, later = keys.create("ben")
    eventually(lambda: ask(running, {"x-api-key": later}).status_code == 200)
    keys.revoke("ben")
    eventually(lambda: ask(running, {"x-api-key": later}).status_code == 401)
    keys.path.unlink()
    time.sleep(1.5)
    assert ask(running, {}).status_code == 401


def test_a_revocation_takes_a_second_under_load(guarded: Callable[..., Running], keys: KeyFile) -> None:
    """Clients that ask on and on are refused soon after it, and none is answered again. The margin is for slow machines."""
    running = guarded()
    _, key = keys.create("ben")
    eventually(lambda: ask(running, {"x-api-key": key}).status_code == 200)
    seen: list[tuple[float, int]] = []
    is_over = threading.Event()

    def ask_on() -> None:
        while not is_over.is_set():
            began = time.monotonic()
            seen.append((began, ask(running, {"x-api-key": key}).status_code))

    threads = [threading.Thread(target=ask_on) for _ in range(8)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(seen) > 40)
    keys.revoke("ben")
    revoked = time.monotonic()
    eventually(lambda: [status for _, status in seen[-16:]] == [401] * 16, 30)
    is_over.set()
    for thread in threads:
        thread.join()
    assert {status for _, status in seen} == {200, 401}
    last = max(began for began, status in seen if status == 200)
    assert last - revoked < 4.0
    assert all(status == 401 for began, status in seen if began > last)


def eventually(done: Callable[[], bool], seconds: float = 10.0) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_without_keys_this_machine_alone(serve: Serve) -> None:
    """By its own names, and no web page of another site: neither by its scripts nor by another name of this address."""
    running = serve(FILE)
    assert ask(running, {}).status_code == 200
    assert ask(running, {"host": "rebound.example"}).json()["error"]["code"] == "wrong_host"
    assert ask(running, {"origin": "https://evil.example"}).json()["error"]["code"] == "wrong_origin"
    assert ask(running, {"origin": running.url}).status_code == 200
    simple = httpx2.post(f"{running.url}/v1/chat/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert simple.status_code == 415


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com"])
def test_without_keys_no_other_address_is_listened_on(host: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The command says what to do."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    assert main(["serve", "--policy-file", str(path), "--host", host]) == 2
    assert "python -m cascade keys create NAME" in capsys.readouterr().err


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """create prints the key alone on standard output; list shows everything but it; revoke ends it."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    where = ["--policy-file", str(path)]
    assert main(["keys", "create", "ana", "--policy", "other", "--usd-per-day", "2", "--per-minute", "30", *where]) == 0
    secret, message = capsys.readouterr()
    secret = secret.strip()
    assert secret.startswith("sk-cg-")
    assert len(secret) == 79
    assert secret not in message
    assert (tmp_path / "cascade-keys.db").stat().st_mode & 0o777 == 0o600
    assert main(["keys", "create", "ana", *where]) == 2
    assert main(["keys", "create", "ben", "--policy", "othr", *where]) == 2
    assert "did you mean 'other'" in capsys.readouterr().err
    assert main(["keys", "create", "ben", "--usd-per-day", "-1", *where]) == 2
    assert main(["keys", "list", *where]) == 0
    output = capsys.readouterr().out
    assert "ana  valid" in output
    assert "other  $2 per day  30 per minute" in output
    assert secret.split("-")[3] not in output
    assert main(["keys", "revoke", "ana", *where]) == 0
    assert main(["keys", "revoke", "ana", *where]) == 2
    assert main(["keys", "list", *where]) == 0
    assert "ana  revoked" in capsys.readouterr().out


def test_a_revocation_during_a_lock_is_not_lost(
    guarded: Callable[..., Running], keys: KeyFile, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key file is read again until it can be read; until then the log and /readyz say that the keys are stale."""
    monkeypatch.setattr("cascade.gateway.routes.health.STALE_KEYS_S", 0.5)
    monkeypatch.setattr("cascade.gateway.auth.key_file.TIMEOUT_S", 0.2)
    running = guarded()
    with closing(sqlite3.connect(keys.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("UPDATE keys SET revoked = 1.0")
        other.execute("COMMIT")
        other.execute("BEGIN EXCLUSIVE")
        eventually(lambda: "keys not reloaded" in caplog.text)
        eventually(lambda: httpx2.get(f"{running.url}/readyz").status_code == 503)
        assert ask(running, {"x-api-key": running.key}).status_code == 200
        other.execute("COMMIT")
    eventually(lambda: ask(running, {"x-api-key": running.key}).status_code == 401)
    eventually(lambda: httpx2.get(f"{running.url}/readyz").status_code == 200)
    assert sum("keys not reloaded" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("remaining", ["nothing", "an empty file", "a file of no keys"])
def test_lost_keys_never_open_the_gateway(remaining: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A gateway that had keys does not start without them; the error says how to go on either way."""
    path, keys = tmp_path / "policies.yaml", KeyFile(tmp_path / "cascade-keys.db")
    path.write_text(FILE)
    keys.create("ana")
    if remaining == "a file of no keys":
        with closing(sqlite3.connect(keys.path)) as connection, connection:
            connection.execute("DELETE FROM keys")
    else:
        keys.path.unlink()
        if remaining == "an empty file":
            keys.path.touch()
    assert main(["serve", "--policy-file", str(path), "--port", "0"]) == 2
    error = capsys.readouterr().err
    assert "cascade-keys.db" in error
    if remaining != "an empty file":
        assert "no API keys" in error
        assert f"delete {keys.marker}" in error


def test_keys_may_be_required(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--require-keys refuses to start without a key, where none ever was."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    assert main(["serve", "--policy-file", str(path), "--port", "0", "--require-keys"]) == 2
    assert "no API keys, and --require-keys is given" in capsys.readouterr().err


def test_moving_the_journal_does_not_move_the_keys(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The keys are next to the policy file, independent of the journal."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    assert main(["keys", "create", "ana", "--policy-file", str(path)]) == 0
    (tmp_path / "elsewhere").mkdir()
    path.write_text(FILE.replace("sqlite:///j.db", "sqlite:///elsewhere/j.db"))
    capsys.readouterr()
    assert main(["keys", "list", "--policy-file", str(path)]) == 0
    assert "ana  valid" in capsys.readouterr().out


@pytest.mark.parametrize("use", [KeyFile.read, lambda keys: keys.create("ben")], ids=["read", "create"])
def test_a_key_file_open_to_others_is_closed(keys: KeyFile, use: Callable[[KeyFile], object]) -> None:
    """A file that was copied or created with wider rights gets its owner's alone."""
    keys.create("ana")
    keys.path.chmod(0o666)
    use(keys)
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.marker.stat().st_mode & 0o777 == 0o600


def test_a_damaged_key_file_is_an_error(keys: KeyFile) -> None:
    """Never a gateway without keys."""
    keys.path.write_bytes(b"not a database, but long enough to be taken for one" * 20)
    with pytest.raises(CascadeError, match="key file cannot be used"):
        keys.read()


def test_the_time_tells_nothing(keys: KeyFile) -> None:
    """A key that differs in its first digit takes as long as one that differs in its last."""
    _, secret = keys.create("ana")
    checked = Keys(keys.read())
    head, tail = secret[:15], secret[15:]
    flipped = str.maketrans("0123456789abcdef", "123456789abcdef0")
    early, late = head + tail[0].translate(flipped) + tail[1:], secret[:-1] + secret[-1].translate(flipped)

    def timed(key: str) -> float:
        scope = {"query_string": b"", "headers": [(b"authorization", b"Bearer " + key.encode())]}
        start = time.process_time_ns()
        for _ in range(200):
            with pytest.raises(ApiError):
                checked.caller(scope)
        return time.process_time_ns() - start

    rounds = [(timed(early), timed(late)) for _ in range(15)]
    assert 0.8 < statistics.median(a / b for a, b in rounds) < 1.25


def test_serving_loads_with_the_command_alone() -> None:
    """The commands for keys and everything else need no server."""
    code = "import cascade.cli, sys; assert not {'starlette', 'uvicorn', 'prometheus_client'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
