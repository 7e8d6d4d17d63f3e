"""A tier in the policy file: its model, its judges, its thresholds."""

import inspect
import re
from typing import Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, field_validator, model_serializer, model_validator

import judges
from cascade.util.suggestions import unknown, with_more
from judges.registry import factory

from .calibrators import from_json
from .predictor import from_json as predictor_from_json
from .strict_model import Probability, Seconds, StrictModel
from .thresholds import Thresholds


class JudgeRule(StrictModel):
    """One judge of a tier. Keys other than these are the judge's own options."""

    use: str
    accept_at: Probability | None = Field(None, description="Accept at once from here on, without the later judges.")
    reject_below: Probability | None = Field(None, description="Escalate at once below this, without the later judges.")
    options: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _spread(cls, value: Any) -> Any:
        """A bare name, or a mapping whose further keys are the judge's options."""
        if isinstance(value, str):
            return {"use": value}
        if isinstance(value, dict):
            own = {k: v for k, v in value.items() if k in cls.model_fields}
            rest = {k: v for k, v in value.items() if k not in cls.model_fields}
            if rest and isinstance(own.get("options", {}), dict):
                own["options"] = {**own.get("options", {}), **rest}
            return own
        return value

    @model_validator(mode="after")
    def _is_known_judge(self) -> "JudgeRule":
        if self.accept_at is not None and self.reject_below is not None and self.reject_below > self.accept_at:
            raise ValueError(f"reject_below ({self.reject_below}) is above accept_at ({self.accept_at})")
        try:
            judges.make(self.use, **self.options)
        except LookupError:
            raise ValueError(unknown("judge", self.use, judges.names())) from None
        except TypeError as error:
            raise ValueError(_wrong_option(self.use, error)) from None
        return self

    @property
    def model_names(self) -> tuple[str, ...]:
        """The models of the policy file that this judge may ask, apart from the tier's own."""
        named = [self.options.get("model")]
        if self.use == "consensus":
            named += [*self.options["models"], self.options.get("verifier")]
        return tuple(name for name in named if isinstance(name, str))


_SELDOM = frozenset(("predictor", "skip_below", "speculate_below", "p95_s", "fuse", "samples"))
"""Keys that are not written where they are not set."""


class TierPolicy(StrictModel):
    """One step of the ladder: a model, the judges of its answer (cheapest first), and the confidence that suffices."""

    name: str = ""
    model: str
    fallbacks: list[str] = Field(default_factory=list, description="Models asked in turn where the tier's own fails.")
    fuse: list[str] | None = Field(
        None, min_length=1, description="Models whose answers the tier's model reads as candidates before it writes its own."
    )
    samples: int | None = Field(None, ge=1, le=32, description="With fuse: how many answers of each model; by default 1.")
    accept_at: Probability = Field(0.7, description="Accept the answer from this confidence on; 0 accepts all.")
    prior: Probability = Field(0.5, description="The confidence where no judge gave a score.")
    accept_at_by_task: dict[str, Probability | Literal["skip"]] | None = Field(
        None, description="accept_at of the runs of a task; 'skip': its runs do not ask the tier. Written by a calibration."
    )
    judges: list[JudgeRule] = Field(default_factory=list)
    confidence: list[dict[str, Any]] | None = Field(
        None, description="Fitted mappings to P(correct), one for each judge prefix; written by a calibration."
    )
    predictor: dict[str, Any] | None = Field(
        None, description="P(the tier is right) by the prompt alone, with hashed words; written by a calibration."
    )
    skip_below: Probability | None = Field(
        None, description="The tier is not asked where the predictor's probability is below it; written by a calibration."
    )
    speculate_below: Probability | None = Field(
        None,
        description="The next tier is asked at the same time where the predictor's probability is below it; 1: always.",
    )
    p95_s: Seconds | None = Field(
        None, description="95th percentile of the tier's latency, used by max_latency_s until enough answers are timed."
    )

    @field_validator("confidence")
    @classmethod
    def _mappings(cls, mappings: list[dict[str, Any]] | None) -> list[dict[str, Any]] | None:
        for i, mapping in enumerate(mappings or ()):
            try:
                from_json(mapping)
            except ValueError as error:
                raise ValueError(f"mapping {i}: {error}") from None
        return mappings

    @model_validator(mode="after")
    def _others_in_consensus(self) -> "TierPolicy":
        for rule in self.judges:
            if rule.use == "consensus" and self.model in rule.options["models"]:
                raise ValueError(
                    f"judges: consensus asks {self.model!r}, which is the tier's own model; name other models, or use "
                    "self_consistency for further answers of one"
                )
        return self

    @model_validator(mode="after")
    def _candidates_differ(self) -> "TierPolicy":
        if self.fuse is None:
            if self.samples is not None:
                raise ValueError("samples: is read only with fuse; for a self_consistency judge it is the judge's option")
        elif len(set(self.fuse)) < len(self.fuse):
            raise ValueError("fuse: names a model twice; samples gives several answers of each")
        elif any(rule.use == "self_consistency" for rule in self.judges):
            raise ValueError("judges: self_consistency would sample the model without its candidates; use samples of fuse")
        return self

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without the keys of what only some calibrations have, so that a policy that does not use them keeps its hash."""
        data: dict[str, Any] = write(self)
        return {key: value for key, value in data.items() if value is not None or key not in _SELDOM}

    @field_validator("predictor")
    @classmethod
    def _a_predictor(cls, data: dict[str, Any] | None) -> dict[str, Any] | None:
        if data is not None:
            predictor_from_json(data)
        return data

    @model_validator(mode="after")
    def _with_a_predictor(self) -> "TierPolicy":
        if self.predictor is None:
            if self.skip_below is not None:
                raise ValueError("skip_below: needs a predictor, which a calibration writes: python -m evals.replay")
            if self.speculate_below is not None and self.speculate_below < 1.0:
                raise ValueError("speculate_below: below 1 it needs a predictor, which a calibration writes; 1 is always")
            if any(from_json(mapping).reads_prompt for mapping in self.confidence or ()):
                raise ValueError("confidence: a mapping reads the prompt, but the tier has no predictor")
        return self

    @model_validator(mode="after")
    def _a_mapping_each(self) -> "TierPolicy":
        if self.confidence is not None and len(self.confidence) != len(self.judges) + 1:
            n = len(self.judges)
            raise ValueError(f"confidence: {n} judges need {n + 1} mappings, got {len(self.confidence)}")
        return self

    @model_validator(mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict) and "name" not in value and isinstance(value.get("model"), str):
            return {**value, "name": value["model"]}
        return value

    @property
    def thresholds(self) -> Thresholds:
        """The thresholds of this tier, as ``decide`` needs them."""
        return Thresholds(
            self.accept_at,
            tuple(j.accept_at for j in self.judges),
            tuple(j.reject_below for j in self.judges),
            self.skip_below,
        )


def _wrong_option(judge: str, error: TypeError) -> str:
    match = re.search(r"unexpected keyword argument '(\w+)'", str(error))
    if match is None:
        return f"judge {judge!r}: {error}"
    options = [p for p in inspect.signature(factory(judge)).parameters if p not in ("name", "only_vetoes")]
    return f"judge {judge!r} has no option {match[1]!r}{with_more(match[1], options, 'it takes: ' + ', '.join(options))}"
