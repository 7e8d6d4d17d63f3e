"""The predictor of a tier by its prompts: it finds what prompts tell, says when they tell nothing, and knows its range."""

import importlib.util
import json

import numpy as np
import pytest

from cascade.policy.calibration_file import MAX_BYTES
from cascade.policy.predictor import MOST_WEIGHTS, Predictor, from_json
from evals.recording import Example
from evals.replay.prompt_predictor import LEAST_ROWS, PromptTable, most_weights_each, prompt_table, range_of
from evals.replay.statistics.metrics import losses
from judges import Prompt
from judges.prompt import features

TOPICS = ("capital of", "square root of", "translate into French:", "who wrote")
NAMES = ("Ostia", "Lima", "Quito", "Perth", "Turin", "Bergen", "Natal", "Cork", "Delhi", "Fez", "Kobe", "Lagos")


def recording(n: int, seed: int, informative: bool = True) -> tuple[PromptTable, np.ndarray]:
    """Prompts of four topics, two of which are hard where the prompt tells; the quality of a tier's answers."""
    rng = np.random.default_rng(seed)
    topic = rng.integers(0, len(TOPICS), n)
    texts = [f"{TOPICS[t]} {rng.choice(NAMES)} and {rng.choice(NAMES)}?" for t in topic]
    p = np.where(topic < 2, 0.9, 0.3) if informative else np.full(n, 0.6)
    examples = [Example(f"e{i}", text, {}) for i, text in enumerate(texts)]
    return prompt_table(examples), (rng.random(n) < p).astype(float)


def test_what_the_prompt_tells_is_found() -> None:
    """On rows it has not seen the predictor is much better than a constant, and what is stored says the same."""
    table, quality = recording(400, 1)
    rows = np.arange(120)
    scores = table.fit(quality, rows, 0)
    assert scores.predictor is not None
    has_value = ~np.isnan(scores.probability[120:])
    assert has_value.mean() > 0.9  # the range is that of all fit rows but one in a hundred
    unseen, p = quality[120:][has_value], scores.probability[120:][has_value]
    assert losses(p, unseen).mean() < losses(np.full(len(unseen), quality[rows].mean()), unseen).mean() - 0.1
    again = from_json(scores.predictor.to_json())
    assert [q for f in table.features[120:] if (q := again.probability(f)) is not None] == p.tolist()


@pytest.mark.parametrize("seed", range(5))
def test_prompts_that_tell_nothing_are_not_used(seed: int) -> None:
    """Where quality does not depend on the prompt, cross-validation seldom finds a gain, and then a small one."""
    table, quality = recording(200, seed, informative=False)
    scores = table.fit(quality, np.arange(200), 0)
    if scores.predictor is not None:
        assert float(np.ptp(scores.probability)) < 0.6
    else:
        assert "say nothing that helps" in scores.note


def test_few_rows_have_no_predictor_and_the_note_says_why() -> None:
    """A recording of 50 rows has too few to fit on."""
    table, quality = recording(50, 3)
    scores = table.fit(quality, np.arange(LEAST_ROWS - 1), 0)
    assert scores.predictor is None
    assert np.isnan(scores.probability).all()
    assert f"at least {LEAST_ROWS}" in scores.note


def test_few_mistakes_have_no_predictor() -> None:
    """With 15 wrong answers a predictor of many weights learns their words by heart."""
    table, quality = recording(400, 1)
    few = np.ones(400)
    few[np.flatnonzero(quality == 0.0)[:15]] = 0.0
    scores = table.fit(few, np.arange(400), 0)
    assert scores.predictor is None
    assert "with 20 right and 20 wrong" in scores.note


def test_prompts_unlike_the_recording_are_out_of_range() -> None:
    """Nonsense, another language and another length have no probability."""
    table, quality = recording(200, 4)
    predictor = table.fit(quality, np.arange(200), 0).predictor
    assert predictor is not None
    for text in (
        "xq zvw kkjh qpo wlm?",
        "Welche Stadt liegt am Meer?",
        "Столица страны?",
        "capital of Lima and Cork? " * 90,
    ):
        assert predictor.probability(features(Prompt.of(text))) is None, text


def test_a_stored_predictor_is_small() -> None:
    """A predictor of long and different prompts stays far below a megabyte."""
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghij"), 6)) for _ in range(3000)]
    table = prompt_table([Example(f"e{i}", " ".join(rng.choice(words, 120)), {}) for i in range(300)])
    quality = np.array(["a" in f"{i:b}" or i % 2 == 0 for i in range(300)], dtype=float)
    quality[:150] = 1.0
    scores = table.fit(quality, np.arange(300), 0)
    if scores.predictor is not None:
        assert len(str(scores.predictor.to_json())) < 300_000
    assert len(range_of(table.features, most_weights=100).weights) == 100


@pytest.mark.parametrize("predictors", range(1, 10))
def test_predictors_of_many_tiers_share_the_room(predictors: int) -> None:
    """However many tiers there are, their predictors fit into a calibration file with room for what else is in it."""
    most = most_weights_each(predictors)
    full = Predictor(
        intercept=0.0, weights={i * 97_003: -7 for i in range(most)}, scale=1.0, lengths=(0, 9), scripts=("latin",),
        known_share=0.1,
    )  # fmt: skip
    assert predictors * len(json.dumps(full.to_json())) < 0.6 * MAX_BYTES
    assert most == MOST_WEIGHTS or predictors > 3


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_the_fit_is_that_of_scikit_learn() -> None:
    """The same ridge logistic regression on the same table."""
    from sklearn.linear_model import LogisticRegression

    from evals.replay.router import kernel_logistic

    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(80, 5)), (rng.random(80) < 0.5).astype(float)
    a, b = kernel_logistic(x @ x.T, y, 2.0)
    reference = LogisticRegression(C=0.5, tol=1e-10, max_iter=1000).fit(x, y)
    assert np.allclose(x.T @ a, reference.coef_[0], atol=1e-4)
    assert b == pytest.approx(reference.intercept_[0], abs=1e-4)
