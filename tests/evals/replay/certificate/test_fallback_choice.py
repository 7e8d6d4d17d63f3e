"""Choices with a fallback: a ladder that fails its first test costs the choice nothing but its share of delta."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.certificate.proof_sequences import preset_sequences, too_few_to_tune
from evals.replay.rows.splits import Splits
from evals.replay.tuning.fallback import CandidateSequence
from evals.replay.tuning.tune import Tuner
from tests.evals.replay.synthetic import pair

LIMIT = 0.05


class WithRisky(Tuner):
    """A tuner whose first sequence is one ladder that accepts every answer of the cheap tier, and breaks the promise."""

    shares = (0.5, 0.5)

    def test_sequences(self, n: int, delta: float, *, must_end: str | None = None) -> list[CandidateSequence]:
        """The risky sequence, and the tuner's own."""
        [own, *_] = super().test_sequences(n, delta, must_end=must_end)
        risky = replace(own.candidates[-1], thresholds=(0.0,), usd=1.0)
        sequences = [CandidateSequence(candidates=(risky,), notes=("risky",)), replace(own, notes=("safe",))]
        return [replace(s, share=share) for s, share in zip(sequences, self.shares, strict=True) if share > 0]


class RiskyAlone(WithRisky):
    """The same without a fallback."""

    shares = (1.0, 0.0)


def test_the_fallback_is_used_where_the_first_ladder_fails() -> None:
    """Alone the risky ladder leaves premium alone; beside a safe one that is certified, at its share of delta."""
    columns, guarantee = pair(4000, 1), Guarantee("max_loss", LIMIT, 0.1)
    splits = Splits(np.arange(300), np.arange(300, 1000), np.arange(1000, 4000))
    alone = choose_certified(columns, splits, guarantee, method="split", tuner_class=RiskyAlone)
    assert not alone.certificate["certified"]
    assert "sequences" not in alone.certificate
    both = choose_certified(columns, splits, guarantee, method="split", tuner_class=WithRisky)
    assert both.notes == ("safe",)
    assert both.certificate["certified"]
    assert both.certificate["sequences"] == 2
    assert both.certificate["p_value"] <= both.certificate["level"] == pytest.approx(0.05)
    assert "one of 2 side by side" in both.certificate["words"]
    assert both.chosen.outcome(splits.test).cost_usd.mean() < 10.0


def test_grids_are_tested_beside_where_rows_are_too_few_to_tune_on() -> None:
    """Each cheap tier's grid is tested on all 150 calibration rows; with ``method="split"``, or more rows, there is none."""
    columns, tiny = pair(3000, 5), pair(3000, 105, right=0.5)["cheap"][0]
    columns = {"tiny": [replace(tiny, model="tiny", cost_usd=tiny.cost_usd / 2)], **columns}
    rows, guarantee = np.random.default_rng(13).permutation(3000), Guarantee("max_loss", LIMIT, 0.1)
    splits = Splits(rows[:45], rows[45:150], rows[150:])
    choice = choose_certified(columns, splits, guarantee, seed=13)
    assert (choice.method, choice.chosen.cascade.models) == ("preset", ("cheap", "dear"))
    assert np.array_equal(choice.fit_rows, splits.calibration)
    assert (choice.certificate["n"], choice.certificate["sequences"]) == (150, 4)
    assert choice.certificate["p_value"] <= choice.certificate["level"] == pytest.approx(0.1 * 0.5 / 2)
    tuned = choose_certified(columns, splits, guarantee, seed=13, method="split")
    assert (tuned.method, tuned.certificate["sequences"]) == ("split", 2)
    usd = [each.chosen.outcome(splits.test).cost_usd.mean() for each in (choice, tuned)]
    assert usd[0] < usd[1] / 2
    assert not too_few_to_tune(160, LIMIT)
    assert preset_sequences(columns, splits, "cheap") == []


def broken(columns: Any, quality: npt.NDArray[np.float64], seed: int) -> tuple[bool, bool]:
    """Whether a choice on drawn rows was certified with a saving, and whether its loss on all other rows is too high."""
    rows = np.random.default_rng(seed).permutation(len(quality))
    splits = Splits(rows[:45], rows[45:150], rows[150:])
    choice = choose_certified(columns, splits, Guarantee("max_loss", LIMIT, 0.1), method="split", seed=seed)
    loss = float((quality[splits.test] - choice.chosen.outcome(splits.test).quality).mean())
    return len(choice.chosen.cascade.tiers) > 1, loss > LIMIT


def test_promises_hold_as_often_as_they_say() -> None:
    """Of 12 choices on few rows, where fallbacks take part, hardly more than delta break the promise; some save."""
    columns = pair(2000, 5)
    results = [broken(columns, columns["dear"][0].quality[:, 0], seed) for seed in range(12)]
    assert sum(too_high for _, too_high in results) <= 5  # of Binomial(12, 0.1) more come with probability 0.001
    assert sum(saves for saves, _ in results) >= 1
