"""P(a tier will be right | the prompt): sparse weights of hashed features. Standard library only."""

import base64
import sys
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat
from math import exp, isfinite, sqrt
from typing import Any

from judges.prompt import PROPERTIES, PromptFeatures

MOST_WEIGHTS = 20_000
"""Most weights of one predictor; each takes about 11 bytes of a calibration file."""
MOST_LEVELS = 32_767
_ZEROS = repeat(0)
_FIELDS = ("intercept", "hashes", "weights", "scale", "lengths", "scripts", "known_share")
_OPTIONAL = ("shape", "shapes")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """A logistic regression on the features of a prompt, calibrated.

    The logit is ``intercept`` + (sum of the weights of known n-grams) / sqrt(number of n-grams) + (sum of the weights of
    known properties) / sqrt(number of properties).

    Attributes:
        intercept: The logit without any known feature.
        weights: By the hash of a feature that the fit rows have, a whole number of ``scale``.
        scale: What a weight of 1 adds.
        lengths: The least and the largest number of characters that it is used for.
        scripts: The writing systems that it is used for.
        known_share: The least share of a prompt's n-grams that must be known.
        shape: The kinds of properties of which a prompt must have a value that the fit rows have, such as "turns".
        shapes: The hashes of those values.
    """

    intercept: float
    weights: Mapping[int, int] = field(repr=False)
    scale: float
    lengths: tuple[int, int]
    scripts: tuple[str, ...]
    known_share: float
    shape: tuple[str, ...] = ()
    shapes: frozenset[int] = field(default=frozenset(), repr=False)
    _hashes: frozenset[int] = field(init=False, repr=False, compare=False)
    _places: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_hashes", frozenset(self.weights))
        object.__setattr__(self, "_places", tuple(PROPERTIES.index(kind) for kind in self.shape))

    def probability(self, features: PromptFeatures) -> float | None:
        """P(the tier is right) in [0, 1]; None where the prompt is unlike those that the predictor was fitted on."""
        low, high = self.lengths
        if not low <= features.length <= high or features.script not in self.scripts:
            return None
        shapes, values = self.shapes, features.properties
        for place in self._places:
            if values[place] not in shapes:
                return None
        weights, ngrams = self.weights, features.ngrams
        known = ngrams & self._hashes
        n = len(ngrams)
        if not n or len(known) < self.known_share * n:
            return None
        words = sum(map(weights.__getitem__, known))
        properties = sum(map(weights.get, values, _ZEROS))
        z = self.intercept + self.scale * (words / sqrt(n) + properties / sqrt(len(values)))
        if z >= 0.0:
            return 1.0 / (1.0 + exp(-z))
        e = exp(z)
        return e / (1.0 + e)

    @property
    def reads_task(self) -> bool:
        """Whether the task that the caller names is among what it was fitted on."""
        return "task" in self.shape

    def to_json(self) -> dict[str, Any]:
        """As ``from_json`` reads it: hashes in unsigned 32 bits, weights in signed 16 bits, low byte first, base64."""
        ordered = sorted(self.weights.items())
        return {
            "intercept": self.intercept,
            "hashes": _packed("I", [hash for hash, _ in ordered]),
            "weights": _packed("h", [weight for _, weight in ordered]),
            "scale": self.scale,
            "lengths": list(self.lengths),
            "scripts": list(self.scripts),
            "known_share": self.known_share,
            **({"shape": list(self.shape), "shapes": _packed("I", sorted(self.shapes))} if self.shape else {}),
        }


def from_json(data: Mapping[str, Any]) -> Predictor:
    """The predictor that ``to_json`` wrote. Raises ValueError naming the field."""
    if not isinstance(data, Mapping) or set(data) - set(_OPTIONAL) != set(_FIELDS):
        raise ValueError(
            f"predictor: exactly the fields {', '.join(_FIELDS)} are needed, and {' and '.join(_OPTIONAL)} may be there"
        )
    for name in ("intercept", "scale", "known_share"):
        value = data[name]
        if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
            raise ValueError(f"predictor.{name}: {value!r} is not a finite number")
    lengths, scripts = data["lengths"], data["scripts"]
    whole = isinstance(lengths, list | tuple) and all(type(x) is int for x in lengths)
    if not whole or len(lengths) != 2 or not 0 <= lengths[0] <= lengths[1]:
        raise ValueError(f"predictor.lengths: {lengths!r} is not a pair of a least and a largest number of characters")
    if not isinstance(scripts, list | tuple) or not all(isinstance(x, str) for x in scripts):
        raise ValueError(f"predictor.scripts: {scripts!r} is not a list of names")
    shape = data.get("shape", [])
    if not isinstance(shape, list | tuple) or not set(shape) <= set(PROPERTIES):
        raise ValueError(f"predictor.shape: {shape!r} is not a list of properties; they are: {', '.join(PROPERTIES)}")
    hashes, weights = _unpacked("I", data["hashes"], "hashes"), _unpacked("h", data["weights"], "weights")
    if len(hashes) != len(weights) or len(set(hashes)) != len(hashes) or len(hashes) > MOST_WEIGHTS:
        raise ValueError(
            f"predictor.weights: {len(weights)} weights for {len(hashes)} hashes; one for each distinct hash is needed, and "
            f"at most {MOST_WEIGHTS:,}"
        )
    return Predictor(
        intercept=float(data["intercept"]),
        weights=dict(zip(hashes, weights, strict=True)),
        scale=float(data["scale"]),
        lengths=(lengths[0], lengths[1]),
        scripts=tuple(scripts),
        known_share=float(data["known_share"]),
        shape=tuple(shape),
        shapes=frozenset(_unpacked("I", data.get("shapes", ""), "shapes")),
    )


def _packed(kind: str, numbers: list[int]) -> str:
    values = array(kind, numbers)
    if sys.byteorder == "big":
        values.byteswap()
    return base64.b64encode(values.tobytes()).decode("ascii")


def _unpacked(kind: str, text: Any, name: str) -> list[int]:
    values = array(kind)
    try:
        values.frombytes(base64.b64decode(text, validate=True))
    except (ValueError, TypeError):
        raise ValueError(f"predictor.{name}: not base64 of whole numbers") from None
    if sys.byteorder == "big":
        values.byteswap()
    return values.tolist()
