"""The prompt-only router: its features, its regression against scikit-learn's, and what it learns."""

import os
import re
import subprocess
import sys
import zlib
from collections import Counter
from itertools import pairwise
from math import log, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evals.replay import router
from evals.replay.router import DIMENSIONS, RIDGES, PromptRouter, design, features, kernel_logistic

TEXTS = ["What is 2 plus 3?", "write a poem about rain", "plus plus", "", "été, naïve \ud800 \x00"]


def grams(text: str) -> list[str]:
    """The n-grams, spelt out."""
    text = text.lower()
    words = "".join(c if c.isalnum() or c == "_" else " " for c in text).split()
    pairs = [f"{words[i]} {words[i + 1]}" for i in range(len(words) - 1)]
    return words + pairs + [text[i : i + size] for size in (3, 4, 5) for i in range(len(text)) if i + size <= len(text)]


def test_features_count_every_gram() -> None:
    """Words, pairs of words and 3- to 5-grams, regardless of case; each is counted as often as it occurs."""
    counts = features("Ab cd ab")
    assert sum(counts.values()) == len(grams("ab cd ab")) == 3 + 2 + 6 + 5 + 4
    assert features("AB CD ab") == counts
    assert features("ab") == {next(iter(features("ab"))): 1.0}
    assert max(features("ab ab ab").values()) >= 3
    assert features("") == {}
    assert all(0 <= at < DIMENSIONS for at in counts)


@given(st.text(st.characters(max_codepoint=127)) | st.text() | st.text("ab "))
def test_features_are_counts_of_hashed_grams(text: str) -> None:
    """Whether or not the text is ASCII, columns and counts are those of hashing gram by gram with zlib."""
    words = re.findall(r"\w+", text.lower())
    pairs = [f"{a} {b}" for a, b in pairwise(words)]
    windows = [text.lower()[i : i + size] for size in (3, 4, 5) for i in range(len(text.lower()) - size + 1)]
    assert features(text) == Counter(
        zlib.crc32(gram.encode("utf-8", "replace")) % DIMENSIONS for gram in [*words, *pairs, *windows]
    )


def test_long_texts_are_cut() -> None:
    """Text after the first 20,000 characters is not read."""
    assert features("a" * 20_000 + " zebra") == features("a" * 20_000)


def test_tf_idf_is_the_textbook_one() -> None:
    """(1 + ln tf) * (ln((1 + n) / (1 + df)) + 1), rows of length 1; compared entry by entry with a plain computation."""
    counted = [features(t) for t in TEXTS]
    table, idf = design(TEXTS)
    assert table.shape == (len(TEXTS), DIMENSIONS)
    for counts, row in zip(counted, table, strict=True):
        weight = {}
        for at, tf in counts.items():
            df = sum(at in other for other in counted)
            weight[at] = (1 + log(tf)) * (log((1 + len(TEXTS)) / (1 + df)) + 1)
            assert idf[at] == pytest.approx(log((1 + len(TEXTS)) / (1 + df)) + 1)
        length = sqrt(sum(w * w for w in weight.values()))
        assert set(np.flatnonzero(row)) == set(weight)
        for at, w in weight.items():
            assert row[at] == pytest.approx(w / length, rel=1e-5)
    assert not table[TEXTS.index("")].any()


def test_new_texts_are_weighed_as_the_old_ones_were() -> None:
    """With the frequencies given, a row does not depend on the texts beside it."""
    _, idf = design(TEXTS)
    both, used = design(["plus plus", "something else"], idf)
    alone, _ = design(["plus plus"], idf)
    assert used is idf
    assert both[0].tolist() == alone[0].tolist()
    assert alone[0] == pytest.approx(design(TEXTS)[0][2], abs=1e-6)


