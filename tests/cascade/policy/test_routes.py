"""Routes: which rule a run follows, what is refused at load, and what the engine, the journal and the command line do."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade import Cascade, PolicyError
from cascade.cli import main
from cascade.policy.advice import advise
from cascade.policy.load import parse
from cascade.policy.routes import Route, RouteCondition, characters, first_match, script_of, unreachable
from judges import Prompt

FILE = """
models:
  a: {provider: scripted, answers: ["cheap"]}
  b: {provider: scripted, answers: ["middle"]}
  c: {provider: scripted, answers: ["dear"]}
policies:
  default:
    routes:
%s
    tiers:
      - {name: small, model: a, accept_at: 0, judges: [rules]}
      - {name: medium, model: b, accept_at: 0, judges: [rules]}
      - {name: premium, model: c, accept_at: 0, judges: [rules]}
"""
IMAGE = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}, {"type": "text", "text": "?"}]}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def policies(*routes: str) -> str:
    return FILE % "\n".join(f"      - {route}" for route in routes)


@pytest.mark.parametrize(
    ("when", "prompt", "tags", "matches"),
    [
        ({}, "x", {}, True),
        ({"task": "contract"}, "x", {"task": "contract"}, True),
        ({"task": ["contract", "deed"]}, "x", {"task": "deed"}, True),
        ({"task": "contract"}, "x", {"task": "chat"}, False),
        ({"task": "contract"}, "x", {}, False),
        ({"key": "ci"}, "x", {"key": "ci"}, True),
        ({"key": "ci"}, "x", {}, False),
        ({"tags": {"tier": 2, "vip": True}}, "x", {"tier": 2, "vip": True, "more": 1}, True),
        ({"tags": {"vip": True}}, "x", {}, False),
        ({"min_chars": 5}, "12345", {}, True),
        ({"min_chars": 5}, "1234", {}, False),
        ({"max_chars": 5}, "123456", {}, False),
        ({"script": "cyrillic"}, "Привет, world", {}, True),
        ({"script": ["cjk", "latin"]}, "Grüße", {}, True),
        ({"script": "cjk"}, "你好", {}, True),
        ({"script": "latin"}, "123", {}, False),
        ({"language": "de"}, "Was ist die Hauptstadt von Frankreich?", {}, True),
        ({"language": ["fr", "de"]}, "Quelle est la capitale de l'Allemagne ?", {}, True),
        ({"language": "en"}, "Was ist die Hauptstadt von Frankreich?", {}, False),
        ({"language": "en"}, "17 * 3", {}, False),
        ({"has_images": True}, IMAGE, {}, True),
        ({"has_images": False}, IMAGE, {}, False),
        ({"has_images": True}, "x", {}, False),
        ({"has_tools": True}, "x", {}, False),
        ({"has_schema": False}, "x", {}, True),
        ({"has_schema": True}, "x", {}, False),
    ],
)
def test_conditions(when: dict[str, Any], prompt: Any, tags: dict[str, Any], matches: bool) -> None:
    """Each condition alone, met and not met; where it is not met the reason is in words."""
    mismatch = RouteCondition(**when).mismatch(Prompt.of(prompt), tags, tags.get("task"))
    assert (mismatch is None) == matches


def test_tools_and_schema_match() -> None:
    """What the caller gives beside the messages counts."""
    prompt = Prompt.of("x", tools=[TOOL], schema={"type": "object"})
    assert RouteCondition(has_tools=True, has_schema=True).mismatch(prompt, {}, None) is None


def test_the_length_is_that_of_all_texts() -> None:
    """The system message and text parts count, images do not."""
    assert characters(Prompt.of("abc", system="de")) == 5
    assert characters(Prompt.of(IMAGE)) == 1


def test_a_run_begins_where_its_route_says() -> None:
    """The first rule that matches counts; without a match all tiers are there."""
    file = parse(policies("{when: {task: contract}, start_at: premium}", "{when: {min_chars: 100}, start_at: medium}"))
    with Cascade(file) as service:
        results = [
            service.run("x" * 200, tags={"task": "contract"}), service.run("x" * 200), service.run("x"),
        ]  # fmt: skip
    assert [(r.tier, len(r.attempts), r.attempts[0].route) for r in results] == [
        ("premium", 1, 0), ("medium", 1, 1), ("small", 1, None),
    ]  # fmt: skip


def test_patterns_of_tasks_count_too() -> None:
    """A run without the tag has the task that its text shows."""
    text = policies("{when: {task: sql}, start_at: medium}").replace(
        "    tiers:", "    tasks: {rules: [{task: sql, pattern: SELECT}]}\n    tiers:"
    )
    with Cascade(parse(text)) as service:
        assert service.run("SELECT 1").tier == "medium"
        assert service.run("hello").tier == "small"


def test_a_single_tier_of_a_policy_has_no_routes() -> None:
    """``policy/tier`` is that tier alone."""
    with Cascade(parse(policies("{when: {}, start_at: premium}"))) as service:
        assert service.run("x", policy="default/small").tier == "small"
        assert service.run("x").tier == "premium"


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("{when: {}, start_at: premum}", r"unknown tier 'premum'; did you mean 'premium'"),
        ("{when: {taks: x}, start_at: premium}", r"unknown key; did you mean 'task'"),
        ("{when: {min_chars: 5, max_chars: 4}, start_at: premium}", r"min_chars \(5\) lies above max_chars \(4\)"),
        ("{when: {task: a, tags: {task: b}}, start_at: premium}", r"task and tags.task differ"),
        ("{start_at: premium}", r"when: is missing"),
    ],
)
def test_wrong_routes_are_refused(route: str, words: str) -> None:
    """The error names the rule and what to write."""
    with pytest.raises(PolicyError, match=words):
        parse(policies(route))


def test_contradictions_are_refused() -> None:
    """The same runs cannot start at two tiers."""
    with pytest.raises(PolicyError, match=r"routes\[1\] contradicts routes\[0\]"):
        parse(policies("{when: {task: a}, start_at: premium}", "{when: {task: a}, start_at: medium}"))


def test_unreachable_rules_are_warned_of() -> None:
    """A rule behind one that matches all of its runs never applies."""
    file = parse(
        policies("{when: {min_chars: 10}, start_at: premium}", "{when: {min_chars: 20, task: a}, start_at: medium}")
    )
    assert any("never applies: routes[0] matches all of its runs" in str(advice) for advice in advise(file, {}))


conditions = st.builds(
    RouteCondition,
    task=st.sampled_from([None, "a", ["a", "b"]]),
    tags=st.sampled_from([{}, {"x": 1}, {"x": 1, "y": 2}]),
    min_chars=st.sampled_from([None, 0, 3]),
    max_chars=st.sampled_from([None, 3, 9]),
    has_tools=st.sampled_from([None, True, False]),
    script=st.sampled_from([None, "latin", ["latin", "cjk"]]),
    language=st.sampled_from([None, "zh", ["zh", "en"]]),
)


@given(
    st.lists(conditions, min_size=2, max_size=4),
    st.sampled_from(["", "ab", "abcd", "你好你好", "x" * 12]),
    st.sampled_from([{}, {"x": 1}, {"x": 1, "y": 2}]),
    st.sampled_from([None, "a", "b"]),
    st.booleans(),
)
def test_a_rule_called_unreachable_never_applies(
    when: list[RouteCondition], text: str, tags: dict[str, Any], task: str | None, tools: bool
) -> None:
    """No run is found that follows a rule of which the check says that none does."""
    routes = [Route(when=condition, start_at="t") for condition in when]
    prompt = Prompt.of(text, tools=[TOOL] if tools else ())
    assert first_match(routes, prompt, tags, task) not in {later for later, _ in unreachable(routes)}


def test_the_hash_of_a_policy_without_routes_stays() -> None:
    """Policies that do not use routes keep their hash, and pay nothing."""
    plain = parse(
        policies("{when: {}, start_at: premium}").replace("    routes:\n      - {when: {}, start_at: premium}\n", "")
    )
    assert "routes" not in plain.policies["default"].canonical
    routed = parse(policies("{when: {}, start_at: premium}"))
    assert plain.policies["default"].hash != routed.policies["default"].hash


def test_the_journal_records_and_verifies_the_route(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rule is in the record, and the record is what follows from it."""
    url = f"sqlite:///{tmp_path / 'runs.db'}"
    with Cascade(parse(policies("{when: {task: contract}, start_at: premium}")), journal=url) as service:
        run_id = service.run("x", tags={"task": "contract"}).run_id
    assert main(["journal", "show", "--journal", url, run_id]) == 0
    assert "route      routes[0]" in capsys.readouterr().out
    assert main(["journal", "verify", "--journal", url]) == 0


