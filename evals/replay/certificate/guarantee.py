"""What is promised of a cascade, and what a choice of a cascade says about its promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evals.replay.sweep_result import Candidate, SweepResult

from .menu import MenuLine

Kind = Literal["max_loss", "min_quality", "min_accepted_quality", "budget", "error_price"]


@dataclass(frozen=True, slots=True)
class Guarantee:
    """What is wanted. ``value`` by ``kind``: the mean quality that may be lost against the premium tier; the least mean
    quality; the least quality of accepted answers; USD per 1,000 prompts; USD that one wrong answer costs.

    ``delta``: the probability, over the draw of the calibration rows, that a certified promise is broken.
    """

    kind: Kind
    value: float
    delta: float = 0.1

    def words(self) -> str:
        """The promise as a clause."""
        return {
            "max_loss": f"the mean quality is at most {self.value:g} below the premium tier's",
            "min_quality": f"the mean quality is at least {self.value:g}",
            "min_accepted_quality": f"accepted answers are right with probability at least {self.value:g}",
            "budget": f"1,000 prompts cost at most ${self.value:g} on average",
            "error_price": f"cost plus ${self.value:g} for each wrong answer is least",
        }[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CertifiedChoice:
    """The chosen candidate and how it was found.

    ``guarantee`` is the promise that ``certificate`` is about. ``fit_rows``: rows whose labels the confidences were fitted
    on. ``swept``: every cascade that tuning considered, empty where nothing was tuned. ``menu``: one line for each promise
    where several were tested together. ``last_fit_rows``: those of the last tier, where they are others.
    """

    chosen: Candidate
    certificate: Mapping[str, Any]
    guarantee: Guarantee
    method: str
    fit_rows: npt.NDArray[np.int64]
    notes: tuple[str, ...] = ()
    swept: tuple[SweepResult, ...] = ()
    menu: tuple[MenuLine, ...] = ()
    last_fit_rows: npt.NDArray[np.int64] | None = None
