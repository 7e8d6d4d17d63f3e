"""The base of the policy file's types, and the kinds of numbers that they share."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from .environment import hide

Probability = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]
Usd = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False)]
Pause = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


class StrictModel(BaseModel):
    """Refuses unknown keys, cannot be changed, and shows no value that came from the environment."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def __repr__(self) -> str:
        return hide(super().__repr__())

    def __str__(self) -> str:
        return hide(super().__str__())
