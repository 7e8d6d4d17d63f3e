"""What a container sets by environment variables."""

import argparse
import json
from pathlib import Path

import pytest

from cascade.errors import CascadeError
from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.auth.keys import Keys
from cascade.gateway.auth.keys_in_service import keys_of, read_keys
from cascade.gateway.environment import load_policies, set_defaults

FILE = "models: {m: {provider: scripted, answers: ['51']}}\npolicies: {default: {tiers: [{model: m}]}}\n"


@pytest.fixture
def secrets(tmp_path: Path) -> tuple[str, str]:
    """Two keys as ``cascade keys create`` prints them."""
    file = KeyFile(tmp_path / "other.db")
    return file.create("a")[1], file.create("b")[1]


def scope(secret: str) -> dict[str, object]:
    """A request with that key."""
    return {"query_string": b"", "headers": [(b"x-api-key", secret.encode())]}


def test_pairs_of_name_and_key_are_keys(secrets: tuple[str, str]) -> None:
    """Separated by commas, spaces or lines; both identify their callers."""
    one, two = secrets
    keys = Keys(keys_of(f" ana={one},\n bob={two} "))
    assert keys.caller(scope(one)).name == "ana"
    assert keys.caller(scope(two)).name == "bob"


def test_a_json_list_has_limits_and_need_not_hold_the_key(secrets: tuple[str, str]) -> None:
    """``id`` and ``sha256`` are enough to check it."""
    one, _ = secrets
    (plain,) = keys_of(f"ana={one}")
    entry = {"name": "ana", "id": plain.id, "sha256": plain.sha256, "per_minute": 60, "usd_per_day": 2, "policies": ["p"]}
    (key,) = keys_of(json.dumps([entry]))
    assert (key.per_minute, key.usd_per_day, key.policies, key.expires) == (60.0, 2.0, ("p",), None)
    (dated,) = keys_of(json.dumps([{**entry, "expires": "2027-01-31"}]))
    assert dated.expires == 1_801_353_600.0
    assert keys_of(json.dumps([{**entry, "expires": "2027-01-31T01:00+01:00"}])) == [dated]
    caller = Keys([key]).caller(scope(one))
    assert (caller.name, caller.per_minute, caller.policies) == ("ana", 60.0, frozenset(["p"]))


@pytest.mark.parametrize(
    "text",
    [
        "sk-cg-hidden",
        "ana=sk-cg-hidden",
        "[",
        '["sk-cg-hidden"]',
        '[{"name": "ana"}]',
        '[{"name": "ana", "key": "sk-cg-hidden"}]',
        '[{"name": "", "id": "a", "sha256": "' + "0" * 64 + '"}]',
        '[{"name": "ana", "id": "a", "sha256": "hidden"}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "per_minute": 0}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "per_minute": true}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "expires": "hidden"}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "expires": 1}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "policies": "p"}]',
        '[{"name": "ana", "id": "a", "sha256": "' + "0" * 64 + '", "per_hour": 1}]',
    ],
)
def test_a_wrong_list_is_an_error_that_quotes_no_key(text: str) -> None:
    """The gateway must not start without a key that was meant to be there."""
    with pytest.raises(CascadeError, match="CASCADE_KEYS") as raised:
        keys_of(text)
    assert "hidden" not in str(raised.value)


def test_two_keys_of_one_name_are_an_error(secrets: tuple[str, str]) -> None:
    """The journal could not distinguish them; the same key twice is an error, too."""
    one, two = secrets
    for text in (f"ana={one},ana={two}", f"ana={one},bob={one}"):
        with pytest.raises(CascadeError, match="the same"):
            keys_of(text)


def test_keys_of_the_environment_and_of_the_file_are_both_in_service(
    tmp_path: Path, secrets: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a container has its own beside those of a shared file."""
    monkeypatch.setenv("CASCADE_KEYS", f"env={secrets[0]}")
    file = KeyFile(tmp_path / "keys.db")
    assert [key.name for key in read_keys(file)] == ["env"]
    file.create("file")
    assert [key.name for key in read_keys(file)] == ["env", "file"]


def test_the_journal_of_the_environment_takes_the_place_of_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the file's durability; the URL is not in the settings, so that no message shows its password."""
    path = tmp_path / "policies.yaml"
    path.write_text(f"{FILE}journal: {{url: 'sqlite:///a.db', durability: full, keep_days: 3}}\n")
    monkeypatch.setenv("CASCADE_JOURNAL", "postgresql://user:hidden@db/cascade")
    journal = load_policies(path).journal
    assert journal is not None
    assert journal.address() == "postgresql://user:hidden@db/cascade"
    assert (journal.durability, journal.keep_days) == ("full", 3)
    assert "hidden" not in repr(journal)
    monkeypatch.delenv("CASCADE_JOURNAL")
    assert load_policies(path).journal != journal


def options(**values: object) -> argparse.Namespace:
    """The command line."""
    return argparse.Namespace(**{"host": None, "port": None, "workers": None, **values})


def test_options_take_precedence_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the environment over the defaults."""
    set_defaults(args := options())
    assert (args.host, args.port, args.workers) == ("127.0.0.1", 8000, None)
    for name, value in (("HOST", "0.0.0.0"), ("PORT", "9000"), ("WORKERS", "3")):
        monkeypatch.setenv(f"CASCADE_{name}", value)
    set_defaults(args := options())
    assert (args.host, args.port, args.workers) == ("0.0.0.0", 9000, 3)
    set_defaults(args := options(host="::1", port=0, workers=1))
    assert (args.host, args.port, args.workers) == ("::1", 0, 1)


@pytest.mark.parametrize(("name", "value"), [("CASCADE_PORT", "http"), ("CASCADE_PORT", "70000"), ("CASCADE_WORKERS", "-1")])
def test_a_wrong_number_is_an_error(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the variable."""
    monkeypatch.setenv(name, value)
    with pytest.raises(CascadeError, match=f"{name}={value}"):
        set_defaults(options())
