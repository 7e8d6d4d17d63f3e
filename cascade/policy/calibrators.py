"""Applies what a calibration fitted: the scores of a judge prefix -> P(correct). Standard library only, about 1 us a call.

Three kinds of mapping, each with ``probability(scores)``: `Logistic` on transformed scores, `Isotonic` on one score,
`Constant` where scores carry no information. Scores are keyed by judge ("logprob", "verifier"), agreement with an earlier
tier by "agrees:<tier name>" (0 or 1). None, or a key that is absent, means "cannot tell" and is never read as 0.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import exp, inf, log
from typing import Any, Literal, TypeAlias, cast, get_args

from judges.prompt import PROMPT_SCORE

Transform = Literal["logit", "log", "identity"]
_AGREEMENT = "agrees:"

# The logit keeps six digits next to 0 and 1. `log` keeps nine next to 1, where token probabilities crowd.
LOGIT_CLIP = 1e-6
LOG_OFFSET = 1e-9
# Far beyond any fit; sums of products below it cannot overflow.
_LARGEST = 1e12


def transformed(transform: Transform, score: float) -> float:
    """One score in [0, 1] as the logistic mapping reads it; scores outside are taken as the nearer end.

    "logit" is log(s / (1 - s)) with s clipped to [1e-6, 1 - 1e-6]; "log" is -log(1 - s + 1e-9), from about 0 at s = 0 to
    20.7 at s = 1; "identity" is s.
    """
    if transform == "logit":
        s = LOGIT_CLIP if score < LOGIT_CLIP else 1.0 - LOGIT_CLIP if score > 1.0 - LOGIT_CLIP else score
        return log(s / (1.0 - s))
    s = 0.0 if score < 0.0 else 1.0 if score > 1.0 else score
    return s if transform == "identity" else -log(1.0 - s + LOG_OFFSET)


def agreement_name(tier: int) -> str:
    """The name of the score that says whether the answer agrees with that of the tier at this place."""
    return f"{_AGREEMENT}{tier}"


def is_agreement(score_name: str) -> bool:
    """Whether a score is agreement with a previous tier's answer, not a judge's."""
    return score_name.startswith(_AGREEMENT)


@dataclass(frozen=True, slots=True)
class Feature:
    """A judge's score as the logistic mapping reads it.

    ``fill`` is the transformed value used where the score is missing: the mean of the transformed scores in fitting.
    """

    judge: str
    transform: Transform
    fill: float

    def __post_init__(self) -> None:
        _text(self.judge, "judge")
        if self.transform not in get_args(Transform):
            raise ValueError(f"transform: {self.transform!r} is none of {', '.join(get_args(Transform))}")
        _number(self.fill, "fill")


@dataclass(frozen=True, slots=True)
class Logistic:
    """P = logistic(intercept + sum of coefficient * transformed score, or coefficient * fill + missing where it is None).

    ``coefficients`` and ``missing`` go with ``features``, one each; ``missing`` is 0 where no score was missing in fitting.
    """

    features: tuple[Feature, ...]
    coefficients: tuple[float, ...]
    missing: tuple[float, ...]
    intercept: float
    _terms: tuple[tuple[str, Transform, float, float], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len({f.judge for f in self.features}) < len(self.features):
            raise ValueError("features: a judge is there twice")
        for name, values in (("coefficients", self.coefficients), ("missing", self.missing)):
            if len(values) != len(self.features):
                raise ValueError(f"{name}: {len(values)} values for {len(self.features)} features")
            for i, value in enumerate(values):
                _number(value, f"{name}[{i}]")
        _number(self.intercept, "intercept")
        each = zip(self.features, self.coefficients, self.missing, strict=True)
        terms = tuple((f.judge, f.transform, c, c * f.fill + m) for f, c, m in each)
        object.__setattr__(self, "_terms", terms)

    @property
    def reads_agreement(self) -> bool:
        """Whether it reads the agreement with the answers of previous tiers."""
        return any(is_agreement(feature.judge) for feature in self.features)

    @property
    def reads_prompt(self) -> bool:
        """Whether it reads what a predictor says of the prompt."""
        return any(feature.judge == PROMPT_SCORE for feature in self.features)

    def probability(self, scores: Mapping[str, float | None]) -> float:
        """P(correct) in [0, 1]; judges the fit did not know are not read."""
        z = self.intercept
        for judge, transform, coefficient, if_missing in self._terms:
            score = scores.get(judge)
            if score is None:
                z += if_missing
            elif transform == "logit":
                s = LOGIT_CLIP if score < LOGIT_CLIP else 1.0 - LOGIT_CLIP if score > 1.0 - LOGIT_CLIP else score
                z += coefficient * log(s / (1.0 - s))
            else:
                z += coefficient * transformed(transform, score)
        # Two forms, so that exp never overflows.
        if z >= 0.0:
            return 1.0 / (1.0 + exp(-z))
        e = exp(z)
        return e / (1.0 + e)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "method": "logistic",
            "intercept": self.intercept,
            "features": [
                {"judge": f.judge, "transform": f.transform, "fill": f.fill, "coefficient": c, "missing": m}
                for f, c, m in zip(self.features, self.coefficients, self.missing, strict=True)
            ],
        }


@dataclass(frozen=True, slots=True)
class Isotonic:
    """A monotone function of one judge's score: straight lines between ``knots``, flat before the first and after the last.

    ``knots`` are (score, P), the scores strictly ascending, P never falling; ``missing`` is P where the score is None.
    """

    judge: str
    knots: tuple[tuple[float, float], ...]
    missing: float

    def __post_init__(self) -> None:
        _text(self.judge, "judge")
        if not self.knots:
            raise ValueError("knots: at least one is needed")
        for i, (x, y) in enumerate(self.knots):
            _number(x, f"knots[{i}][0]")
            _share(y, f"knots[{i}][1]")
            if i and x <= self.knots[i - 1][0]:
                raise ValueError(f"knots[{i}][0]: {x!r} is not above the score before it")
            if i and y < self.knots[i - 1][1]:
                raise ValueError(f"knots[{i}][1]: {y!r} is below the probability before it")
        _share(self.missing, "missing")

    @property
    def reads_agreement(self) -> bool:
        """Whether it reads the agreement with the answers of previous tiers."""
        return is_agreement(self.judge)

    @property
    def reads_prompt(self) -> bool:
        """Whether it reads what a predictor says of the prompt."""
        return self.judge == PROMPT_SCORE

    def probability(self, scores: Mapping[str, float | None]) -> float:
        """P(correct) in [0, 1]."""
        score = scores.get(self.judge)
        if score is None:
            return self.missing
        knots = self.knots
        above = bisect_right(knots, (score, inf))
        if above == 0:
            return knots[0][1]
        x0, y0 = knots[above - 1]
        if above == len(knots):
            return y0
        x1, y1 = knots[above]
        # The share comes first: a slope between two scores that nearly touch could overflow.
        return y0 + (score - x0) / (x1 - x0) * (y1 - y0)

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {
            "method": "isotonic",
            "judge": self.judge,
            "knots": [[x, y] for x, y in self.knots],
            "missing": self.missing,
        }


@dataclass(frozen=True, slots=True)
class Constant:
    """The same P whatever the scores say."""

    p: float

    def __post_init__(self) -> None:
        _share(self.p, "p")

    @property
    def reads_agreement(self) -> bool:
        """False: it reads no scores."""
        return False

    @property
    def reads_prompt(self) -> bool:
        """False: it reads no scores."""
        return False

    def probability(self, scores: Mapping[str, float | None]) -> float:
        """P(correct) in [0, 1]."""
        return self.p

    def to_json(self) -> dict[str, Any]:
        """As `from_json` reads it."""
        return {"method": "constant", "p": self.p}


Calibrator: TypeAlias = Logistic | Isotonic | Constant


def from_json(data: Mapping[str, Any]) -> Calibrator:
    """The mapping that ``to_json`` wrote.

    Raises ValueError naming the field: an unknown, absent or mistyped one, a number that is not finite, knots out of order.
    """
    match _object(data, "calibration").get("method"):
        case "logistic":
            _keys(
                data,
                "calibration",
                (
                    "method",
                    "intercept",
                    "features",
                ),
            )
            rows = [_feature(row, f"features[{i}]") for i, row in enumerate(_list(data["features"], "features"))]
            return Logistic(
                tuple(feature for feature, _, _ in rows),
                tuple(coefficient for _, coefficient, _ in rows),
                tuple(missing for _, _, missing in rows),
                _number(data["intercept"], "intercept"),
            )
        case "isotonic":
            _keys(
                data,
                "calibration",
                (
                    "method",
                    "judge",
                    "knots",
                    "missing",
                ),
            )
            knots = tuple(_knot(knot, f"knots[{i}]") for i, knot in enumerate(_list(data["knots"], "knots")))
            return Isotonic(_text(data["judge"], "judge"), knots, _share(data["missing"], "missing"))
        case "constant":
            _keys(
                data,
                "calibration",
                (
                    "method",
                    "p",
                ),
            )
            return Constant(_share(data["p"], "p"))
        case other:
            raise ValueError(f"method: {other!r} is none of logistic, isotonic, constant")


def _feature(row: Any, where: str) -> tuple[Feature, float, float]:
    _keys(
        _object(row, where),
        where,
        (
            "judge",
            "transform",
            "fill",
            "coefficient",
            "missing",
        ),
    )
    try:
        feature = Feature(row["judge"], row["transform"], _number(row["fill"], "fill"))
        return feature, _number(row["coefficient"], "coefficient"), _number(row["missing"], "missing")
    except ValueError as error:
        raise ValueError(f"{where}.{error}") from None


def _knot(value: Any, where: str) -> tuple[float, float]:
    pair = _list(value, where)
    if len(pair) != 2:
        raise ValueError(f"{where}: {pair!r} is not a pair of score and probability")
    return _number(pair[0], f"{where}[0]"), _share(pair[1], f"{where}[1]")


def _keys(data: Mapping[str, Any], where: str, names: tuple[str, ...]) -> None:
    for name in names:
        if name not in data:
            raise ValueError(f"{where}: {name!r} is missing")
    for name in data:
        if name not in names:
            raise ValueError(f"{where}: unknown field {name!r}")


def _object(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: {value!r} is not an object")
    return cast("Mapping[str, Any]", value)


def _list(value: Any, where: str) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"{where}: {value!r} is not a list")
    return value


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{where}: {value!r} is not a name")
    return value


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not -_LARGEST <= value <= _LARGEST:
        raise ValueError(f"{where}: {value!r} is not a finite number of at most 1e12")
    return float(value)


def _share(value: Any, where: str) -> float:
    if not 0.0 <= (number := _number(value, where)) <= 1.0:
        raise ValueError(f"{where}: {value!r} is not in [0, 1]")
    return number
