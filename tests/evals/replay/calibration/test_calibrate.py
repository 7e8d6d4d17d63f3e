"""Fitting: against scikit-learn, on simulated scores, on degenerate tables; numpy and plain Python say the same."""

from collections.abc import Mapping
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cascade.policy.calibrators import Calibrator, Constant, Feature, Isotonic, Logistic
from evals.replay.calibration.apply_mapping import apply, transformed
from evals.replay.calibration.calibrate import SURE, Array, Fitted, fit, gain
from evals.replay.calibration.fit_mappings import method_of
from evals.replay.statistics.metrics import auroc, ece, ece_by_chance, log_loss, losses

numbers = st.floats(-30, 30)
shares = st.floats(0, 1)
maybe = st.one_of(st.none(), shares, st.sampled_from([0.0, 1.0, 0.5, 1e-7, 1 - 1e-7]))


def simulated(n: int, judges: int = 1, seed: int = 0, missing: float = 0.0) -> tuple[dict[str, Array], Array]:
    """Overconfident scores: the odds of being right are the geometric mean of the scores' odds, each to the power 0.4."""
    rng = np.random.default_rng(seed)
    scores = {f"judge{i}": rng.beta(1.2, 0.4, n).clip(1e-5, 1 - 1e-5) for i in range(judges)}
    z = 0.4 * sum(np.log(s / (1 - s)) for s in scores.values()) / judges
    correct = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float64)
    return {name: np.where(rng.random(n) < missing, np.nan, s) for name, s in scores.items()}, correct


@st.composite
def mappings(draw: st.DrawFn) -> Calibrator:
    """Any mapping of the scores a, b, c."""
    kind = draw(st.integers(0, 2))
    if kind == 0:
        return Constant(draw(shares))
    if kind == 1:
        x = sorted(draw(st.lists(shares, min_size=1, max_size=6, unique=True)))
        y = sorted(draw(st.lists(shares, min_size=len(x), max_size=len(x))))
        return Isotonic("a", tuple(zip(x, y, strict=True)), draw(shares))
    judges = draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=3, unique=True))
    some = st.lists(numbers, min_size=len(judges), max_size=len(judges)).map(tuple)
    kinds = st.sampled_from(["logit", "log", "identity"])
    return Logistic(tuple(Feature(j, draw(kinds), draw(numbers)) for j in judges), draw(some), draw(some), draw(numbers))


@given(
    mappings(), st.lists(st.fixed_dictionaries({}, optional={"a": maybe, "b": maybe, "d": maybe}), min_size=1, max_size=8)
)
def test_apply_is_probability(mapping: Calibrator, rows: list[Mapping[str, float | None]]) -> None:
    """numpy and plain Python agree to 1e-9, with missing scores, absent columns and scores on the knots."""
    if isinstance(mapping, Isotonic):
        rows = [*rows, *({"a": x} for x, _ in mapping.knots)]
    names = {name for row in rows for name in row}
    columns = {m: np.array([np.nan if row.get(m) is None else row[m] for row in rows], np.float64) for m in names}
    probabilities = apply(mapping, columns, n=len(rows))
    assert probabilities.shape == (len(rows),)
    assert probabilities == pytest.approx([mapping.probability(row) for row in rows], abs=1e-9, rel=0)


def test_apply_needs_a_length() -> None:
    """Without columns the number of rows must be given; columns must agree."""
    assert apply(Constant(0.5), {}, n=3).tolist() == [0.5] * 3
    with pytest.raises(ValueError, match="columns of one length"):
        apply(Constant(0.5), {})
    with pytest.raises(ValueError, match="columns of one length"):
        apply(Constant(0.5), {"a": np.zeros(2), "b": np.zeros(3)})


@pytest.mark.parametrize("missing", [0.0, 0.3])
def test_fit_is_a_scikit_learn_fit(missing: float) -> None:
    """The whole path, from transform and standardised columns with indicators to the mapping, is the reference's optimum."""
    from sklearn.linear_model import LogisticRegression

    scores, y = simulated(400, judges=2, missing=missing)
    mapping = fit(scores, y, candidates=("logistic",)).mapping
    assert isinstance(mapping, Logistic)
    columns = []
    for feature in mapping.features:
        t = transformed(feature.transform, scores[feature.judge])
        assert feature.fill == pytest.approx(np.nanmean(t))
        filled = np.where(np.isnan(t), feature.fill, t) - feature.fill
        columns.append(filled / filled.std())
        if missing:
            columns.append(np.isnan(t).astype(np.float64))
    distances = []
    for ridge in (10.0, 1.0, 0.1):
        model = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=1000).fit(np.column_stack(columns), y)
        reference = model.predict_proba(np.column_stack(columns))[:, 1]
        distances.append(np.abs(reference - apply(mapping, scores)).max())
    assert min(distances) < 1e-6 < max(distances)


