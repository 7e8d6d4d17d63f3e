"""Disjoint parts of a recording, stratified by task: rows to fit on, rows to certify on, rows to test on."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]

# A share of the calibration rows. The certificate needs more rows than the fit: its margin shrinks with their square root.
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
    tasks: Sequence[str],
    seed: int,
    *,
    fit_share: float = FIT_SHARE,
    recorded: Sequence[str | None] | None = None,
    groups: Sequence[Hashable] | None = None,
) -> Splits:
    """Half of the rows to calibrate on, half to test on, drawn with ``seed``; in each task and part the shares are kept.

    ``recorded`` gives the recording's own split: its "train" rows are then the calibration half, "test" the other, and rows
    with neither are left out. Rows with equal ``groups`` (the same prompt, say) come into one part together, as far as the
    recorded split allows. A task of one row goes to a random half. Raises ValueError where a part is empty.
    """
    if groups is not None and len(set(groups)) < len(groups):
        own = list(groups) if recorded is None else list(zip(groups, recorded, strict=True))
        first = {group: row for row, group in reversed(list(enumerate(own)))}
        leaders = sorted(first.values())
        of_leaders = None if recorded is None else [recorded[row] for row in leaders]
        parts = halves([tasks[row] for row in leaders], seed, fit_share=fit_share, recorded=of_leaders)
        members: dict[Hashable, list[int]] = {}
        for row, group in enumerate(own):
            members.setdefault(group, []).append(row)
        return Splits(*(_together(part, leaders, own, members) for part in (parts.fit, parts.certify, parts.test)))
    rng = np.random.default_rng(seed)
    order = np.argsort(rng.random(len(tasks)), kind="stable")
    names = np.asarray(tasks, dtype=object)[order]
    # Tasks, and the rows of each, are in random order: dealing the rows out in turn keeps the shares of tasks.
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


def _together(
    part: Rows, leaders: Sequence[int], groups: Sequence[Hashable], members: Mapping[Hashable, Sequence[int]]
) -> Rows:
    """The rows of all groups whose leader is in ``part``, which counts leaders."""
    return np.array([row for at in part for row in members[groups[leaders[at]]]], dtype=np.int64)