def test_explain_asks_nobody(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints the rules with the reason why each does not apply, and the tiers."""
    path = tmp_path / "policies.yaml"
    path.write_text(policies("{when: {task: contract}, start_at: premium}", "{when: {min_chars: 2}, start_at: medium}"))
    assert main(["explain", "--policy-file", str(path), "--tag", "task=chat", "hello"]) == 0
    out = capsys.readouterr().out
    assert "routes[0] (task: contract; starts at premium): no: task is 'chat'" in out
    assert "routes[1] (min_chars: 2; starts at medium): applies" in out
    assert "small: not asked (route)" in out
    assert "medium: asked first; model b" in out
    assert "premium: asked if the tiers before are unsure" in out
    assert main(["explain", "--policy-file", str(path), "--policy", "defalt", "x"]) == 2
    assert "did you mean 'default'" in capsys.readouterr().err
    assert main(["check", str(path)]) == 0
    assert "routes[0]  task: contract: starts at premium" in capsys.readouterr().out


@given(st.text())
def test_any_text_has_a_script(text: str) -> None:
    """For any text."""
    assert script_of(text)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("task: a", "task: [a]"), ("task: [a, b]", "task: [b, a]"), ("{min_chars: 0}", "{}"), ("key: k", "tags: {key: k}"),
        ("script: [latin, latin]", "script: latin"), ("has_tools: true, min_chars: 0", "has_tools: true"),
        ("tags: {x: 1}", "tags: {x: 1.0}"),
    ],
)  # fmt: skip
def test_the_same_runs_in_other_words_are_a_contradiction(first: str, second: str) -> None:
    """However two rules are written, where they match just the same runs and start at different tiers."""
    rules = [
        f"{{when: {{{text.strip('{}')}}}, start_at: {tier}}}" for text, tier in ((first, "premium"), (second, "medium"))
    ]
    if "tags" in first + second:
        rules = [f"{{when: {{{text}}}, start_at: {tier}}}" for text, tier in ((first, "premium"), (second, "medium"))]
    with pytest.raises(PolicyError, match=r"routes\[1\] contradicts routes\[0\]"):
        parse(policies(*rules))


@pytest.mark.parametrize(
    ("rules", "earlier"),
    [
        (["max_chars: 99", "min_chars: 100", "task: a"], "routes[0] and routes[1] together match"),
        (["max_chars: 150", "min_chars: 100", "script: latin, task: a"], "routes[0] and routes[1] together match"),
        (["task: a", "task: b", "task: [a, b]"], "routes[0] and routes[1] together match"),
        (["has_tools: true", "has_tools: false", "key: k"], "routes[0] and routes[1] together match"),
        (["script: latin", "task: x", "script: [latin]"], "routes[0] matches"),
        (["task: a", "tags: {task: a, x: 1}"], "routes[0] matches"),
        (["key: k", "tags: {key: k, x: 1}"], "routes[0] matches"),
        (["tags: {x: 1}", "tags: {x: 1, y: 2}"], "routes[0] matches"),
        (["min_chars: 10", "min_chars: 20, max_chars: 30, has_schema: true"], "routes[0] matches"),
        (["max_chars: 10, task: a", "min_chars: 11, task: a", "task: a, has_tools: true"], "routes[0] and routes[1]"),
    ],
)
def test_rules_that_others_cover_are_warned_of(rules: list[str], earlier: str) -> None:
    """Also where it takes several of them, with overlapping lengths, lists, keys and tags."""
    file = parse(policies(*(f"{{when: {{{rule}}}, start_at: premium}}" for rule in rules)))
    (warning,) = [str(advice) for advice in advise(file, {}) if "never applies" in str(advice)]
    assert f"routes[{len(rules) - 1}]: never applies: {earlier}" in warning


@pytest.mark.parametrize(
    "rules",
    [
        ["max_chars: 98", "min_chars: 100", "task: a"],
        ["task: a", "task: [a, b]"],
        ["tags: {task: a}", "task: a"],  # a pattern may say the task, too
        ["tags: {x: 1}", "tags: {y: 1}"],
        ["has_tools: true, task: a", "has_tools: false"],
        ["script: latin", "script: [latin, cjk]"],
        ["tags: {x: 1}", "tags: {x: 2}", "key: k"],
    ],
)
def test_rules_that_apply_are_not_warned_of(rules: list[str]) -> None:
    """Some run matches them first."""
    file = parse(policies(*(f"{{when: {{{rule}}}, start_at: premium}}" for rule in rules)))
    assert not [str(advice) for advice in advise(file, {}) if "never applies" in str(advice)]


@pytest.mark.parametrize(
    ("route", "words"),
    [
        ("{when: {script: latn}, start_at: premium}", "unknown script 'latn'; did you mean 'latin'"),
        ("{when: {script: [cjk, chinese]}, start_at: premium}", "unknown script 'chinese'"),
        ("{when: {language: german}, start_at: premium}", "unknown language 'german'"),
        ("{when: {task: []}, start_at: premium}", "an empty list, which no run matches"),
        ("{when: {key: k, tags: {key: j}}, start_at: premium}", r"key and tags\.key differ; no run can match"),
    ],
)
def test_rules_that_no_run_can_match_are_refused(route: str, words: str) -> None:
    """With what to write."""
    with pytest.raises(PolicyError, match=words):
        parse(policies(route))


def test_rare_scripts_are_known() -> None:
    """Whatever Unicode has may be named."""
    assert parse(policies("{when: {script: cherokee}, start_at: premium}")).policies


def test_a_task_that_is_nearly_known_is_warned_of() -> None:
    """A route for a task that neither a rule nor the recording has, but one like it."""
    text = policies("{when: {task: contrct}, start_at: premium}", "{when: {task: other}, start_at: premium}")
    text = text.replace("default:", "default:\n    tasks: {rules: [{task: contract, pattern: lease}]}", 1)
    warnings = [str(advice) for advice in advise(parse(text), {}) if "neither in tasks.rules" in str(advice)]
    assert len(warnings) == 1
    assert "routes[0]: task 'contrct'" in warnings[0]
    assert "did you mean 'contract'" in warnings[0]


def test_rules_that_tell_too_many_kinds_apart_are_left_alone() -> None:
    """Loading takes no time that grows with their product."""
    rules = [Route(when=RouteCondition(tags={f"t{i}": 1, f"u{i}": 2}), start_at="t") for i in range(40)]
    assert unreachable(rules) == []
