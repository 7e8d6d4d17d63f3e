"""Disjoint parts of a recording, stratified by task: rows to fit on, rows to certify on, rows to test on."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

# Of the calibration rows. The certificate needs them more than the fit: its margin shrinks with the root of their number.
FIT_SHARE = 0.3


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """Row numbers, each in one part only. ``calibration`` is ``fit`` and ``certify``; nothing is learned from ``test``."""

    fit: Rows
    certify: Rows
    test: Rows

    @property
    def calibration(self) -> Rows:
        """The rows that may be learned from."""
        return np.concatenate([self.fit, self.certify])


def halves(
    tasks: Sequence[str], seed: int, *, fit_share: float = FIT_SHARE, recorded: Sequence[str | None] | None = None
) -> Splits:
    """Half of the rows to calibrate on, half to test on, drawn with ``seed``; in each task and part the shares are kept.

    ``recorded`` gives the recording's own split: its "train" rows are then the calibration half, "test" the other, and rows
    with neither are left out. A task of one row goes to either half by the draw. Raises ValueError where a part is empty.
    """
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random(len(tasks)), kind="stable")
    names = np.asarray(tasks, dtype=object)[order]
    # Rows of one task stand together, in drawn order, the tasks in drawn order too: dealing them out in turn keeps shares.
    rank = {name: rng.random() for name in sorted(set(tasks))}
    dealt = order[np.argsort(np.array([rank[name] for name in names], dtype=np.float64), kind="stable")]
    if recorded is None:
        calibration, test = dealt[0::2], dealt[1::2]
    else:
        of = np.asarray(recorded, dtype=object)
        calibration, test = dealt[of[dealt] == "train"], dealt[of[dealt] == "test"]
    # Spread the fit rows evenly over the tasks: row j is one where the running share passes a whole number.
    marks = np.floor((np.arange(len(calibration)) + 1) * fit_share + 0.5).astype(np.int64)
    to_fit = np.diff(marks, prepend=np.floor(0.5)) > 0
    parts = Splits(calibration[to_fit], calibration[~to_fit], test)
    for name in ("fit", "certify", "test"):
        if len(getattr(parts, name)) == 0:
            raise ValueError(f"no rows are left to {name} on: {len(tasks)} are too few for this split")
    return parts
