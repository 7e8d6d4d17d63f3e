"""What ``check`` warns of: each fault alone, and a policy file without any."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.cli import main
from cascade.engine.confidence import calibrated
from cascade.policy.advice import _supremum, advise
from cascade.policy.calibrators import Feature, Isotonic, Logistic
from cascade.policy.schema import PolicyFile
from judges import Verdict

PRICE = {"input_per_mtok": 1.0, "output_per_mtok": 10.0}
KEYS = {"OPENAI_API_KEY": "k", "ANTHROPIC_API_KEY": "k"}


def warnings(
    *tiers: dict[str, Any], models: dict[str, Any] | None = None, keys: dict[str, str] = KEYS, **policy: Any
) -> list[str]:
    """The warnings about one policy, whose models are OpenAI's with log-probabilities unless said otherwise."""
    usual = {"provider": "openai", "model": "gpt-4o", "logprobs": True, "price": PRICE}
    specs = {name: {**usual, **((models or {}).get(name, {}))} for name in ("a", "b")}
    file = PolicyFile.model_validate({"models": specs, "policies": {"p": {"tiers": list(tiers), **policy}}})
    return [str(advice) for advice in advise(file, keys)]


GOOD = {"model": "b", "accept_at": 0.5, "judges": ["schema", "rules", "logprob"]}


def test_nothing_is_said_of_a_policy_that_can_work() -> None:
    """Two judged tiers, keys set, a budget that is large enough."""
    assert not warnings({"model": "a", "accept_at": 0.9, "judges": ["rules", "logprob"]}, GOOD, budget_usd=1.0)


@pytest.mark.parametrize(
    ("tier", "models", "message"),
    [
        ({"judges": ["logprob"]}, {"a": {"logprobs": False}}, "set models.a.logprobs: true"),
        ({"judges": ["logprob"]}, {"a": {"provider": "anthropic", "logprobs": False}}, "Anthropic returns no"),
        (
            {"judges": ["schema", "rules"]},
            {},
            "accept_at 0.7 is out of reach, no judge below it gives a score",
        ),
        ({"accept_at": 0.5}, {}, "every answer that is not vetoed ends the run"),
        ({"judges": ["logprob", "self_consistency"], "accept_at": 1.0}, {}, "at most 0.999 is reached"),
        ({"judges": ["logprob"], "confidence": [{"method": "constant", "p": 0.6}] * 2}, {}, "at most 0.6 is reached"),
        ({"judges": [{"use": "rules", "accept_at": 0.9}, "logprob"]}, {}, "accept_at 0.9 is never reached"),
        ({"judges": ["logprob", {"use": "self_consistency", "samples": 99}]}, {}, "more than max_calls allows"),
    ],
)
def test_what_cannot_work_is_named_with_the_remedy(tier: dict[str, Any], models: dict[str, Any], message: str) -> None:
    """In the first tier of two; the second is in order."""
    advice = warnings({"model": "a", **tier}, GOOD, models=models)
    assert any(message in each and each.startswith("policies.p.tiers[0] (a): ") for each in advice), advice
    assert not [each for each in advice if "tiers[1]" in each]


def test_a_last_tier_that_nobody_judges() -> None:
    """Its answers come back as last_tier."""
    (advice,) = warnings({"model": "a", "accept_at": 0.0, "judges": ["schema", "rules"]})
    assert "reason last_tier" in advice


def test_a_key_that_is_not_set_is_named_and_never_shown() -> None:
    """Only for models that are used, and not for a server of one's own."""
    tier = {"model": "a", "accept_at": 0.5, "judges": ["logprob"]}
    assert warnings(tier, keys={}) == [
        "models.a: the environment variable OPENAI_API_KEY is not set, so the model cannot be called"
    ]
    assert not warnings(tier, keys={}, models={"a": {"base_url": "http://localhost:1/v1"}})
    named = warnings(tier, keys={}, models={"a": {"api_key_env": "MINE", "base_url": "http://localhost:1/v1"}})
    assert "MINE is not set" in named[0]


def test_a_budget_that_one_reservation_uses_up() -> None:
    """4,096 tokens of output where nothing else bounds them; a model's own max_tokens helps."""
    tier = {"model": "a", "accept_at": 0.5, "judges": ["logprob"]}
    (advice,) = warnings(tier, budget_usd=0.01)
    assert "reserves 4,096 tokens of output" in advice
    assert "no call fit; set models.a.max_tokens" in advice
    assert not warnings(tier, budget_usd=0.01, models={"a": {"max_tokens": 100}})
    (advice,) = warnings(tier, budget_usd_per_day=0.2)
    assert "only 4 calls at a time fit" in advice


SCORE = st.none() | st.floats(0, 1)


@given(st.lists(st.floats(-3, 3), min_size=4, max_size=4), st.sampled_from(["logit", "log", "identity"]), SCORE, SCORE)
def test_no_scores_pass_the_highest_probability(
    numbers: list[float], transform: Any, a: float | None, b: float | None
) -> None:
    """Of logistic and isotonic mappings, missing scores included."""
    features = tuple(Feature(name, transform, 0.3) for name in "xy")
    mapping = Logistic(features, (numbers[0], numbers[1]), (numbers[2], 0.0), numbers[3])
    verdicts = [Verdict("x", a), Verdict("y", b)]
    assert calibrated(mapping, verdicts) <= _supremum(mapping)
    steps = Isotonic("x", ((0.2, 0.1), (0.9, 0.7)), 0.75)
    assert calibrated(steps, verdicts) <= _supremum(steps) == 0.75


def test_strict_exits_with_1_where_there_is_a_warning(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """For CI; without it warnings are only printed."""
    path = tmp_path / "p.yaml"
    path.write_text("models: {m: {provider: scripted, answers: [x]}}\npolicies: {default: {tiers: [{model: m}]}}\n")
    assert main(["check", str(path)]) == 0
    assert "\nwarning: policies.default.tiers[0] (m): accept_at 0.7 is out of reach" in capsys.readouterr().out
    assert main(["check", "--strict", str(path)]) == 1
    path.write_text(
        "models: {m: {provider: scripted, answers: [x]}}\n"
        "policies: {default: {tiers: [{model: m, judges: [self_consistency]}]}}\n"
    )
    assert main(["check", "--strict", str(path)]) == 0
    assert capsys.readouterr().out.endswith("no warnings\n")