def separable(n: int, seed: int) -> tuple[list[str], np.ndarray]:
    """Prompts about two topics, and whether they are about the first."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.5).astype(float)
    words = [["poem", "verse", "rhyme", "ode", "song"], ["sum", "plus", "minus", "times", "root"]]
    return [" ".join(rng.choice(words[int(t)], 4)) for t in target], target


@pytest.mark.parametrize("ridge", RIDGES)
@pytest.mark.parametrize("noise", [0.0, 0.3])
def test_the_regression_is_scikit_learns(ridge: float, noise: float) -> None:
    """The same penalty gives the same probabilities, weights and intercept as LogisticRegression on the features."""
    from sklearn.linear_model import LogisticRegression

    texts, target = separable(60, 1)
    target = np.where(np.random.default_rng(2).random(60) < noise, 1 - target, target)
    table, _ = design(texts)
    x = table[:, table.any(axis=0)].astype(np.float64)
    a, b = kernel_logistic(x @ x.T, target, ridge)
    reference = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=10_000).fit(x, target)
    assert b == pytest.approx(reference.intercept_[0], abs=1e-4)
    assert x.T @ a == pytest.approx(reference.coef_[0], abs=1e-4)
    p = 1 / (1 + np.exp(-(x @ x.T @ a + b)))
    assert p == pytest.approx(reference.predict_proba(x)[:, 1], abs=1e-4)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.integers(3, 25), st.sampled_from(RIDGES))
def test_the_regression_is_where_the_gradient_vanishes(seed: int, n: int, ridge: float) -> None:
    """Also for fractional qualities: sums of residuals are 0, and each dual weight is its residual over the ridge."""
    rng = np.random.default_rng(seed)
    x, target = rng.normal(size=(n, 3)), rng.uniform(0.05, 0.95, n)
    a, b = kernel_logistic(x @ x.T, target, ridge)
    residual = target - 1 / (1 + np.exp(-(x @ x.T @ a + b)))
    assert residual.sum() == pytest.approx(0.0, abs=1e-6)
    assert ridge * (x.T @ a) == pytest.approx(x.T @ residual, abs=1e-6)


def test_a_separable_topic_is_learned() -> None:
    """New prompts of known topics are separated, and so are the fit rows when they are held out."""
    texts, target = separable(120, 3)
    fresh, truth = separable(60, 4)
    model = PromptRouter.fit(texts, target, 0)
    assert ((model.probability(fresh) > 0.5) == truth).mean() > 0.95
    assert ((model.out_of_fold > 0.5) == target).mean() > 0.95
    assert model.ridge in RIDGES


def test_out_of_fold_has_not_seen_its_row() -> None:
    """On labels that are noise, what was fitted looks clever on its own rows and is worth nothing out of fold."""
    rng = np.random.default_rng(5)
    texts = [" ".join(rng.choice(list("abcdefghijklmnop"), 12)) for _ in range(120)]
    target = (rng.random(120) < 0.5).astype(float)
    model = PromptRouter.fit(texts, target, 0)
    assert 0.35 < ((model.out_of_fold > 0.5) == target).mean() < 0.65
    assert model.ridge == max(RIDGES)


def test_many_rows_are_thinned(monkeypatch: pytest.MonkeyPatch) -> None:
    """At most MOST_ROWS take part, and asking about many texts at once changes nothing."""
    texts, target = separable(90, 6)
    monkeypatch.setattr(router, "MOST_ROWS", 50)
    model = PromptRouter.fit(texts, target, 0)
    assert len(model.out_of_fold) == 50
    whole = model.probability(texts)
    monkeypatch.setattr(router, "CHUNK", 7)
    assert model.probability(texts).tolist() == pytest.approx(whole.tolist(), abs=1e-12)


PROGRAM = """
import numpy as np
from evals.replay.router import PromptRouter
texts = [("a poem about " if i % 2 else "the sum of ") + str(i) for i in range(20)]
model = PromptRouter.fit(texts, np.arange(20) % 2, 3)
print(model.ridge, model.intercept, model.probability(texts[:5]).tolist())
"""


def test_every_process_learns_the_same() -> None:
    """Hashes do not depend on the process: with other seeds of Python's hashing the figures are the same."""
    meaning = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": ".", "OPENBLAS_NUM_THREADS": "1"},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(meaning) == 1


@pytest.mark.parametrize("right", [0.0, 1.0])
@pytest.mark.parametrize("n", [1, 2, 7])
def test_one_class_only(right: float, n: int) -> None:
    """Where every answer was right, or wrong, that is what is expected of any prompt; no number overflows."""
    model = PromptRouter.fit([f"question {i}" for i in range(n)], np.full(n, right), 0)
    p = model.probability(["question 1", "", "something else"])
    assert abs(p - right).max() < 0.05
    assert np.isfinite([model.intercept, *model.weights]).all()


def test_two_rows_and_empty_texts() -> None:
    """Two rows of both kinds, or texts without a character, still give probabilities; the empty ones their share."""
    model = PromptRouter.fit(["a poem", "a sum"], np.array([0.0, 1.0]), 0)
    assert ((model.probability(["a poem", "a sum", ""]) >= 0) & (model.probability(["a poem", "a sum", ""]) <= 1)).all()
    empty = PromptRouter.fit([""] * 10, np.array([1.0] * 3 + [0.0] * 7), 0)
    assert empty.probability(["", ""]) == pytest.approx([0.3, 0.3], abs=1e-3)
    assert empty.probability([]).shape == (0,)


def test_surrogates_and_controls_are_text() -> None:
    """What no encoder takes is still a prompt."""
    model = PromptRouter.fit(TEXTS, np.array([1.0, 0.0, 1.0, 0.0, 1.0]), 0)
    assert np.isfinite(model.probability(TEXTS)).all()
