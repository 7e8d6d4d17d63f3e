"""P(a tier will be right | the prompt): sparse weights of hashed features, and perhaps of an embedding.

Standard library only.
"""

import base64
import sys
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from itertools import repeat
from math import exp, isfinite, log, sqrt
from operator import mul
from typing import Any

from judges.prompt import PROPERTIES, EmbeddedFeatures, PromptFeatures

MOST_WEIGHTS = 20_000
"""Most weights of one predictor; each takes 8 bytes of a calibration file."""
MOST_LEVELS = 32_767
_ZEROS = repeat(0)
_FIELDS = ("intercept", "hashes", "weights", "scale", "lengths", "scripts", "known_share")
_OPTIONAL = ("shape", "shapes")
_EMBEDDING_FIELDS = ("model", "dimensions", "intercept", "slope", "weights", "scale")
_CLIP = 1e-9


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
    _places: tuple[int, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        weight_of, n = self.weights.get, len(features.ngrams)
        weights = [*map(weight_of, features.ngrams)]  # one look-up each: None for one that is unknown
        unknown = weights.count(None)
        if not n or n - unknown < self.known_share * n:
            return None
        words = sum(filter(None, weights))
        properties = sum(map(weight_of, values, _ZEROS))
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


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingWeights:
    """A logistic regression on the embedding of a prompt, of length 1, and on the logit that its n-grams give.

    Attributes:
        model: The embedding model, as its provider names it.
        intercept: The logit where all else is 0.
        slope: The weight of the n-grams' logit; 0: the n-grams alone say nothing.
        weights: One for each number of an embedding, a whole number of ``scale``.
        scale: What a weight of 1 adds.
    """

    model: str
    intercept: float
    slope: float
    weights: tuple[int, ...] = field(repr=False)
    scale: float

    def probability(self, embedding: Sequence[float], by_ngrams: float) -> float | None:
        """P(the tier is right) in [0, 1]; None where the embedding has no length."""
        norm = sqrt(sum(map(mul, embedding, embedding)))
        if not norm:
            return None
        z = self.intercept + self.scale * sum(map(mul, self.weights, embedding)) / norm
        if self.slope:
            p = min(max(by_ngrams, _CLIP), 1.0 - _CLIP)
            z += self.slope * log(p / (1.0 - p))
        if z >= 0.0:
            return 1.0 / (1.0 + exp(-z))
        e = exp(z)
        return e / (1.0 + e)

    def to_json(self) -> dict[str, Any]:
        """As ``embedding_weights`` reads it."""
        return {
            "model": self.model,
            "dimensions": len(self.weights),
            "intercept": self.intercept,
            "slope": self.slope,
            "weights": _packed("h", list(self.weights)),
            "scale": self.scale,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddingPredictor(Predictor):
    """A predictor that reads the embedding of the prompt as well.

    Without one, as where its server is down, the n-grams decide alone; where these say nothing, the probability is None, as
    for a prompt that is unlike the recording.

    Attributes:
        embedding: The weights of the embedding.
    """

    embedding: EmbeddingWeights

    def probability(self, features: PromptFeatures) -> float | None:
        """See Predictor."""
        by_ngrams = Predictor.probability(self, features)
        if by_ngrams is None:
            return None
        if isinstance(features, EmbeddedFeatures):
            return self.embedding.probability(features.embedding, by_ngrams)
        return by_ngrams if self.embedding.slope else None

    def is_in_range(self, features: PromptFeatures) -> bool:
        """Whether the prompt is like those that it was fitted on, so that its embedding is of use."""
        return Predictor.probability(self, features) is not None

    def to_json(self) -> dict[str, Any]:
        """See Predictor."""
        return {**Predictor.to_json(self), "embedding": self.embedding.to_json()}


def embedding_mismatch(fitted: Mapping[str, Any], model: str | None, dimensions: int | None) -> str | None:
    """Why an embedding is not the one that a predictor was fitted with; None where it is.

    Args:
        fitted: ``EmbeddingWeights.to_json``.
        model: The provider's name of the embedding model that the policy has; None: it has none.
        dimensions: How many numbers its embeddings have.
    """
    name, n = fitted["model"], fitted["dimensions"]
    if model is None:
        return (
            f"is missing: the calibration was fitted with embeddings of {name!r}; add embedding: {{model: ..., dimensions: "
            f"{n}}}, where model is {name!r} under `models`, or calibrate again without"
        )
    if model != name:
        return f"the calibration was fitted with embeddings of {name!r}, not of {model!r}; name that one, or calibrate again"
    if dimensions != n:
        return f"the calibration was fitted with {n} dimensions, not with {dimensions}; set dimensions to {n}"
    return None


def _embedding_weights(data: Any) -> EmbeddingWeights:
    """What ``EmbeddingWeights.to_json`` wrote. Raises ValueError naming the field."""
    if not isinstance(data, Mapping) or set(data) != set(_EMBEDDING_FIELDS):
        raise ValueError(f"predictor.embedding: exactly the fields {', '.join(_EMBEDDING_FIELDS)} are needed")
    if not isinstance(data["model"], str) or not data["model"]:
        raise ValueError(f"predictor.embedding.model: {data['model']!r} is not the name of a model")
    for name in ("intercept", "slope", "scale"):
        _finite(data[name], f"embedding.{name}")
    weights = _unpacked("h", data["weights"], "embedding.weights")
    if type(data["dimensions"]) is not int or len(weights) != data["dimensions"] or not weights:
        raise ValueError(f"predictor.embedding: {len(weights)} weights for {data['dimensions']!r} dimensions")
    return EmbeddingWeights(
        model=data["model"],
        intercept=float(data["intercept"]),
        slope=float(data["slope"]),
        weights=tuple(weights),
        scale=float(data["scale"]),
    )


def _finite(value: Any, name: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not isfinite(value):
        raise ValueError(f"predictor.{name}: {value!r} is not a finite number")


def from_json(data: Mapping[str, Any]) -> Predictor:
    """The predictor that ``to_json`` wrote. Raises ValueError naming the field."""
    if isinstance(data, Mapping) and "embedding" in data:
        plain = from_json({name: value for name, value in data.items() if name != "embedding"})
        return with_embedding(plain, _embedding_weights(data["embedding"]))
    if not isinstance(data, Mapping) or set(data) - set(_OPTIONAL) != set(_FIELDS):
        raise ValueError(
            f"predictor: exactly the fields {', '.join(_FIELDS)} are needed, and {' and '.join(_OPTIONAL)} may be there"
        )
    for name in ("intercept", "scale", "known_share"):
        _finite(data[name], name)
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


def with_embedding(plain: Predictor, embedding: EmbeddingWeights) -> EmbeddingPredictor:
    """The predictor that reads an embedding as well."""
    settings = {each.name: getattr(plain, each.name) for each in fields(plain) if each.init}
    return EmbeddingPredictor(**settings, embedding=embedding)


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