def test_isotonic_is_scikit_learn_smoothed() -> None:
    """The blocks are the reference's, ties pooled; the one row more a block moves P by at most 1 / (rows + 1)."""
    from sklearn.isotonic import IsotonicRegression

    rng = np.random.default_rng(1)
    s = rng.integers(0, 50, 2000) / 50
    y = (rng.random(2000) < np.where(s < 0.5, 0.1, 0.4 + 0.6 * s)).astype(np.float64)
    fitted = fit({"a": s}, y)
    assert fitted.method == "isotonic"
    reference = IsotonicRegression().fit(s, y).predict(s)
    rows = np.array([np.sum(reference == p) for p in reference])
    assert np.all(np.abs(apply(fitted.mapping, {"a": s}) - reference) <= 1 / (rows + 1) + 1e-12)


@given(st.lists(st.tuples(shares, st.sampled_from([0.0, 1.0, 0.5])), min_size=4, max_size=80), st.integers(0, 9))
@settings(deadline=None)
def test_isotonic_never_reaches_the_ends(values: list[tuple[float, float]], seed: int) -> None:
    """P is monotone and strictly inside (0, 1), for any scores and qualities."""
    s, y = np.array(values).T
    mapping = fit({"a": s}, y, seed=seed, candidates=("isotonic",)).mapping
    p = apply(mapping, {"a": np.linspace(0, 1, 200)})
    assert np.all((p > 0) & (p < 1))
    assert np.all(np.diff(p) >= -1e-12)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_calibration_mends_an_overconfident_score(seed: int, missing: float) -> None:
    """On rows not seen in fitting, ECE and log-loss fall, and ECE comes near what perfect probabilities would show."""
    scores, y = simulated(4000, seed=seed, missing=missing)
    here = ~np.isnan(scores["judge0"])
    half = np.arange(4000) < 2000
    fitted = fit({"judge0": scores["judge0"][half]}, y[half], seed=seed)
    test = ~half & here
    raw = scores["judge0"][test]
    p = apply(fitted.mapping, {"judge0": raw})
    before, after, floor = ece(raw, y[test]), ece(p, y[test]), ece_by_chance(p, seed=0)
    assert before is not None
    assert after is not None
    assert floor is not None
    assert after < before / 2
    assert after < floor + 0.02
    assert log_loss(p, y[test]) < log_loss(raw, y[test])  # type: ignore[operator]
    assert auroc(p, y[test]) == pytest.approx(auroc(raw, y[test]), abs=0.005)


def test_more_judges_tell_more() -> None:
    """Two scores give a lower log-loss than each alone, and a missing one is not read as 0."""
    scores, y = simulated(3000, judges=2, missing=0.3)
    both = fit(scores, y)
    assert isinstance(both.mapping, Logistic)
    for name, column in scores.items():
        assert both.log_loss_cv["logistic"] < min(fit({name: column}, y).log_loss_cv.values())
    zero, none = (both.mapping.probability({"judge0": s, "judge1": 0.9}) for s in (0.0, None))
    assert zero < none
    where = np.isnan(scores["judge0"]) & np.isnan(scores["judge1"])
    assert both.mapping.probability({}) == pytest.approx(y[where].mean(), abs=0.08)


def test_missing_can_be_the_evidence() -> None:
    """A score that is constant where present is still informative where it is missing."""
    rng = np.random.default_rng(0)
    absent = rng.random(500) < 0.5
    y = (rng.random(500) < np.where(absent, 0.2, 0.9)).astype(np.float64)
    mapping = fit({"a": np.where(absent, np.nan, 1.0)}, y).mapping
    assert mapping.probability({"a": None}) == pytest.approx(0.2, abs=0.07)
    assert mapping.probability({"a": 1.0}) == pytest.approx(0.9, abs=0.07)


