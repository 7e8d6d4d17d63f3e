"""A promise, the score table and the splits -> the ladder to use, and the certificate of what was proved of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from . import fixed_grid
from .certify import METHODS, Certificate, fixed_sequence, least, p_value
from .score_table import TierScores
from .simulate import SimulatedCascade
from .splits import Splits
from .tune import Candidate, Goal, Tuner

Array = npt.NDArray[np.float64]
Kind = Literal["max_loss", "min_quality", "min_accepted_quality", "budget", "error_price"]
Method = Literal["auto", "split", "preset"]


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


@dataclass(frozen=True, slots=True, eq=False)
class CertifiedChoice:
    """The chosen candidate and how it was found. ``fitted_on``: rows of which the mappings know the labels."""

    chosen: Candidate
    certificate: Mapping[str, Any]
    method: str
    fitted_on: npt.NDArray[np.int64]
    notes: tuple[str, ...]


def prove(
    columns: Mapping[str, Sequence[TierScores]],
    splits: Splits,
    promise: Guarantee,
    *,
    seed: int = 0,
    method: Method = "auto",
    must_end: str | None = None,
) -> CertifiedChoice:
    """Tunes on ``splits.fit`` and certifies on ``splits.certify``, or walks a fixed grid on both where that is possible.

    ``columns``: each model's columns, cheapest model first, the premium tier last. ``must_end``: the model that every ladder
    ends with. "auto" takes the fixed grid for two models and a single score.
    """
    if promise.kind in ("budget", "error_price"):
        return _best(columns, splits, promise, seed, must_end)
    if promise.kind == "min_accepted_quality":
        return _selective(columns, splits, promise, seed)
    premium = list(columns)[-1]
    quality = columns[premium][0].quality[:, 0]
    against_premium = promise.kind == "max_loss"
    reference = quality if against_premium else np.ones(len(quality))
    limit = promise.value if against_premium else 1.0 - promise.value
    notes: list[str] = []
    how: str
    fixed = fixed_grid.walk([c[0] for c in columns.values()], splits.calibration) if method != "split" else None
    if fixed is not None and all(len(c) == 1 for c in columns.values()):
        rows, walk, how = splits.calibration, fixed, "preset"
    else:
        goal = Goal(reference, limit, premium if against_premium else None)
        tuner = Tuner(columns, splits.fit, goal, seed)
        rows, how = splits.certify, "split"
        walk, notes = tuner.walk(len(rows), must_end=must_end)
    found = fixed_sequence([reference[rows] - c.outcome(rows).quality for c in walk], limit, promise.delta)
    alone = _alone(columns[premium][0], splits, seed)
    alone_usd = float(alone.outcome(splits.calibration).cost_usd.mean())
    passed = walk[: found.position + 1]
    chosen = min(passed, key=lambda c: float(c.outcome(splits.calibration).cost_usd.mean()), default=None)
    usd = np.inf if chosen is None else float(chosen.outcome(splits.calibration).cost_usd.mean())
    if chosen is not None and (usd < alone_usd or not against_premium):
        position = walk.index(chosen)
        if how == "preset":
            chosen = fixed_grid.calibrated(chosen, rows, seed)
        certificate = replace(found, position=position).to_json() | {"words": _kept(promise, found, chosen)}
        return CertifiedChoice(chosen, certificate, how, rows if how == "preset" else splits.fit, tuple(notes))
    if len(columns) == 1 and against_premium:
        words = "There is one tier, so there is nothing to prove: it answers every prompt, and loses nothing to itself."
        one = {"certified": True, "method": "a single tier: nothing is lost", "needed_n": None, "words": words}
        return CertifiedChoice(alone, found.to_json() | one, how, splits.calibration, ())
    return _premium(alone, found, promise, passed, how, splits, reference)


def _alone(column: TierScores, splits: Splits, seed: int) -> Candidate:
    from .candidate_tiers import first, fitted

    step = fitted(column.first(column.free), splits.calibration, seed)
    return Candidate(SimulatedCascade.of([first(step, column.free)]), (), 0.0, 0.0, 0.0)


def _premium(
    alone: Candidate,
    found: Certificate,
    promise: Guarantee,
    passed: Sequence[Candidate],
    how: str,
    splits: Splits,
    reference: Array,
) -> CertifiedChoice:
    """The premium tier by itself: where no cascade was certified, or none that was certified costs less."""
    certificate = found.to_json()
    if passed:
        words = "Cascades keep the promise, but none costs less than the premium tier alone, which is therefore used."
        certificate |= {"certified": True, "method": "the premium tier alone: nothing is lost", "words": words}
        return CertifiedChoice(alone, certificate, how, splits.calibration, ())
    loss, p = (found.tested[0].loss, found.tested[0].p_value) if found.tested else (float("nan"), 1.0)
    least_n = least(found.limit, found.delta)
    words = (
        f"Refused: on {found.n} rows no cascade could be shown to keep the promise that {promise.words()}. The safest one "
        f"tested lost {loss:+.4f} on average, which may be chance (p = {p:.3f}, needed: {found.delta:g} or less). "
    )
    if found.needed_n is not None:
        words += f"About {found.needed_n:,} certification rows like these would be needed. "
    else:
        words += f"More rows like these would not help; even a cascade without any loss needs {least_n:,}. "
    words += "The premium tier alone is used."
    certificate |= {"certified": False, "words": words, "needed_n": found.needed_n}
    if promise.kind == "min_quality":
        rows = splits.certify
        p, method = p_value(reference[rows] - alone.outcome(rows).quality, found.limit)
        if p <= promise.delta:
            certificate |= {"certified": True, "p_value": p, "method": METHODS[method]}
            certificate["words"] = f"Only the premium tier alone could be shown to keep the promise that {promise.words()}."
    return CertifiedChoice(alone, certificate, how, splits.calibration, ())


def _kept(promise: Guarantee, found: Certificate, chosen: Candidate) -> str:
    tested = found.tested[found.position]
    return (
        f"With probability {100 * (1 - promise.delta):g} % over the draw of the {found.n:,} rows that certified it, "
        f"{promise.words()}: measured loss {tested.loss:+.4f} at the last step that passed, p = {tested.p_value:.4f} "
        f"({METHODS.get(found.method, found.method)}, {len(found.tested)} tests). It holds for prompts like those recorded."
    )


def _best(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, promise: Guarantee, seed: int, must_end: str | None
) -> CertifiedChoice:
    """The best predicted ladder under a budget, or at a price of an error; what it may lose is then bounded."""
    premium = list(columns)[-1]
    quality = columns[premium][0].quality[:, 0]
    tuner = Tuner(columns, splits.fit, Goal(np.ones(len(quality)), 1.0, None), seed)
    swept = [tuner.sweep(ladder) for ladder in tuner.ladders(must_end)]
    scored: list[tuple[float, float, Candidate]] = []
    for each in swept:
        if promise.kind == "budget":
            within = np.flatnonzero(each.usd <= promise.value / 1000)
            if len(within):
                at = int(within[np.argmin(each.loss[within])])
                scored.append((float(each.loss[at]), float(each.usd[at]), each.candidate(at)))
        else:
            total = each.usd + promise.value * each.loss
            at = int(np.argmin(total))
            scored.append((float(total[at]), float(each.usd[at]), each.candidate(at)))
    notes: list[str] = []
    if scored:
        chosen = min(scored, key=lambda item: item[:2])[2]
    else:
        every = [(float(each.usd.min()), each.candidate(int(np.argmin(each.usd)))) for each in swept]
        least_usd, chosen = min(every, key=lambda item: item[0])
        notes.append(f"no ladder costs {promise.value:g} USD per 1,000 or less; the cheapest, about {1000 * least_usd:.4g}")
    rows = splits.certify
    losses = quality[rows] - chosen.outcome(rows).quality
    bound, used = upper_bound(losses, promise.delta)
    usd = 1000 * chosen.outcome(rows).cost_usd
    error = 1.96 * float(usd.std()) / max(len(rows), 1) ** 0.5
    # What is proved is the loss: the name of a certificate must not cover a budget that the rows say may be passed.
    dear = promise.kind == "budget" and float(usd.mean()) + error > promise.value
    words = "" if not dear else "The cost on the certification rows may pass the budget, so nothing is certified. "
    words += (
        f"Chosen so that {promise.words()}; measured ${usd.mean():.4g} per 1,000, 95 % interval "
        f"[{max(0.0, usd.mean() - error):.4g}, {usd.mean() + error:.4g}]. "
        f"With probability {100 * (1 - promise.delta):g} % its mean quality is at most {bound:.3f} below the premium tier's "
        f"({METHODS[used]} on {len(rows):,} rows that did not help to choose it)."
    )
    certificate = {
        "certified": bound < 1.0 and bool(scored) and not dear,
        "max_loss": bound, "delta": promise.delta, "method": METHODS[used],
        "n": len(rows), "p_value": promise.delta, "tests": 1, "needed_n": None, "words": words,
    }  # fmt: skip
    return CertifiedChoice(chosen, certificate, "split", splits.fit, tuple(notes))


def upper_bound(losses: Array, delta: float) -> tuple[float, str]:
    """The least limit, to 1e-3 and from above, at which the mean loss is certified at ``delta``; 1 where none is."""
    low, high = max(0.0, float(losses.mean())), 1.0
    used = "paired"
    while high - low > 1e-3:
        middle = (low + high) / 2
        p, used = p_value(losses, middle)
        low, high = (low, middle) if p <= delta else (middle, high)
    return high, used


def _selective(
    columns: Mapping[str, Sequence[TierScores]], splits: Splits, promise: Guarantee, seed: int
) -> CertifiedChoice:
    """One level of calibrated confidence for every tier, as low as accepted answers stay right often enough."""
    from .candidate_tiers import fitted

    models = list(columns)
    steps = [fitted(columns[m][-1], splits.fit, seed) for m in models[:-1]]
    last = columns[models[-1]][-1]
    steps.append(fitted(last.first(last.free), splits.fit, seed))
    ladder = SimulatedCascade.of(steps)
    levels = [float(x) for x in np.round(np.concatenate([1 - np.logspace(-4, -1, 31), np.linspace(0.89, 0.0, 90)]), 6)]
    walk = [Candidate(ladder, (t,) * (len(steps) - 1), 0.0, 0.0, 0.0, t) for t in levels]
    rows = splits.certify
    passed: Candidate | None = None
    p, used, n, tests = 1.0, "binomial", 0, 0
    shortest = 0
    for candidate in walk:
        outcome = candidate.outcome(rows)
        losses = 1.0 - outcome.quality[outcome.accepted]
        # Levels that accept too few rows to prove anything say nothing, whatever their answers: they are not tested. Which
        # they are depends on the scores alone, never on the answers' quality.
        if len(losses) < least(1.0 - promise.value, promise.delta):
            continue
        shortest = shortest or len(losses)
        tests += 1
        found, method = p_value(losses, 1.0 - promise.value)
        if found > promise.delta:
            break
        passed, p, used, n = candidate, found, method, len(losses)
    base = {"max_loss": None, "min_accepted_quality": promise.value, "delta": promise.delta, "tests": tests}
    if passed is None:
        fewest = least(1.0 - promise.value, promise.delta)
        words = (
            f"Refused: on {len(rows):,} rows no level of confidence could be shown to keep the promise that "
            f"{promise.words()}. It takes at least {fewest:,} accepted rows without a single mistake. Nothing is accepted "
            "below confidence 1."
        )
        chosen = Candidate(ladder, (1.0,) * (len(steps) - 1), 0.0, 0.0, 0.0, 1.0)
        certificate = base | {
            "certified": False, "method": METHODS["binomial"], "n": len(rows), "p_value": 1.0, "needed_n": fewest,
            "words": words,
        }  # fmt: skip
        return CertifiedChoice(chosen, certificate, "split", splits.fit, ())
    share = float(passed.outcome(rows).accepted.mean())
    words = (
        f"With probability {100 * (1 - promise.delta):g} % over the draw of the rows that certified it, {promise.words()}: "
        f"at confidence {passed.last_at:g} or more, {100 * share:.0f} % of answers are accepted (n = {n:,}, p = {p:.4f}, "
        f"{METHODS[used]})."
    )
    certificate = base | {
        "certified": True, "method": METHODS[used], "n": n, "p_value": p, "needed_n": None, "words": words,
        "accepted": share,
    }  # fmt: skip
    return CertifiedChoice(passed, certificate, "split", splits.fit, ())
