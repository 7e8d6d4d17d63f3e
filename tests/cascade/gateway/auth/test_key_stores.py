"""Keys that expire, that are rotated, and that several machines share in the journal's database."""

import asyncio
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx2
import pytest

from cascade.cli import main
from cascade.errors import CascadeError
from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.auth.key_store import KeyStore
from cascade.gateway.auth.key_table import KeyTable
from cascade.gateway.auth.keys import Keys
from cascade.gateway.errors import ApiError
from cascade.gateway.reload import Reloader
from tests.cascade.gateway.conftest import Serve
from tests.cascade.journal.conftest import postgres_url, url  # noqa: F401

FILE = """
journal: {url: sqlite:///j.db}
models: {m: {provider: scripted, answers: ["51"]}}
policies: {default: {tiers: [{model: m, accept_at: 0.0}]}}
"""
ASK = {"model": "default", "messages": [{"role": "user", "content": "What is 17 * 3?"}]}


class Clock:
    """A wall clock that stands still until it is set."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of keys and of their check."""
    clock = Clock()
    monkeypatch.setattr("cascade.gateway.auth.keys.time", clock)
    monkeypatch.setattr("cascade.gateway.auth.key_store.time.time", clock)
    return clock


@pytest.fixture(params=["file", "table"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    """A key file, and a table in a journal's database."""
    if request.param == "file":
        yield KeyFile(tmp_path / "keys.db")
        return
    table = KeyTable(f"sqlite:///{tmp_path}/j.db")
    yield table
    table.close()


def caller(keys: Keys, secret: str) -> str | None:
    """The name of a request's key; the reason where it is refused."""
    try:
        return keys.caller({"query_string": b"", "headers": [(b"x-api-key", secret.encode())]}).name
    except ApiError as error:
        return str(error)


def test_a_key_expires_at_its_time(store: KeyStore, clock: Clock) -> None:
    """To the second, and the answer says so to its holder alone."""
    _, secret = store.create("ana", expires=clock.now + 60, usd_per_day=1.0)
    keys = Keys(store.read())
    clock.now += 59
    assert caller(keys, secret) == "ana"
    assert [key.name for key in keys.expiring(60.0)] == ["ana"]
    clock.now += 1
    assert caller(keys, secret) == "the API key has expired"
    assert caller(keys, secret[:-1] + ("0" if secret[-1] != "0" else "1")) == "the API key is not valid"
    assert keys.budgets() == []
    assert keys.expiring(60.0) == []
    assert keys.exist
    # Its name is free again.
    store.create("ana")


def test_a_rotated_key_goes_on_with_both_texts_for_a_while(store: KeyStore, clock: Clock) -> None:
    """It is the same key: one id, one budget, one rate."""
    before, first = store.create("ana", usd_per_day=1.0, per_minute=60.0, policies=["default"])
    after, second = store.rotate("ana", overlap_s=100.0)
    assert (after.id, after.usd_per_day, after.per_minute, after.policies) == (before.id, 1.0, 60.0, ("default",))
    assert store.read() == [after]
    keys = Keys(store.read())
    assert len(keys.budgets()) == 1
    assert (caller(keys, first), caller(keys, second)) == ("ana", "ana")
    clock.now += 100
    assert (caller(keys, first), caller(keys, second)) == ("the API key has expired", "ana")


def test_a_second_rotation_ends_the_oldest_text(store: KeyStore, clock: Clock) -> None:
    """At most two texts are valid at once."""
    texts = [store.create("ana")[1]]
    texts += [store.rotate("ana", overlap_s=100.0)[1] for _ in range(2)]
    keys = Keys(store.read())
    assert [caller(keys, text) for text in texts] == ["the API key is not valid", "ana", "ana"]


def test_a_rotation_lengthens_no_text(store: KeyStore, clock: Clock) -> None:
    """The previous text ends when it would have ended, and a key that expires does not become one that does not."""
    _, first = store.create("ana", expires=clock.now + 10)
    with pytest.raises(CascadeError, match="--expires 90d"):
        store.rotate("ana", overlap_s=100.0)
    _, second = store.rotate("ana", overlap_s=100.0, expires=clock.now + 1000)
    keys = Keys(store.read())
    clock.now += 10
    assert (caller(keys, first), caller(keys, second)) == ("the API key has expired", "ana")
    clock.now += 990
    assert caller(keys, second) == "the API key has expired"


def test_a_revocation_ends_both_texts(store: KeyStore, clock: Clock) -> None:
    """And a revoked key cannot be rotated."""
    _, first = store.create("ana")
    _, second = store.rotate("ana", overlap_s=100.0)
    store.revoke("ana")
    keys = Keys(store.read())
    assert {caller(keys, text) for text in (first, second)} == {"the API key is not valid"}
    with pytest.raises(CascadeError, match="no valid key with the name or id 'ana'"):
        store.rotate("ana", overlap_s=1.0)


def test_nothing_is_made_where_no_key_is(tmp_path: Path) -> None:
    """A mistyped path is an error, not a new file that requires keys from then on."""
    file = KeyFile(tmp_path / "keys.db")
    for act in (lambda: file.revoke("ana"), lambda: file.rotate("ana", overlap_s=1.0)):
        with pytest.raises(CascadeError, match="no valid key"):
            act()
    assert list(tmp_path.iterdir()) == []


def test_a_key_file_of_an_earlier_cascade(tmp_path: Path) -> None:
    """It is read as it is, and gets the columns that it lacks with the first change."""
    file = KeyFile(tmp_path / "keys.db")
    _, secret = file.create("ana", per_minute=60.0)
    with closing(sqlite3.connect(file.path)) as connection, connection:
        for column in ("expires", "previous_sha256", "previous_expires"):
            connection.execute(f"ALTER TABLE keys DROP COLUMN {column}")
    (key,) = file.read()
    assert (key.name, key.per_minute, key.expires) == ("ana", 60.0, None)
    _, new = file.rotate("ana", overlap_s=100.0)
    keys = Keys(file.read())
    assert (caller(keys, secret), caller(keys, new)) == ("ana", "ana")


def eventually(done: Callable[[], bool], seconds: float = 20.0) -> None:
    """Waits until something holds."""
    ends = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_gateways_share_the_keys_of_a_database(url: str, serve: Serve) -> None:  # noqa: F811
    """A key that one machine creates, rotates or revokes is so for every gateway, in both databases."""
    admin, table = KeyTable(url), KeyTable(url)
    try:
        _, secret = admin.create("ana")
        running = serve(FILE, key_store=table)

        def status(key: str) -> int:
            reply = httpx2.post(f"{running.url}/v1/chat/completions", json=ASK, headers={"x-api-key": key})
            return reply.status_code

        assert (status(secret), status("sk-cg-none")) == (200, 401)
        _, rotated = admin.rotate("ana", overlap_s=0.0)
        eventually(lambda: (status(secret), status(rotated)) == (401, 200))
        admin.revoke("ana")
        eventually(lambda: status(rotated) == 401)
        running.stop()
    finally:
        admin.close()
        table.close()


def test_a_database_that_is_away_changes_no_key(tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """The keys in service stay so, and the log and /readyz say that they may be stale."""
    table = KeyTable(f"sqlite:///{tmp_path}/shared.db")
    _, secret = table.create("ana")
    running = serve(FILE, key_store=table)
    with table._lock:  # the connection that is there goes; a folder in its place cannot be opened
        table.close()
        for path in tmp_path.glob("shared.db*"):
            path.unlink()
        (tmp_path / "shared.db").mkdir()
    eventually(lambda: "keys not reloaded" in caplog.text)
    reply = httpx2.post(f"{running.url}/v1/chat/completions", json=ASK, headers={"x-api-key": secret})
    assert reply.status_code == 200
    (tmp_path / "shared.db").rmdir()
    # An empty database is no reason to open the gateway.
    eventually(lambda: running.gateway.keys_stale_since is None)
    assert httpx2.post(f"{running.url}/v1/chat/completions", json=ASK).status_code == 401
    running.stop()
    table.close()


def test_the_log_names_keys_that_expire_soon(tmp_path: Path, serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """Once a day, by name and time; other keys are not named."""
    file = KeyFile(tmp_path / "keys.db")
    file.create("soon", expires=time.time() + 3600)
    file.create("later", expires=time.time() + 30 * 86_400)
    file.create("never")
    running = serve(FILE, key_store=file)
    reloader = Reloader(running.gateway, None)
    caplog.clear()
    for _ in range(3):
        asyncio.run(reloader.check())
    (line,) = [record.getMessage() for record in caplog.records if "expires soon" in record.getMessage()]
    assert "key=soon" in line
    assert "UTC" in line
    running.stop()


@pytest.mark.parametrize("where", [[], ["--keys", "journal"]], ids=["file", "journal"])
def test_every_command_is_in_the_journal(where: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With who and when, and without any text of a key."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE.replace("sqlite:///j.db", f"sqlite:///{tmp_path}/j.db"))
    options = ["--policy-file", str(path), *where]
    secrets = []
    for command in (["create", "ana", "--expires", "90d"], ["rotate", "ana", "--expires", "30d", "--overlap", "1h"]):
        assert main(["keys", *command, *options]) == 0
        secrets.append(capsys.readouterr().out.strip())
    assert len(set(secrets)) == 2
    assert main(["keys", "list", *options]) == 0
    assert "valid, previous text until" in capsys.readouterr().out
    assert main(["keys", "revoke", "ana", *options]) == 0
    assert main(["keys", "log", *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[1].split()[0] for line in lines] == ["create", "rotate", "list", "revoke"]
    assert all(" by " in line and "@" in line for line in lines)
    assert "expires" in lines[0]
    for file in tmp_path.glob("*"):
        content = file.read_bytes()
        assert not any(secret.encode() in content for secret in secrets)


def test_a_journal_that_is_away_stops_no_revocation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It is done, and a line says that it is not in the journal."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE.replace("sqlite:///j.db", f"sqlite:///{tmp_path}/missing/j.db"))
    options = ["--policy-file", str(path)]
    assert main(["keys", "create", "ana", *options]) == 0
    assert main(["keys", "revoke", "ana", *options]) == 0
    assert capsys.readouterr().err.count("done, but not logged in the journal") == 2
    assert main(["keys", "list", *options]) == 0
    output = capsys.readouterr()
    assert "revoked" in output.out
    assert output.err == ""


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["create", "ana", "--expires", "90"], "--expires: '90' is not a span of time; write 36h or 90d"),
        (["create", "ana", "--expires", "0d"], "--expires must be more than 0"),
        (["rotate", "ana", "--overlap", "soon"], "--overlap: 'soon' is not a span of time"),
        (["create", "ana", "--keys", "journal"], "has no key 'journal'; add one, or set CASCADE_JOURNAL"),
    ],
)
def test_wrong_options(command: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are named with what to write instead, and nothing is created."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE.replace("journal: {url: sqlite:///j.db}\n", ""))
    assert main(["keys", *command, "--policy-file", str(path)]) == 2
    assert message in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [path]
