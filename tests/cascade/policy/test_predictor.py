"""A predictor of P(right | prompt): its file format, its range, and what it says of prompts that it does not know."""

import json
from math import exp

import pytest

from cascade.policy.predictor import Predictor, from_json
from cascade.policy.schema import Policy
from judges import Prompt
from judges.prompt import features

FEATURES = features(Prompt.of("Translate this text"))


def make_predictor(**changed: object) -> Predictor:
    """A predictor that knows the n-grams of one prompt."""
    fields: dict[str, object] = {
        "intercept": 0.25, "weights": {hash: (i % 7) - 3 for i, hash in enumerate(sorted(FEATURES.ngrams))}, "scale": 0.5,
        "lengths": (5, 100), "scripts": ("latin",), "known_share": 0.5,
    }  # fmt: skip
    return Predictor(**{**fields, **changed})  # type: ignore[arg-type]


def test_the_probability_is_the_logistic_of_the_weights() -> None:
    """By the formula of the docstring."""
    predictor = make_predictor()
    z = 0.25 + 0.5 * sum(predictor.weights.values()) / len(FEATURES.ngrams) ** 0.5
    assert predictor.probability(FEATURES) == pytest.approx(1 / (1 + exp(-z)))


@pytest.mark.parametrize("text", ["", "Переведи это", "Translate this text " * 10, "Sing", "colourless ideas sleep"])
def test_a_prompt_unlike_the_recording_has_no_probability(text: str) -> None:
    """Other lengths, other scripts, and words that the fit rows do not have."""
    assert make_predictor().probability(features(Prompt.of(text))) is None


def test_json_keeps_a_predictor() -> None:
    """What is written is read again, and says the same."""
    predictor = make_predictor()
    again = from_json(json.loads(json.dumps(predictor.to_json())))
    assert again == predictor
    assert again.probability(FEATURES) == predictor.probability(FEATURES)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("intercept", float("nan"), "intercept"), ("intercept", "1", "intercept"), ("hashes", "%%", "hashes"),
        ("weights", "AAA=", "weights"), ("weights", "", "weights for"), ("lengths", [9, 3], "lengths"),
        ("scripts", "latin", "scripts"), ("known_share", True, "known_share"), ("more", 1, "exactly the fields"),
    ],
)  # fmt: skip
def test_a_damaged_predictor_is_refused(field: str, value: object, message: str) -> None:
    """The error names the field."""
    with pytest.raises(ValueError, match=message):
        from_json({**make_predictor().to_json(), field: value})


def test_a_policy_refuses_a_skip_that_cannot_work() -> None:
    """Without a predictor, and at the last tier; and a mapping that reads the prompt needs a predictor."""
    with pytest.raises(ValueError, match="needs a predictor"):
        Policy.model_validate({"tiers": [{"model": "a", "skip_below": 0.5}, {"model": "b"}]})
    tier = {"model": "a", "skip_below": 0.5, "predictor": make_predictor().to_json()}
    with pytest.raises(ValueError, match="last tier"):
        Policy.model_validate({"tiers": [tier]})
    mapping = {"method": "isotonic", "judge": "prompt:right", "knots": [[0.0, 0.0], [1.0, 1.0]], "missing": 0.5}
    with pytest.raises(ValueError, match="no predictor"):
        Policy.model_validate({"tiers": [{"model": "a", "confidence": [mapping]}]})


def test_a_policy_without_predictors_keeps_its_hash() -> None:
    """The new keys are part of the hash only where they are used."""
    policy = Policy.model_validate({"tiers": [{"model": "a"}, {"model": "b"}]})
    assert "predictor" not in policy.canonical
    skipping = {"model": "a", "skip_below": 0.5, "predictor": make_predictor().to_json()}
    assert "skip_below" in Policy.model_validate({"tiers": [skipping, {"model": "b"}]}).canonical