def test_an_unseen_missing_score_is_filled_with_the_mean() -> None:
    """None, though none was missing in fitting, is the mean of the transformed scores and no evidence by itself."""
    scores, y = simulated(500, judges=2)
    mapping = fit(scores, y).mapping
    assert isinstance(mapping, Logistic)
    assert mapping.missing == (0.0, 0.0)
    fill, slope = mapping.features[0].fill, mapping.coefficients[0]
    rest = mapping.coefficients[1] * transformed(mapping.features[1].transform, np.array([0.7]))[0]
    z = mapping.intercept + slope * fill + rest
    assert mapping.probability({"judge0": None, "judge1": 0.7}) == pytest.approx(1 / (1 + np.exp(-z)))


def test_out_of_fold_is_out_of_fold() -> None:
    """A score that only memorises noise looks useless out of fold, and the constant is taken."""
    rng = np.random.default_rng(0)
    constants = 0
    for seed in range(20):
        y = (rng.random(300) < 0.7).astype(np.float64)
        fitted = fit({"a": rng.random(300), "b": rng.random(300)}, y, seed=seed)
        assert fitted.log_loss_cv["logistic"] > fitted.log_loss_cv["constant"] - 0.02
        assert log_loss(fitted.out_of_fold, y) == pytest.approx(fitted.log_loss_cv[fitted.method])
        constants += fitted.method == "constant"
    assert constants >= 5


def test_fractional_quality() -> None:
    """Quality between 0 and 1 is fitted as a mean, not rounded."""
    rng = np.random.default_rng(0)
    s = rng.random(1000)
    y = 0.3 + 0.4 * s + rng.uniform(-0.3, 0.3, 1000)
    for candidates in (("logistic",), ("isotonic",)):
        p = apply(fit({"a": s}, y, candidates=candidates).mapping, {"a": s})
        assert np.abs(p - (0.3 + 0.4 * s)).mean() < 0.03


def test_separable_scores_do_not_blow_up() -> None:
    """The ridge bounds the coefficients where a score parts right from wrong perfectly."""
    s = np.concatenate([np.linspace(0, 0.4, 50), np.linspace(0.6, 1, 50)])
    y = np.repeat([0.0, 1.0], 50)
    for scores in ({"a": s}, {"a": s, "b": s}, {"agrees:small": y}):
        mapping = fit(scores, y, candidates=("logistic",)).mapping
        assert isinstance(mapping, Logistic)
        assert np.abs(mapping.coefficients).max() < 50
        assert np.all(np.diff(apply(mapping, dict.fromkeys(scores, np.linspace(0, 1, 50)))) >= 0)


awkward = st.one_of(st.just(np.nan), st.sampled_from([0.0, 1.0, 1 - 1e-9, 1e-300]), shares)


@given(st.data(), st.integers(0, 50), st.integers(0, 3), st.integers(2, 7))
@settings(deadline=None, max_examples=150)
def test_any_small_table(data: st.DataObject, n: int, judges: int, folds: int) -> None:
    """Whatever a table of 0 to 50 rows holds, the fit gives finite numbers, P in (0, 1) and a mapping that survives JSON."""
    column = st.one_of(awkward.map(lambda v: [v] * n), st.lists(awkward, min_size=n, max_size=n))
    scores = {f"j{i}": np.array(data.draw(column), np.float64) for i in range(judges)}
    quality = st.sampled_from([(0.0,), (1.0,), (0.0, 1.0), (0.0, 0.5, 1.0)])
    y = np.array(data.draw(st.lists(st.sampled_from(data.draw(quality)), min_size=n, max_size=n)), np.float64)
    fitted = fit(scores, y, folds=folds)
    assert fitted.n == n == len(fitted.out_of_fold)
    assert np.all((fitted.out_of_fold > 0) & (fitted.out_of_fold < 1))
    p = apply(fitted.mapping, scores, n=n)
    assert np.all((p > 0) & (p < 1))
    assert 0 < fitted.mapping.probability(dict.fromkeys(scores)) < 1
    assert all(np.isfinite(v) for v in fitted.log_loss_cv.values())


def test_a_raw_score_of_0_or_1_is_no_certainty() -> None:
    """A confidence that is used without a calibration stays within (0, 1), too."""
    scores = np.array([np.nan] * 9 + [0.0] + [np.nan] * 2)
    fitted = fit({"a": scores}, np.array([0.0] * 10 + [1.0] * 2), candidates=("raw",))
    assert fitted.method == "raw"
    for score in (0.0, 1.0):
        assert 0 < fitted.mapping.probability({"a": score}) < 1
    assert np.all((fitted.out_of_fold > 0) & (fitted.out_of_fold < 1))


