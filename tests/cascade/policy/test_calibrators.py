"""Applying a fitted calibration: values by hand, missing scores, the JSON form and its errors."""

import json
import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cascade.policy.calibrators import Calibrator, Constant, Feature, Isotonic, Logistic, from_json, transformed

numbers = st.floats(-50, 50)
shares = st.floats(0, 1)
scores = st.one_of(st.none(), shares, st.sampled_from([0.0, 1.0, 1e-7, 1 - 1e-7]))
TRANSFORMS = ("logit", "log", "identity")

LOGISTIC = Logistic(
    (Feature("logprob", "logit", 1.2), Feature("agrees:small", "identity", 0.5)), (2.0, -1.0), (0.3, 0.0), 0.1
)
ISOTONIC = Isotonic("verifier", ((0.2, 0.1), (0.6, 0.5), (0.8, 0.5), (0.9, 0.95)), 0.4)


@st.composite
def logistics(draw: st.DrawFn) -> Logistic:
    """Any logistic mapping of up to three scores."""
    judges = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True))
    some = st.lists(numbers, min_size=len(judges), max_size=len(judges)).map(tuple)
    features = tuple(Feature(j, draw(st.sampled_from(TRANSFORMS)), draw(numbers)) for j in judges)
    return Logistic(features, draw(some), draw(some), draw(numbers))


@st.composite
def isotonics(draw: st.DrawFn) -> Isotonic:
    """Any isotonic mapping of the score "a"."""
    x = sorted(draw(st.lists(shares, min_size=1, max_size=6, unique=True)))
    y = sorted(draw(st.lists(shares, min_size=len(x), max_size=len(x))))
    return Isotonic("a", tuple(zip(x, y, strict=True)), draw(shares))


mappings = st.one_of(logistics(), isotonics(), st.builds(Constant, shares))
tables = st.dictionaries(st.sampled_from(["a", "b", "c", "d"]), scores)


@given(mappings, tables)
def test_probability_and_json(mapping: Calibrator, table: Mapping[str, float | None]) -> None:
    """P is in [0, 1] for any mapping and scores, and the JSON form preserves it exactly."""
    p = mapping.probability(table)
    assert 0 <= p <= 1
    again = from_json(json.loads(json.dumps(mapping.to_json(), allow_nan=False)))
    assert again == mapping
    assert again.probability(table) == p


def test_transforms() -> None:
    """Each transform is the formula its docstring gives, clipped at both ends."""
    assert transformed("logit", 0.9) == pytest.approx(math.log(9))
    assert transformed("logit", 0.0) == pytest.approx(-math.log(1e6), abs=1e-5)
    assert transformed("logit", 1.0) == pytest.approx(math.log(1e6), abs=1e-5)
    assert transformed("log", 0.9) == pytest.approx(math.log(10))
    assert transformed("log", 1.0) == pytest.approx(9 * math.log(10))
    assert transformed("identity", 0.3) == 0.3
    for kind in TRANSFORMS:
        assert transformed(kind, -3.0) == transformed(kind, 0.0) < transformed(kind, 1.0) == transformed(kind, 7.0)


def test_logistic_values() -> None:
    """A present score enters by its coefficient, a missing one by fill and indicator, an unknown judge not at all."""
    z = 0.1 + 2.0 * math.log(3) - 1.0
    assert LOGISTIC.probability({"logprob": 0.75, "agrees:small": 1.0, "other": 0.9}) == pytest.approx(
        1 / (1 + math.exp(-z))
    )
    z = 0.1 + 2.0 * 1.2 + 0.3 - 0.5
    assert LOGISTIC.probability({"logprob": None}) == pytest.approx(1 / (1 + math.exp(-z)))
    assert LOGISTIC.probability({"logprob": 0.0}) != LOGISTIC.probability({"logprob": None})


def test_isotonic_values() -> None:
    """Lines between knots, flat outside, exact on a knot, a value of its own where the score is missing."""
    points = {0.0: 0.1, 0.2: 0.1, 0.4: 0.3, 0.6: 0.5, 0.7: 0.5, 0.85: 0.725, 0.9: 0.95, 1.0: 0.95}
    for score, p in points.items():
        assert ISOTONIC.probability({"verifier": score}) == pytest.approx(p)
    assert ISOTONIC.probability({"verifier": None}) == ISOTONIC.probability({}) == 0.4


