"""The policy file's key ``state``: which places it takes, and that it shows no password."""

from pathlib import Path

import pytest

from cascade.errors import PolicyError, StateError
from cascade.gateway.environment import load_policies
from cascade.policy import load
from cascade.policy.state_spec import StateSpec, wrong

FILE = """
models: {{m: {{provider: recorded, recording: r.jsonl, model: a}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0}}]}}}}
state: {state}
"""


def parse(state: str) -> StateSpec:
    """What a policy file with that state says."""
    spec = load.parse(FILE.format(state=state)).state
    assert spec is not None
    return spec


@pytest.mark.parametrize(
    "url",
    ["redis://h", "redis://h:6379/0", "rediss://h:6380", "valkey://h/3", "postgresql://h/db", "postgres://user@h/db"],
)
def test_places(url: str) -> None:
    """Valkey, Redis and Postgres."""
    assert parse(f'{{url: "{url}"}}').address() == url


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ('{url: "http://h"}', r"policies.yaml:4: state.url: .*must begin with redis://, rediss:// or postgresql://"),
        ('{url: "redis://"}', "names no host"),
        ('{url: "redis://h/cascade"}', "write its number"),
        ('{url: "redis://h:port"}', "is not a valid URL"),
        ('{url: "redis://:hidden@h"}', "must not hold a password; write"),
        ('{url: "postgresql://h/db?password=hidden"}', "must not hold a password"),
        ('{url: "redis://h", url_env: X}', "not both"),
        ("{fail: open}", "needs url or url_env where there is no journal"),
        ('{url: "redis://h", fail: ajar}', "'closed' or 'open'"),
    ],
)
def test_what_is_refused(state: str, message: str) -> None:
    """With the line, the key and the remedy, and without the password."""
    with pytest.raises(PolicyError, match=message) as caught:
        parse(state)
    assert "hidden" not in str(caught.value)


def test_a_password_comes_from_the_environment_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """By ${NAME} in the URL, or by a variable that holds it all."""
    monkeypatch.setenv("REDIS_PASSWORD", "hidden-word")
    spec = parse('{url: "redis://:${REDIS_PASSWORD}@h:6379/0"}')
    assert spec.address() == "redis://:hidden-word@h:6379/0"
    monkeypatch.setenv("STATE_URL", "redis://:other-word@h")
    named = parse("{url_env: STATE_URL, fail: open}")
    assert named.address() == "redis://:other-word@h"
    assert "word" not in f"{spec!r} {spec} {named!r}"


def test_a_variable_that_names_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the variable, not its value."""
    spec = parse("{url_env: STATE_URL}")
    with pytest.raises(StateError, match="set the environment variable STATE_URL"):
        spec.address()
    monkeypatch.setenv("STATE_URL", "ftp://:hidden@h")
    with pytest.raises(StateError, match="STATE_URL: must begin with redis://") as caught:
        spec.address()
    assert "hidden" not in str(caught.value)


def test_cascade_state_replaces_the_files_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And leaves its rule."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE.format(state='{url: "redis://h", fail: open}'))
    monkeypatch.setenv("CASCADE_STATE", "redis://elsewhere")
    state = load_policies(path).state
    assert state is not None
    assert (state.address(), state.fail) == ("redis://elsewhere", "open")


def test_hostile_urls_are_judged_without_an_exception() -> None:
    """Whatever they hold."""
    for url in ("", "redis:h", "redis://[::1", "redis://h:99999", "\0", "redis:///0"):
        assert wrong(url)