@pytest.mark.parametrize(
    ("scores", "correct"),
    [
        ([], []),
        ([0.3], [1]),
        ([0.3, 0.9], [0, 1]),
        ([0.1, 0.2, 0.3, 0.9], [1, 1, 1, 1]),
        ([0.1, 0.2, 0.3, 0.9], [0, 0, 0, 0]),
        ([0.5] * 40, [0, 1] * 20),
        ([np.nan] * 40, [0, 1] * 20),
        ([0.5] * 20 + [0.5 + 1e-9] * 20, [0] * 20 + [1] * 20),
        (list(np.linspace(0, 1, 40)), [0] + [1] * 39),
    ],
)
def test_nothing_to_learn_is_a_constant(scores: list[float], correct: list[float]) -> None:
    """No rows, one class, one row of a class, a constant or missing score: (correct + 0.5) / (n + 1)."""
    fitted = fit({"a": np.array(scores)}, np.array(correct, np.float64))
    assert fitted.method == "constant"
    assert fitted.mapping == Constant((sum(correct) + 0.5) / (len(correct) + 1))


def test_no_scores_at_all() -> None:
    """A tier whose judges only veto has the share of right answers as its probability."""
    fitted = fit({}, np.array([0.0, 1.0, 1.0, 1.0]))
    assert fitted.mapping == Constant(0.7)


def test_constant_columns_are_dropped() -> None:
    """A column that says nothing does not appear in the mapping."""
    scores, y = simulated(300)
    fitted = fit({**scores, "flat": np.full(300, 0.5), "absent": np.full(300, np.nan)}, y)
    assert fitted.log_loss_cv == fit(scores, y).log_loss_cv
    assert fitted.mapping == fit(scores, y).mapping


def test_the_simpler_wins_where_both_fit() -> None:
    """Isotonic is taken only where it is clearly better: a step, not a logistic curve."""
    rng = np.random.default_rng(0)
    s = rng.random(2000)
    curve = (rng.random(2000) < 1 / (1 + np.exp(2 - 4 * s))).astype(np.float64)
    tier = (rng.random(2000) < np.where(np.abs(s - 0.6) < 0.2, 0.5, np.where(s > 0.6, 0.98, 0.02))).astype(np.float64)
    assert fit({"a": s}, curve).method == "logistic"
    fitted = fit({"a": s}, tier)
    assert fitted.method == "isotonic"
    assert fitted.log_loss_cv["isotonic"] < fitted.log_loss_cv["logistic"]


def test_rows_simulated_from_the_same_seed() -> None:
    """Folds do not follow scores that come from the same seed: the isotonic fit beats the true curve only by luck."""
    excess = []
    for seed in range(20):
        s = np.random.default_rng(seed).random(500)
        p = 1 / (1 + np.exp(2 - 4 * s))
        y = (np.random.default_rng(seed + 100).random(500) < p).astype(np.float64)
        excess.append(fit({"a": s}, y, seed=seed).log_loss_cv["isotonic"] - losses(p, y).mean())
    assert np.mean(excess) > 0


def test_the_seed_decides() -> None:
    """The same seed gives the same fit, another seed other folds."""
    scores, y = simulated(300)
    a, b, c = (fit(scores, y, seed=seed) for seed in (1, 1, 2))
    assert a.mapping == b.mapping
    assert np.array_equal(a.out_of_fold, b.out_of_fold)
    assert not np.array_equal(a.out_of_fold, c.out_of_fold)


def test_gain_of_evidence_and_of_noise() -> None:
    """A second judge that knows more is worth adding, a coin is not."""
    scores, y = simulated(1500, judges=2)
    assert gain({"judge0": scores["judge0"]}, {"judge1": scores["judge1"]}, y).is_significant
    rng = np.random.default_rng(0)
    coins = [gain(scores, {"coin": rng.integers(0, 2, 1500).astype(np.float64)}, y, seed) for seed in range(10)]
    assert sum(coin.is_significant for coin in coins) <= 2
    assert all(abs(coin.mean) < 0.01 for coin in coins)
    assert gain({}, scores, y).is_significant
    assert not gain({}, {}, np.zeros(0)).is_significant
    with pytest.raises(ValueError, match="in scores and in extra: judge0"):
        gain(scores, {"judge0": y}, y)


