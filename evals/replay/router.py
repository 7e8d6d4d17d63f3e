"""A router that sees only the prompt: hashed words and character n-grams, TF-IDF, ridge logistic regression.

It is a baseline: what can be known before anything was answered.
"""

import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from .statistics.regression import logistic

Array = npt.NDArray[np.float64]

DIMENSIONS = 1 << 14
RIDGES = (100.0, 10.0, 1.0, 0.1)
FOLDS = 5
MOST_ROWS = 2000  # the kernel has the square of it in entries
CHUNK = 1000  # texts at a time; their table takes 64 MB
WINDOWS = (3, 4, 5)  # characters in a gram
_WORD = re.compile(r"\w+")
_SHORT = 1_500  # characters: the counts of such texts are kept, since each baseline reads the same prompts (60 MB at most)


def features(text: str) -> dict[int, float]:
    """Counts of the text's hashed words, pairs of words, and character 3- to 5-grams, by index under DIMENSIONS."""
    columns, counts = _counts(text)
    return dict(zip(columns.tolist(), counts.astype(np.float64).tolist(), strict=True))


def _counts(text: str) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    """The ascending indices of `features`, and how often each was counted."""
    return _counts_of_short(text) if len(text) <= _SHORT else _count(text)


def _count(text: str) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.uint16]]:
    lower = text.lower()[:20_000]
    words = _WORD.findall(lower)
    grams = [*words, *(f"{a} {b}" for a, b in pairwise(words))]
    hashes = []
    if lower.isascii():
        hashes = _window_hashes(lower.encode())
    else:
        grams += [lower[i : i + size] for size in WINDOWS for i in range(len(lower) - size + 1)]
    # crc32 is the same on every machine and in every process, unlike hash().
    hashes.append(np.array([zlib.crc32(gram.encode("utf-8", "replace")) for gram in grams], dtype=np.uint32))
    counts = np.bincount(np.concatenate(hashes) % DIMENSIONS, minlength=DIMENSIONS)
    columns = np.flatnonzero(counts)
    return columns.astype(np.uint16), counts[columns].astype(np.uint16)  # of 20,000 characters no count is over 60,000


_counts_of_short = lru_cache(maxsize=4096)(_count)


def _crc_table() -> npt.NDArray[np.uint32]:
    """(256,): what each byte does to a CRC-32."""
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0xEDB88320), table >> 1)
    return table


CRC_TABLE = _crc_table()


def _window_hashes(raw: bytes) -> list[npt.NDArray[np.uint32]]:
    """``zlib.crc32`` of every window of ``WINDOWS`` bytes, one array per size, computed for all places at once.

    Most of a router's time goes into these hashes. Longer windows continue the CRC of shorter ones.
    """
    data = np.frombuffer(raw, dtype=np.uint8)
    state = np.full(len(data), 0xFFFFFFFF, dtype=np.uint32)
    hashes = []
    for size in range(1, max(WINDOWS) + 1):
        following = data[size - 1 :]
        state = state[: len(following)]
        state = CRC_TABLE[(state ^ following) & 0xFF] ^ (state >> 8)
        if size in WINDOWS:
            hashes.append(~state)
    return hashes


def design(texts: Sequence[str], idf: Array | None = None) -> tuple[npt.NDArray[np.float32], Array]:
    """(n, DIMENSIONS) TF-IDF rows of length 1, and the inverse document frequencies used (those of ``texts`` by default)."""
    table = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    for row, text in enumerate(texts):
        columns, counts = _counts(text)
        table[row, columns] = 1.0 + np.log(counts.astype(np.float64))
    if idf is None:
        idf = np.log((1.0 + len(texts)) / (1.0 + (table > 0).sum(axis=0))) + 1.0
    table *= idf.astype(np.float32)
    norms = np.linalg.norm(table, axis=1, keepdims=True)
    return table / np.maximum(norms, 1e-12), idf


