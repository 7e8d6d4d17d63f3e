"""Thresholds by task: by the run's tag, else by what the prompt says."""

from time import thread_time
from typing import Any

import pytest

from cascade import Answer, Cascade, Policy, PolicyError, ScriptedModel
from cascade.cli import main
from cascade.commands.explain import explain
from cascade.engine.plan import TaskPlan
from judges import Prompt

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
    """A tag takes precedence over a pattern; a task without its own thresholds has the tier's ``accept_at``."""
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


@pytest.mark.parametrize(
    ("prompt", "tags", "tier", "accepted"),
    [
        ("q", None, "cheap", False),
        ("q", {"task": "sums"}, "cheap", True),
        ("1 + 1", None, "cheap", True),
        ("1 + 1", {"task": "other"}, "cheap", False),
        ("q", {"task": "contract"}, "premium", True),
    ],
)
def test_the_gate_has_the_thresholds_of_the_task(prompt: str, tags: Any, tier: str, accepted: bool) -> None:
    """By default it is the first tier that the task asks."""
    with service(tasks=RULES) as cascade:
        result = cascade.gate(prompt, ANSWER, tags=tags)
    assert (result.tier, result.accepted) == (tier, accepted)


def test_a_gate_of_a_tier_that_the_task_does_not_ask_is_an_error(tmp_path: Any) -> None:
    """It names the tiers that the task asks; what is judged is verified from the journal."""
    url = f"sqlite:///{tmp_path}/j.db"
    with service(url, tasks=RULES) as cascade:
        with pytest.raises(PolicyError, match="task 'contract' does not ask the tier 'cheap'; it asks: premium"):
            cascade.gate("q", ANSWER, tier="cheap", tags={"task": "contract"})
        with pytest.raises(PolicyError, match="unknown tier 'chep'; did you mean 'cheap'"):
            cascade.gate("q", ANSWER, tier="chep", tags={"task": "sums"})
        cascade.gate("q", ANSWER, tags={"task": "sums"})
    assert main(["journal", "verify", "--journal", url]) == 0


def test_runs_without_a_task_have_thresholds_too() -> None:
    """As rows without a task have them in a replay; else the tiers' own."""
    tiers = [{**TIERS[0], "accept_at_by_task": {"sums": 0.5, "(no task)": "skip"}}, TIERS[1]]
    policy = Policy.model_validate({"tiers": tiers})
    with Cascade(policy, models={n: ScriptedModel(n, lambda prompt, request: ANSWER) for n in "ab"}) as cascade:
        assert [a.tier for a in cascade.run("q").attempts] == ["premium"]
        assert [a.tier for a in cascade.run("q", tags={"task": "new"}).attempts] == ["cheap", "premium"]


def test_explain_finds_the_task_as_a_run_does() -> None:
    """By the tag, else by the rules, in a policy without routes as well."""
    policy = Policy.model_validate({"tiers": TIERS, "tasks": RULES})
    assert "cheap: asked first; model a; judges logprob; accepts from 0.5" in list(explain(policy, Prompt.of("1 + 1"), {}))
    lines = list(explain(policy, Prompt.of("1 + 1"), {"task": "contract"}))
    assert "cheap: not asked (the task contract skips it)" in lines


def test_a_pattern_of_the_policy_cannot_hold_a_run() -> None:
    """What takes too long matches nothing, whatever a client writes, and the patterns have their time together."""
    plan = TaskPlan(tag="task", patterns=(("slow", "^(?:a|aa)+$"), ("other", "^(?:a|aa)*b$"), ("late", "!")), variants={})
    began = thread_time()
    assert plan.task_of(Prompt.of("a" * 9000 + "!"), None) is None
    assert thread_time() - began < 1
    assert plan.task_of(Prompt.of("Well!"), None) == "late"
