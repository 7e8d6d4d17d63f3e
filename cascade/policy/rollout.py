"""Which calibration a policy uses, and which other one a share of its runs tries."""

from dataclasses import dataclass

from pydantic import Field

from .strict_model import StrictModel


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedCalibration:
    """The calibration file that was applied to a policy.

    Attributes:
        hash: The SHA-256 of the file's bytes, in hex.
        name: The file as the policy names it.
        text: What it contains.
    """

    hash: str
    name: str
    text: str


class CanarySpec(StrictModel):
    """Another calibration, for a share of the runs; labels of sampled runs compare it with the present one."""

    calibration: str = Field(min_length=1, description="The calibration to try, relative to this file.")
    share: float = Field(0.1, gt=0.0, lt=1.0, allow_inf_nan=False, description="The share of the runs that use it.")
    tag: str = Field("session", min_length=1, description="Runs with the same value of this tag use the same calibration.")
    max_worse: float = Field(
        0.02,
        gt=0.0,
        lt=1.0,
        description="It is ready for promotion once its mean loss is shown to exceed the present one's by at most this.",
    )
    alpha: float = Field(
        0.05,
        gt=0.0,
        lt=1.0,
        description="The probability of ever aborting a candidate that is not worse, and of calling a worse one ready.",
    )