@given(isotonics(), shares, shares)
def test_isotonic_never_falls(mapping: Isotonic, low: float, high: float) -> None:
    """A higher score never has the lower P, up to rounding."""
    low, high = sorted((low, high))
    assert mapping.probability({"a": low}) <= mapping.probability({"a": high}) + 1e-12


def test_constant() -> None:
    """The scores do not matter."""
    assert Constant(0.3).probability({"logprob": 0.9}) == Constant(0.3).probability({}) == 0.3


def changed(mapping: Calibrator, **changes: Any) -> dict[str, Any]:
    """The JSON form with some fields replaced; a field given as ``...`` is taken out."""
    data = {**mapping.to_json(), **changes}
    return {name: value for name, value in data.items() if value is not ...}


def feature(**changes: Any) -> dict[str, Any]:
    """A logistic mapping whose second feature is changed."""
    rows = LOGISTIC.to_json()["features"]
    return changed(LOGISTIC, features=[rows[0], {k: v for k, v in {**rows[1], **changes}.items() if v is not ...}])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ([], "calibration: "),
        ({}, "method: None"),
        (changed(LOGISTIC, method="forest"), "method: 'forest'"),
        (changed(LOGISTIC, intercept=float("nan")), "intercept: nan"),
        (changed(LOGISTIC, intercept=float("inf")), "intercept: inf"),
        (changed(LOGISTIC, intercept="1"), "intercept: '1'"),
        (changed(LOGISTIC, intercept=True), "intercept: True"),
        (changed(LOGISTIC, intercept=10**400), "intercept: "),
        (changed(LOGISTIC, intercept=...), "'intercept' is missing"),
        (changed(LOGISTIC, extra=1), "unknown field 'extra'"),
        (changed(LOGISTIC, features={}), "features: {}"),
        (changed(LOGISTIC, features=["logprob"]), r"features\[0\]: 'logprob' is not an object"),
        (feature(judge=""), r"features\[1\].judge: ''"),
        (feature(judge="logprob"), "features: a judge is there twice"),
        (feature(transform="sqrt"), r"features\[1\].transform: 'sqrt'"),
        (feature(transform=[]), r"features\[1\].transform: \[\]"),
        (feature(fill=None), r"features\[1\].fill: None"),
        (feature(coefficient=float("-inf")), r"features\[1\].coefficient: -inf"),
        (feature(missing=...), r"features\[1\]: 'missing' is missing"),
        (feature(weight=1), r"features\[1\]: unknown field 'weight'"),
        (changed(ISOTONIC, judge=3), "judge: 3"),
        (changed(ISOTONIC, knots=[]), "knots: at least one"),
        (changed(ISOTONIC, knots=[0.1]), r"knots\[0\]: 0.1 is not a list"),
        (changed(ISOTONIC, knots=[[0.1]]), r"knots\[0\]: \[0.1\] is not a pair"),
        (changed(ISOTONIC, knots=[[0.1, 0.2], [0.1, 0.3]]), r"knots\[1\]\[0\]: 0.1 is not above"),
        (changed(ISOTONIC, knots=[[0.1, 0.2], [0.2, 0.1]]), r"knots\[1\]\[1\]: 0.1 is below"),
        (changed(ISOTONIC, knots=[[0.1, 1.2]]), r"knots\[0\]\[1\]: 1.2 is not in"),
        (changed(ISOTONIC, knots=[[float("nan"), 0.2]]), r"knots\[0\]\[0\]: nan"),
        (changed(ISOTONIC, missing=-0.1), "missing: -0.1"),
        (changed(Constant(0.5), p=1.5), "p: 1.5"),
        (changed(Constant(0.5), p=...), "'p' is missing"),
    ],
)
def test_bad_json_names_the_field(data: Any, words: str) -> None:
    """Every mistake is a ValueError that says where it is."""
    with pytest.raises(ValueError, match=words):
        from_json(data)


def test_bad_mappings_cannot_be_made() -> None:
    """The types check themselves, not only their JSON form."""
    with pytest.raises(ValueError, match="coefficients: 1 values for 2"):
        Logistic(LOGISTIC.features, (1.0,), (0.0, 0.0), 0.0)
    with pytest.raises(ValueError, match=r"missing\[1\]: nan"):
        Logistic(LOGISTIC.features, (1.0, 1.0), (0.0, math.nan), 0.0)
    with pytest.raises(ValueError, match=r"knots\[1\]\[1\]"):
        Isotonic("a", ((0.1, 0.9), (0.2, 0.1)), 0.5)
    with pytest.raises(ValueError, match="p: -1"):
        Constant(-1)
