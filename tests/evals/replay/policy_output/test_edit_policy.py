"""Naming a calibration in the text of a policy file: everything else stays as it was written."""

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from evals.replay.policy_output.edit_policy import use_calibration
from evals.replay.rows.input_rows import ReplayError

BLOCK = """# mine
version: 1
models:
  a: {provider: scripted, answers: [x]}   # cheap
policies:
  # the default
  default:
    tiers:   # two
      - model: a      # first
        accept_at: 0.9   # a guess
        judges:
          - {use: logprob, accept_at: 0.98, reject_below: 0.2}  # sure
          - rules
      - accept_at: 0.5
        name: b
        model: a
    deadline_s: 30
  other: {tiers: [{model: a, accept_at: 0.4}]}
"""


def test_comments_and_other_policies_stay() -> None:
    """Only the thresholds of the one policy go, and the calibration comes."""
    assert (
        use_calibration(BLOCK, "default", "c.json")
        == """# mine
version: 1
models:
  a: {provider: scripted, answers: [x]}   # cheap
policies:
  # the default
  default:
    calibration: c.json
    tiers:   # two
      - model: a      # first
        # a guess
        judges:
          - {use: logprob}  # sure
          - rules
      - name: b
        model: a
    deadline_s: 30
  other: {tiers: [{model: a, accept_at: 0.4}]}
"""
    )


def test_a_policy_in_flow_style_and_one_that_has_a_calibration() -> None:
    """The former gets the key in its braces, the latter another value."""
    text = use_calibration(BLOCK, "other", "my files/c.json")
    assert 'other: {calibration: "my files/c.json", tiers: [{model: a}]}' in text
    again = use_calibration(text, "other", "d.json")
    assert "other: {calibration: d.json, tiers: [{model: a}]}" in again


@pytest.mark.parametrize("key", ["calibration:", "calibration: ", "calibration: null", "calibration: ~"])
def test_a_calibration_without_a_value_gets_one(key: str) -> None:
    """With the space that YAML wants behind the colon."""
    text = use_calibration(f"policies:\n  p:\n    {key}   # none yet\n    tiers: [{{model: a}}]\n", "p", "c.json")
    assert yaml.safe_load(text) == {"policies": {"p": {"calibration": "c.json", "tiers": [{"model": "a"}]}}}
    assert "# none yet" in text


def test_judges_shared_with_another_policy_keep_their_thresholds() -> None:
    """The aliased text is not changed."""
    text = "policies:\n  x: {tiers: [{model: a, judges: &j [{use: logprob, accept_at: 0.9}]}]}\n"
    text += "  y: {tiers: [{model: a, accept_at: 0.3, judges: *j}]}\n"
    changed = yaml.safe_load(use_calibration(text, "y", "c.json"))["policies"]
    assert changed["x"]["tiers"][0]["judges"] == [{"use": "logprob", "accept_at": 0.9}]
    assert "accept_at" not in changed["y"]["tiers"][0]
    own = yaml.safe_load(
        use_calibration(text.replace("y: {", "z: {", 1).splitlines()[0] + "\n" + text.splitlines()[1], "x", "c")
    )
    assert own["policies"]["x"]["tiers"][0]["judges"] == [{"use": "logprob"}]


def test_a_policy_that_is_an_alias_is_refused() -> None:
    """Changing it would change the other one."""
    with pytest.raises(ReplayError, match="alias"):
        use_calibration("policies:\n  x: &x {tiers: [{model: a}]}\n  y: *x\n", "y", "c.json")


KEYS = st.permutations(["model", "accept_at", "judges", "name"])


@given(st.lists(KEYS, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_what_is_read_differs_in_thresholds_and_calibration_alone(
    orders: list[list[str]], flow: bool, tier_flow: bool
) -> None:
    """Whatever the order and the style of the keys."""
    values = {
        "model": "m", "accept_at": 0.25, "name": "n",
        "judges": ["rules", {"accept_at": 0.9, "use": "logprob", "reject_below": 0.1}],
    }  # fmt: skip
    tiers = [{key: values[key] for key in order} for order in orders]
    data = {"policies": {"p": {"tiers": tiers, "final": "best"}, "q": {"tiers": tiers}}}
    text = yaml.dump(data, default_flow_style=True if flow else None if tier_flow else False, sort_keys=False, width=1000)
    text = yaml.dump(
        yaml.safe_load(text), default_flow_style=True if flow else None if tier_flow else False, sort_keys=False
    )
    class_of_aliases = "*" in text
    changed = yaml.safe_load(use_calibration(text, "p", "c.json"))
    assert changed["policies"]["q"] == data["policies"]["q"]
    expected = [{k: v for k, v in tier.items() if k != "accept_at"} for tier in tiers]
    if not class_of_aliases:
        expected = [{k: ["rules", {"use": "logprob"}] if k == "judges" else v for k, v in tier.items()} for tier in expected]
        assert changed["policies"]["p"] == {"calibration": "c.json", "tiers": expected, "final": "best"}