@pytest.mark.parametrize(
    ("scores", "correct", "words"),
    [
        ({"a": np.zeros(2)}, np.zeros(3), "a: expected 3 numbers"),
        ({"a": np.zeros((3, 1))}, np.zeros(3), "a: expected 3 numbers"),
        ({"a": np.array([0.1, 1.1])}, np.zeros(2), "a: a value is outside"),
        ({"a": np.array([0.1, np.inf])}, np.zeros(2), "a: a value is outside"),
        ({}, np.array([0.0, np.nan]), "correct: a value is outside"),
        ({}, np.array([0.0, -1.0]), "correct: a value is outside"),
    ],
)
def test_bad_tables_are_errors(scores: dict[str, Array], correct: Array, words: str) -> None:
    """A wrong shape or value is a ValueError that names the column."""
    with pytest.raises(ValueError, match=words):
        fit(scores, correct)


def test_bad_settings_are_errors() -> None:
    """An unknown candidate and a single fold are refused."""
    with pytest.raises(ValueError, match="candidates among"):
        fit({}, np.zeros(3), candidates=("forest",))
    with pytest.raises(ValueError, match="folds must be 2"):
        fit({}, np.zeros(3), folds=1)


def test_fitting_is_fast() -> None:
    """A fit of 1,000 rows and three scores takes 20 ms: seconds would mean that Newton's steps do not end."""
    scores, y = simulated(1000, judges=3, missing=0.2)
    fit(scores, y)
    start = perf_counter()
    for _ in range(5):
        fit(scores, y)
    assert (perf_counter() - start) / 5 < 2


def test_a_confidence_that_is_honest_already_is_mostly_left_alone() -> None:
    """On few rows a fit adds noise: the raw score is kept in most draws, and does less harm on held-out rows than a fit."""
    raw_count, harm, harm_of_fits = 0, [], []
    for seed in range(12):
        rng = np.random.default_rng((seed, 5))
        scores, held = rng.beta(5, 1, 90), rng.beta(5, 1, 5000)
        y, right = (rng.random(90) < scores).astype(float), (rng.random(5000) < held).astype(float)

        def excess(fitted: Fitted, held: np.ndarray = held, right: np.ndarray = right) -> float:
            after = apply(fitted.mapping, {"logprob": held})
            return float(((after - right) ** 2 - (held - right) ** 2).mean())

        chosen = fit({"logprob": scores}, y, seed=seed)
        raw_count += chosen.method == "raw"
        harm.append(excess(chosen))
        harm_of_fits.append(excess(fit({"logprob": scores}, y, seed=seed, candidates=("logistic", "isotonic"))))
    assert raw_count >= 7
    assert np.mean(harm) < np.mean(harm_of_fits)


def test_an_overconfident_score_is_still_calibrated() -> None:
    """Where the fit clearly helps, it is used."""
    rng = np.random.default_rng(6)
    right = rng.random(120) < 0.6
    scores = np.where(right, 0.995, 0.97) + 0.004 * rng.random(120)
    fitted = fit({"logprob": scores}, right.astype(float))
    assert fitted.method in ("logistic", "isotonic")
    assert fitted.log_loss_cv[fitted.method] < fitted.log_loss_cv["raw"]


@pytest.mark.parametrize("judges", [1, 2])
def test_a_mapping_that_leaves_the_confidence_alone_is_called_raw(judges: int) -> None:
    """With one score and with several; a fitted one has its own method."""
    rng = np.random.default_rng(judges)
    y = (rng.random(300) < 0.6).astype(float)
    scores = {f"judge{i}": np.clip(0.3 + 0.4 * y + 0.2 * rng.normal(size=300), 0.01, 0.99) for i in range(judges)}
    assert method_of(fit(scores, y, candidates=("raw",)).mapping) == "raw"
    assert method_of(fit(scores, y, candidates=("logistic",)).mapping) == "logistic"


def test_a_small_gain_may_not_be_enough() -> None:
    """With more standard errors asked of it the raw confidence stays; an overconfident one is calibrated all the same."""
    rng = np.random.default_rng(11)
    chosen = dict.fromkeys((1.0, SURE), 0)
    for _ in range(40):
        p = rng.beta(8, 2, 300)
        y = (rng.random(300) < p).astype(float)
        for errors in chosen:
            chosen[errors] += method_of(fit({"judge": p}, y, errors=errors).mapping) != "raw"
    assert chosen[SURE] <= min(chosen[1.0], 4)
    wrong = (rng.random(300) < 0.4).astype(float)
    assert method_of(fit({"judge": rng.uniform(0.9, 0.99, 300)}, wrong, errors=SURE).mapping) != "raw"
