"""Thresholds by task: by the run's tag, else by what the prompt says."""

from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, ScriptedModel
from cascade.cli import main

ANSWER = Answer("51", mean_logprob=-0.5, cost_usd=1e-5)
TIERS = [
    {"name": "cheap", "model": "a", "accept_at": 0.9, "judges": ["logprob"],
     "accept_at_by_task": {"sums": 0.5, "contract": "skip"}},
    {"name": "premium", "model": "b", "accept_at": 0.0, "judges": ["logprob"]},
]  # fmt: skip
RULES = {"rules": [{"task": "sums", "pattern": r"\d+ [+*] \d+"}, {"task": "other", "pattern": "x"}]}


def service(journal: Any = None, **policy: Any) -> Cascade:
    """Two tiers; the cheap one's confidence is about 0.61."""
    models = {name: ScriptedModel(name, lambda prompt, request: ANSWER) for name in "ab"}
    return Cascade(Policy.model_validate({"tiers": TIERS, **policy}), models=models, journal=journal)


@pytest.mark.parametrize(
    ("prompt", "tags", "tiers"),
    [
        ("q", None, ["cheap", "premium"]),
        ("q", {"task": "sums"}, ["cheap"]),
        ("q", {"task": "contract"}, ["premium"]),
        ("q", {"task": "never seen"}, ["cheap", "premium"]),
        ("q", {"team": "sums"}, ["cheap", "premium"]),
        ("What is 17 * 3?", None, ["cheap"]),
        ("What is 17 * 3?", {"task": "contract"}, ["premium"]),
        ("x", {}, ["cheap", "premium"]),
    ],
)
def test_a_run_has_the_thresholds_of_its_task(prompt: str, tags: Any, tiers: list[str]) -> None:
    """A tag goes before a pattern; a task without thresholds of its own has the tiers' usual ones."""
    with service(tasks=RULES) as cascade:
        result = cascade.run(prompt, tags=tags)
    assert [attempt.tier for attempt in result.attempts] == tiers


def test_another_tag_may_name_the_task() -> None:
    """The policy says which."""
    with service(tasks={"tag": "team"}) as cascade:
        assert len(cascade.run("q", tags={"team": "sums"}).attempts) == 1
        assert [a.tier for a in cascade.run("q", policy="default/cheap", tags={"team": "contract"}).attempts] == ["cheap"]


def test_the_journal_verifies_decisions_by_task(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Each record says whose thresholds were used, with the prompt's text or without."""
    url = f"sqlite:///{tmp_path}/j.db"
    with service(url, tasks=RULES) as cascade:
        for prompt, tags in (("q", {"task": "sums"}), ("1 + 1", None), ("q", {"task": "contract"}), ("q", None)):
            cascade.run(prompt, tags=tags)
    assert main(["journal", "verify", "--journal", url]) == 0
    assert "4 records, every decision follows" in capsys.readouterr().out


def test_the_last_tier_cannot_be_skipped_and_patterns_must_compile() -> None:
    """Both are errors of the policy."""
    with pytest.raises(ValueError, match="no task can skip the last tier"):
        Policy.model_validate({"tiers": [{"model": "a", "accept_at_by_task": {"t": "skip"}}]})
    with pytest.raises(ValueError, match="not a regular expression"):
        service(tasks={"rules": [{"task": "t", "pattern": "("}]})
