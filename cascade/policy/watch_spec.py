"""What is watched of a policy's runs: which are shadowed, what is promised, which task each belongs to."""

from typing import Literal

from pydantic import Field, field_validator, model_validator

from judges.patterns import compiled

from .strict_model import Share, StrictModel, Usd


class ShadowStratum(StrictModel):
    """Runs with certain tags, which have a share of their own."""

    tags: dict[str, str | int | float | bool] = Field(min_length=1, description="What a run's tags must hold.")
    share: Share = Field(description="In place of the policy's share.")


class GradeSpec(StrictModel):
    """How sampled runs are graded at once, in the background."""

    grader: str = Field(
        min_length=1,
        description="As for `cascade grade-shadows`: `feedback`, `number`, `model:use=NAME:mode=pairwise`, ...",
    )
    references: str | None = Field(
        None, min_length=1, description="JSON Lines with a reference, and the run_id or prompt_hash of the run."
    )


class ShadowSpec(StrictModel):
    """A random sample of runs, for which the tiers that were not asked are asked in the background."""

    share: Share = Field(description="The probability that a run is sampled, where its confidence was at the threshold.")
    floor: Share | None = Field(None, description="The smallest probability of any run, however sure. Default: share.")
    strata: list[ShadowStratum] = Field(
        default_factory=list, description="Kinds of runs with a share of their own; the first that fits counts."
    )
    tiers: list[str] | None = Field(None, min_length=1, description="Which tiers a sampled run must have. Default: all.")
    budget_usd_per_day: Usd = Field(description="Most that the policy's shadow requests may cost in a UTC day.")
    max_per_minute: int = Field(30, ge=1, description="Most shadow requests that begin in any minute.")
    text: bool = Field(
        False, description="Whether the journal keeps the prompts and answers of sampled runs, to grade them."
    )

    grade: GradeSpec | None = Field(
        None, description="Grades sampled runs as soon as their shadow requests have ended. Default: by command alone."
    )

    @property
    def least_share(self) -> float:
        """The smallest probability of any run."""
        return self.share if self.floor is None else self.floor

    @model_validator(mode="after")
    def _floor_is_least(self) -> "ShadowSpec":
        shares = [self.share, *(stratum.share for stratum in self.strata)]
        if self.least_share > min(shares):
            raise ValueError(f"floor ({self.least_share:g}) is above the share {min(shares):g}; set floor at most to that")
        return self

    @model_validator(mode="after")
    def _grading_needs_texts(self) -> "ShadowSpec":
        if self.grade is not None and not self.text:
            raise ValueError("grade: needs the texts of sampled runs; set text: true")
        return self


class PromiseSpec(StrictModel):
    """What is promised of the mean quality, watched by the labels of shadowed runs, and what to do once it is broken."""

    max_loss: float | None = Field(
        None,
        gt=0.0,
        lt=1.0,
        description="The largest mean loss against premium. Default: that of the calibration's certificate.",
    )
    delta: float = Field(
        0.1,
        gt=0.0,
        lt=1.0,
        description="The largest probability of calling a promise broken that is kept, however long it is watched.",
    )
    on_broken: Literal["warn", "escalate_more", "premium"] = Field(
        "warn", description="Once it is broken: only report it, raise every threshold half-way to 1, or ask premium alone."
    )
    webhook_env: str | None = Field(
        None, min_length=1, description="The environment variable with the URL to which each change is posted as JSON."
    )


class DriftSpec(StrictModel):
    """Whether runs are compared with those of the recording, without labels; needs a calibration with its profile."""

    alpha: float = Field(
        0.05,
        gt=0.0,
        lt=1.0,
        description="The largest probability of reporting a drift where there is none, however long it is watched.",
    )
    webhook_env: str | None = Field(
        None,
        min_length=1,
        description="The environment variable with the URL to which each change is posted. Default: the promise's.",
    )


class TaskRule(StrictModel):
    """A task that prompts show by their text."""

    task: str = Field(min_length=1)
    pattern: str = Field(min_length=1, max_length=1000, description="A regular expression that the prompt contains.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        compiled(pattern)  # raises ValueError
        return pattern


class TasksSpec(StrictModel):
    """Which task a run belongs to, for thresholds by task."""

    tag: str = Field(default="task", min_length=1, description="The tag of a run that names its task.")
    rules: list[TaskRule] = Field(default_factory=list, description="Without the tag: the first whose pattern matches.")
