"""The policy file's key ``journal``."""

import pytest

from cascade import JournalError, PolicyError
from cascade.policy.journal_config import JournalSpec, without_password
from cascade.policy.load import parse

REST = "\nmodels: {m: {provider: scripted, answers: [a]}}\npolicies: {default: {tiers: [{model: m}]}}\n"


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("{url: 'mysql://x'}", "journal.url: must begin with sqlite:/// or postgresql://"),
        ("{url: 'sqlite:///'}", "names no file"),
        ("{url: 'sqlite:///:memory:'}", "names no file"),
        ("{url: 'postgresql://u:hunter2@h/d'}", "must not hold a password; name the variable"),
        ("{url: 'postgresql://h/d?password=hunter2'}", "must not hold a password"),
        ("{url: 'postgresql://h:port/d'}", "is not a valid URL"),
        ("{}", "needs just one of 'url' and 'url_env'"),
        ("{url: 'sqlite:///a.db', url_env: X}", "needs just one of"),
        ("{url: 'sqlite:///a.db', durability: fast}", "journal.durability: input should be 'full', 'batched' or 'off'"),
        ("{url: 'sqlite:///a.db', keep_days: 0}", "journal.keep_days"),
        ("{url: 'sqlite:///a.db', keep_day: 3}", "unknown key; did you mean 'keep_days'?"),
        ("{url: 'postgresql://h/d', max_mb: 5}", "max_mb is for SQLite"),
    ],
)
def test_mistakes_name_file_line_and_remedy(key: str, message: str) -> None:
    """And never quote a password."""
    with pytest.raises(PolicyError) as caught:
        parse(f"journal: {key}{REST}", "p.yaml")
    assert str(caught.value).startswith("p.yaml:1: journal")
    assert message in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_an_address_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may hold a password, which no error shows."""
    spec = JournalSpec.model_validate({"url_env": "J"})
    monkeypatch.setenv("J", "postgresql://u:hunter2@h/d")
    assert spec.address() == "postgresql://u:hunter2@h/d"
    assert without_password(spec.address()) == "postgresql://h/d"
    for wrong in ("", "mysql://u:hunter2@h", "postgresql://u:hunter2@h:x/d"):
        monkeypatch.setenv("J", wrong)
        with pytest.raises(JournalError) as caught:
            spec.address()
        assert "hunter2" not in str(caught.value)
    monkeypatch.setenv("J", "postgresql://h/d")
    with pytest.raises(JournalError, match="max_mb is for SQLite"):
        JournalSpec.model_validate({"url_env": "J", "max_mb": 3}).address()


def test_paths_are_the_policy_files(tmp_path: object) -> None:
    """Three slashes: relative to the file; four: absolute."""
    config = parse("journal: {url: 'sqlite:///runs/j.db'}" + REST, "/srv/app/p.yaml").journal
    assert config is not None
    assert config.address() == "sqlite:////srv/app/runs/j.db"
    config = parse("journal: {url: 'sqlite:////var/j.db'}" + REST, "/srv/app/p.yaml").journal
    assert config is not None
    assert config.address() == "sqlite:////var/j.db"