def kernel_logistic(kernel: Array, target: Array, ridge: float) -> tuple[Array, float]:
    """Dual weights a and intercept b that minimise sum of log-losses of sigmoid(K a + b) + ridge / 2 * a' K a.

    Newton's method; with K = X X' this is ridge logistic regression with weights X' a, the intercept unpenalised.
    """
    n = len(target)
    diagonal = np.diag_indices(n)
    a, b = np.zeros(n), float(np.log((target.mean() + 1e-6) / (1 - target.mean() + 1e-6)))
    for _ in range(30):
        logit = kernel @ a + b
        p = logistic(logit)
        weight = np.maximum(p * (1 - p), 1e-6)
        # Solve the weighted least squares problem of the working response (iteratively reweighted).
        response = logit + (target - p) / weight
        system = kernel.copy()
        system[diagonal] += ridge / weight
        both = np.linalg.solve(system, np.stack([response, np.ones(n)], axis=1))
        new_b = float(both[:, 0].sum() / both[:, 1].sum())
        new_a = both[:, 0] - new_b * both[:, 1]
        moved = max(float(np.abs(new_a - a).max()), abs(new_b - b))
        a, b = new_a, new_b
        if moved < 1e-8:
            break
    return a, b


def _fitted(kernel: Array, y: Array, fold: npt.NDArray[np.int64]) -> tuple[Array, float, float, Array]:
    """Dual weights, intercept, ridge, and what was predicted out of each fold; the ridge by cross-validated log-loss."""
    best: tuple[float, float, Array] | None = None
    for ridge in RIDGES:
        out = np.full(len(y), float(y.mean()))
        for f in range(int(fold.max()) + 1 if len(y) > 1 else 0):
            training, held_out = fold != f, fold == f
            if training.any():
                a, b = kernel_logistic(kernel[np.ix_(training, training)], y[training], ridge)
                out[held_out] = 1 / (1 + np.exp(-(kernel[np.ix_(held_out, training)] @ a + b)))
        bounded = np.clip(out, 1e-9, 1 - 1e-9)
        loss = float(-(y * np.log(bounded) + (1 - y) * np.log(1 - bounded)).mean())
        if best is None or loss < best[0]:
            best = loss, ridge, out
    assert best is not None
    a, b = kernel_logistic(kernel, y, best[1])
    return a, b, best[1], best[2]


@dataclass(frozen=True, slots=True, eq=False)
class PromptRouter:
    """P(an answer will be right) from the prompt's text. ``out_of_fold`` (n,): on the rows that it was fitted on."""

    weights: Array
    intercept: float
    idf: Array
    ridge: float
    out_of_fold: Array

    @classmethod
    def fit(cls, texts: Sequence[str], target: Array, seed: int) -> "PromptRouter":
        """Learns from n texts (at most MOST_ROWS) and (n,) qualities in [0, 1]; the ridge by cross-validated log-loss."""
        return cls.fit_all(texts, [target], seed)[0]

    @classmethod
    def fit_all(cls, texts: Sequence[str], targets: Sequence[Array], seed: int) -> "list[PromptRouter]":
        """One router for each of several qualities of the same texts, which are read once."""
        rng = np.random.default_rng(seed)
        sample = np.sort(rng.permutation(len(texts))[:MOST_ROWS])
        table, idf = design([texts[i] for i in sample])
        kernel = (table @ table.T).astype(np.float64)
        fold = rng.permutation(len(sample)) % max(2, min(FOLDS, len(sample)))
        routers = []
        for target in targets:
            a, b, ridge, out = _fitted(kernel, np.asarray(target, dtype=np.float64)[sample], fold)
            routers.append(cls(table.T.astype(np.float64) @ a, b, idf, ridge, out))
        return routers

    def probability(self, texts: Sequence[str]) -> Array:
        """(m,): P(right) for each text."""
        return probabilities([self], texts)[:, 0]


def probabilities(routers: "Sequence[PromptRouter]", texts: Sequence[str]) -> Array:
    """(m, routers): P(right) for each text, by routers that were fitted together."""
    weights = np.stack([router.weights for router in routers], axis=1)
    intercepts = np.array([router.intercept for router in routers])
    logits = [design(texts[i : i + CHUNK], routers[0].idf)[0] @ weights for i in range(0, len(texts), CHUNK)]
    return np.asarray(1 / (1 + np.exp(-(np.concatenate([np.zeros((0, len(routers))), *logits]) + intercepts))))
