"""Several promises on the mean loss tested together: which of them can be proved, and what each would cost.

The method is one fixed sequence over pairs of a candidate and a promise (Learn then Test: Angelopoulos et al. 2021;
fixed-sequence testing: Maurer, Hothorn & Lehmacher 1995). The fit rows choose a cascade for each promise and predict, for
each of its candidates, by how many standard errors it keeps the promise. The safest candidate of each promise comes first,
from the loosest promise to the strictest, then all other pairs by that prediction, the surest first. They are tested on the
certification rows, each at the full level delta, up to the first that fails. The order is fixed before those rows are read,
so that with probability 1 - delta every pair that passed is true: all lines of the menu hold at once, without a correction.
A candidate that keeps a strict promise keeps every looser one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from textwrap import fill
from typing import Any

import numpy as np
import numpy.typing as npt

from evals.replay.rows.splits import Splits
from evals.replay.statistics.certify import CandidateTest, Certificate, check_in_order, least_rows, rows_needed
from evals.replay.sweep_result import Candidate
from evals.replay.tuning.tune import Tuner

Array = npt.NDArray[np.float64]

DEFAULT_PROMISES = (0.02, 0.03, 0.05, 0.1)
"""The promises of a replay without one: points of mean quality that may be lost against the premium tier."""

CANDIDATES_PER_PROMISE = 40
SAFE_MARGIN = 2.0
"""A promise's safest candidate is tested early where it is predicted to keep it by so many standard errors."""
WIDTH = 100
"""The widest line of what a replay prints."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MenuLine:
    """One promise of the menu.

    ``candidate`` is the cheapest that was proved to keep it and that costs less than the premium tier, or None. ``loss`` and
    ``p_value`` are of the test that proves it; ``cost_ratio`` is its mean cost on the calibration rows over the premium
    tier's. ``rows_in_all``: roughly how many rows a recording would need to prove it; None where it is proved, or where no
    number would do.
    """

    max_loss: float
    candidate: Candidate | None
    loss: float | None
    p_value: float | None
    cost_ratio: float | None
    rows_in_all: int | None
    certificate: Certificate
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """The line as plain data."""
        return {
            "max_loss": self.max_loss,
            "certified": self.candidate is not None,
            "tiers": list(self.candidate.cascade.models) if self.candidate else None,
            "loss": self.loss,
            "p_value": self.p_value,
            "cost_ratio": self.cost_ratio,
            "rows_in_all": self.rows_in_all,
        }


def saves(candidate: Candidate, premium_usd: Array, rows: npt.NDArray[np.int64]) -> bool:
    """Whether the candidate costs less than the premium tier on ``rows`` by more than the standard error of the difference.

    Args:
        candidate: The candidate.
        premium_usd: (n,), what the premium tier's answer costs, for every row of the recording.
        rows: The rows to look at: those that the candidate was tuned on.
    """
    saving = premium_usd[rows] - candidate.outcome(rows).cost_usd
    error = float(saving.std(ddof=1)) / len(rows) ** 0.5 if len(rows) > 1 else float("inf")
    return float(saving.mean()) > error


def rows_in_all(n_certify: int | None, splits: Splits, n: int | None = None) -> int | None:
    """Roughly how many rows a recording needs so that ``n_certify`` of them certify, split as this one is.

    For a promise that this recording's rows could not prove: half as many again at least. ``n``: how many of its rows
    certified; by default ``splits.certify``.
    """
    if n_certify is None:
        return None
    total = len(splits.fit) + len(splits.certify) + len(splits.test)
    return max(ceil(n_certify * total / max(n or len(splits.certify), 1)), ceil(1.5 * total))


def certify_menu(
    tuner: Tuner,
    splits: Splits,
    premium_usd: Array,
    limits: Sequence[float],
    delta: float,
    must_end: str | None = None,
) -> list[MenuLine]:
    """Tests promises on the mean loss against the premium tier, all in one fixed sequence.

    Args:
        tuner: Tuned on ``splits.fit``; its goal is the loss against the premium tier.
        splits: The rows; ``certify`` is read by the tests alone.
        premium_usd: (n,), what the premium tier's answer costs.
        limits: The promises, each a mean loss in (0, 1).
        delta: The probability that any line of the menu is broken.
        must_end: The model that every cascade must end with, or None.

    Returns:
        One line for each promise, the strictest first.
    """
    rows, reference = splits.certify, tuner.goal.reference
    limits = sorted(set(limits))
    sequences: dict[float, list[Candidate]] = {}
    notes: dict[float, list[str]] = {}
    pairs: list[tuple[float, float, int]] = []
    for limit in limits:
        every, notes[limit] = tuner.test_sequence(len(rows), must_end=must_end, limit=limit, longest=CANDIDATES_PER_PROMISE)
        # What saves nothing is not tested, and what would fail even without a single loss is not tried: neither choice
        # reads the certification rows' qualities.
        sequences[limit] = [c for c in every if saves(c, premium_usd, splits.fit)]
        if len(rows) >= least_rows(limit, delta):
            pairs += [(_margin(c, limit, len(rows)), limit, i) for i, c in enumerate(sequences[limit])]
    tests: dict[float, list[CandidateTest]] = {limit: [] for limit in limits}
    tested: dict[float, list[Candidate]] = {limit: [] for limit in limits}
    methods = dict.fromkeys(limits, "paired")
    ordered = _in_order(pairs)
    losses = ((reference[rows] - sequences[limit][i].outcome(rows).quality, limit) for limit, i in ordered)
    for (limit, i), (test, method) in zip(ordered, check_in_order(losses, delta), strict=False):
        tests[limit].append(test)
        tested[limit].append(sequences[limit][i])
        methods[limit] = method
    lines: list[MenuLine] = []
    proved: list[tuple[float, Candidate, CandidateTest]] = []
    for limit in limits:
        passed = [(c, t) for c, t in zip(tested[limit], tests[limit], strict=True) if t.passed]
        passed = [(c, t) for c, t in passed if tuner.allows(c, splits.calibration)]
        proved += [(_usd(c, splits), c, t) for c, t in passed]
        lines.append(
            _line(
                limit=limit,
                delta=delta,
                cheapest=min(proved, key=lambda item: item[0], default=None),
                sequence=sequences[limit],
                tests=tests[limit],
                method=methods[limit],
                splits=splits,
                reference=reference,
                premium_usd=premium_usd,
                notes=notes[limit],
            )
        )
    return lines


def _in_order(pairs: Sequence[tuple[float, float, int]]) -> list[tuple[float, int]]:
    """The order of the tests: the safest candidate of each promise from loose to strict, then all by their margins.

    Of a loose promise even risky candidates have a wide margin by a prediction from few rows. One of them that fails would
    end the tests before the safe candidates of stricter promises had their turn.

    Args:
        pairs: For each candidate the margin by which it is predicted to keep a promise, the promise, and its place.
    """
    safest: dict[float, tuple[float, float, int]] = {}
    for pair in sorted(pairs, key=lambda pair: (-pair[0], pair[2])):
        if pair[0] >= SAFE_MARGIN:
            safest.setdefault(pair[1], pair)
    first = [safest[limit] for limit in sorted(safest, reverse=True)]
    rest = sorted(set(pairs) - set(first), key=lambda pair: (-pair[0], -pair[1], pair[2]))
    return [(limit, i) for _, limit, i in (*first, *rest)]


def _margin(candidate: Candidate, limit: float, n: int) -> float:
    """By how many standard errors of n rows the candidate is predicted to keep the limit."""
    return float((limit - candidate.loss) / (candidate.variance / max(n, 1)) ** 0.5)


def _usd(candidate: Candidate, splits: Splits) -> float:
    return float(candidate.outcome(splits.calibration).cost_usd.mean())


def _line(
    *,
    limit: float,
    delta: float,
    cheapest: tuple[float, Candidate, CandidateTest] | None,
    sequence: Sequence[Candidate],
    tests: Sequence[CandidateTest],
    method: str,
    splits: Splits,
    reference: Array,
    premium_usd: Array,
    notes: Sequence[str],
) -> MenuLine:
    """The line of one promise, from the cheapest candidate that was proved to keep it or a stricter one."""
    n = len(splits.certify)
    needed = None
    if cheapest is None:
        counts = [rows_needed(reference[splits.certify] - c.outcome(splits.certify).quality, limit, delta) for c in sequence]
        needed = min((count for count in counts if count is not None), default=None)
    position = tests.index(cheapest[2]) if cheapest and cheapest[2] in tests else -1
    certificate = Certificate(
        certified=cheapest is not None, limit=limit, delta=delta, method=method, n=n,
        position=position, tests=tuple(tests), needed_n=needed,
    )  # fmt: skip
    return MenuLine(
        max_loss=limit,
        candidate=cheapest[1] if cheapest else None,
        loss=cheapest[2].loss if cheapest else None,
        p_value=cheapest[2].p_value if cheapest else None,
        cost_ratio=_ratio(cheapest[0], float(premium_usd[splits.calibration].mean())) if cheapest else None,
        rows_in_all=rows_in_all(needed, splits),
        certificate=certificate,
        notes=tuple(notes),
    )


def _ratio(usd: float, premium_usd: float) -> float | None:
    return usd / premium_usd if premium_usd > 0 else None


def in_words(lines: Sequence[Mapping[str, Any]], delta: float, chosen: float | None) -> str:
    """The menu as text: one line for each promise, from ``MenuLine.to_json``; the one in use is marked."""
    text = [f"menu: all lines hold at once with {100 * (1 - delta):g} % confidence; use another with --choose"]
    for line in lines:
        at_most = f"lose at most {100 * line['max_loss']:g} points"
        mark = "*" if line["max_loss"] == chosen else " "
        if line["certified"]:
            cost = "cost unknown" if line["cost_ratio"] is None else f"{100 * line['cost_ratio']:.0f} % of the cost"
            words = f"{mark} {at_most:<26} proved      {cost}   {' -> '.join(line['tiers'])}"
            text.append(fill(words, WIDTH, subsequent_indent=" " * 41, break_long_words=False, break_on_hyphens=False))
        elif line["rows_in_all"] is not None:
            text.append(f"{mark} {at_most:<26} not proved  needs about {line['rows_in_all']:,} graded rows in all")
        else:
            text.append(f"{mark} {at_most:<26} not proved  more rows like these would not help")
    return "\n".join(text)
