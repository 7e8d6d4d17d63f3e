"""Fits P(a tier is right | the prompt) on the fit rows: ridge logistic regression on hashed n-grams and properties.

The strength of the ridge is chosen by cross-validated log-loss, and the logits are calibrated (Platt 1999) where that lowers
it. What is fitted is a ``cascade.policy.predictor.Predictor``, and every row gets what that object says of it.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from cascade.policy.predictor import MOST_LEVELS, MOST_WEIGHTS, Predictor, with_embedding
from evals.recording import Example
from judges.prompt import NO_TASK, PROPERTIES, SHAPE, EmbeddedFeatures, PromptFeatures, features

from .embedding_fit import fit_embedding
from .router import kernel_logistic
from .statistics.metrics import losses
from .statistics.regression import logistic, ridge_logistic

Array = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]
Ints = npt.NDArray[np.intp]

LEAST_ROWS = 40
"""Fewest fit rows of a predictor, and of them at least ``LEAST_OF_EACH`` right and as many wrong."""
LEAST_OF_EACH = 20
MOST_ROWS = 2000
MOST_IN_ALL = 60_000
"""Weights of all predictors together, about half of the megabyte that a calibration file may have."""
FOLDS = 5
RIDGES = (30.0, 10.0, 3.0, 1.0, 0.3, 0.1)
UNLIKE = 0.02
"""The share of prompts like the fit rows that may be out of range by their words, and as many by the request's shape."""
FEW_ROWS = 80
LEAST_GAIN = 0.5
"""Standard errors by which a predictor's cross-validated log-loss must be better than a constant's."""
_BLOCK = 4096  # columns of the table at a time
_STREAM = 7


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EmbeddingColumns:
    """The embeddings of a recording's prompts.

    Attributes:
        model: The embedding model, as its provider names it.
        vectors: (n, dimensions), as the server gave them; 0 where a prompt is blank.
        usd: (n,), USD of each.
        latency_s: (n,), seconds of each.
    """

    model: str
    vectors: Array
    usd: Array
    latency_s: Array

    def take(self, rows: Rows) -> "EmbeddingColumns":
        """The same for some of the rows."""
        return EmbeddingColumns(
            model=self.model, vectors=self.vectors[rows], usd=self.usd[rows], latency_s=self.latency_s[rows]
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PromptScores:
    """What a predictor says of every row of a recording.

    Attributes:
        predictor: The predictor, fitted on the fit rows; None where it was not kept.
        probability: (n,), P(right): on the fit rows by predictors that have not seen the row; NaN where a prompt is unlike
            the fit rows.
        note: Why there is a predictor, or none.
        embedding_usd: (n,), USD of the embedding that a run asks for where a tier uses the predictor; None: it reads none.
        embedding_s: (n,), its seconds.
    """

    predictor: Predictor | None
    probability: Array
    note: str
    embedding_usd: Array | None = None
    embedding_s: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class PromptTable:
    """The features of a recording's prompts, and the predictors that were fitted on them: of at most ``most_weights``."""

    features: tuple[PromptFeatures, ...]
    embeddings: EmbeddingColumns | None = None
    most_weights: int = MOST_WEIGHTS
    _fitted: dict[tuple[bytes, bytes, int], PromptScores] = field(default_factory=dict, repr=False)

    def fit(self, quality: Array, rows: Rows, seed: int) -> PromptScores:
        """The predictor of a tier.

        Args:
            quality: (n,), the quality of the tier's answers, in [0, 1].
            rows: The rows to fit on.
            seed: The seed of the folds.
        """
        key = (quality[rows].tobytes(), rows.tobytes(), seed)
        if key not in self._fitted:
            scores = _fit(self.features, quality, rows, seed, self.most_weights)
            if self.embeddings is not None and len(rows) >= LEAST_ROWS:
                scores = _with_embeddings(
                    scores, self.features, self.embeddings, quality, rows, seed=seed, most_weights=self.most_weights
                )
            self._fitted[key] = scores
        return self._fitted[key]

    def take(self, rows: Rows) -> "PromptTable":
        """The same for some of the rows."""
        embeddings = None if self.embeddings is None else self.embeddings.take(rows)
        return PromptTable(tuple(self.features[i] for i in rows), embeddings, self.most_weights)


def most_weights_each(predictors: int) -> int:
    """The most weights of each of so many predictors, so that a calibration file has room for all of them."""
    return min(MOST_WEIGHTS, MOST_IN_ALL // max(1, predictors))


def prompt_table(
    examples: Sequence[Example],
    tasks: Sequence[str | None] | None = None,
    embeddings: EmbeddingColumns | None = None,
    *,
    most_weights: int = MOST_WEIGHTS,
) -> PromptTable:
    """The features of the examples' prompts.

    Args:
        examples: The rows.
        tasks: The tasks that callers will name, one for each row; None: callers name none.
        embeddings: The embeddings of the prompts; None: there are none.
        most_weights: The most weights of one predictor.
    """
    names = tasks if tasks is not None else [None] * len(examples)
    every = tuple(features(e.to_prompt(), task) for e, task in zip(examples, names, strict=True))
    return PromptTable(every, embeddings, most_weights)


def _fit(every: Sequence[PromptFeatures], quality: Array, rows: Rows, seed: int, most_weights: int) -> PromptScores:
    unknown = np.full(len(every), np.nan)
    rows = np.asarray(rows, dtype=np.int64)
    y = quality[rows]
    n_right, n_wrong = float(y.sum()), float(len(y) - y.sum())
    if len(rows) < LEAST_ROWS or min(n_right, n_wrong) < LEAST_OF_EACH:
        shortage = f"{len(rows)} fit rows" + (f", {n_right:.0f} right" if len(rows) >= LEAST_ROWS else "")
        note = (
            f"prompts are not looked at: {shortage}; at least {LEAST_ROWS} are needed, with {LEAST_OF_EACH} right and "
            f"{LEAST_OF_EACH} wrong"
        )
        return PromptScores(predictor=None, probability=unknown, note=note)
    rng = np.random.default_rng((seed, _STREAM))
    if len(rows) > MOST_ROWS:
        rows = np.sort(rng.choice(rows, MOST_ROWS, replace=False))
        y = quality[rows]
    shape = required_shape([every[i] for i in rows])
    if "task" not in shape:  # none is named, or nearly each prompt has a task of its own
        every = [_without_task(f) for f in every]
    seen = [every[i] for i in rows]
    table = _Table.of(seen, shape, most_weights)
    kernel = table.kernel()
    # Rows in order of quality, ties shuffled, are dealt to the folds: each gets its share of every quality.
    order = np.lexsort((rng.random(len(y)), y))
    fold = np.empty(len(y), np.intp)
    fold[order] = np.arange(len(y)) % FOLDS
    tried = {ridge: _out_of_fold(kernel, y, fold, ridge) for ridge in RIDGES}
    ridge = min(tried, key=lambda r: float(losses(logistic(tried[r]), y).mean()))
    slope, shift = _platt(tried[ridge], y)
    out = logistic(slope * tried[ridge] + shift)
    constant = np.array([(y[fold != k].sum() + 0.5) / ((fold != k).sum() + 1) for k in range(FOLDS)])[fold]
    difference = losses(constant, y) - losses(out, y)
    error = float(difference.std(ddof=1)) / len(y) ** 0.5
    measured = f"cross-validated log-loss {difference.mean():+.4f} better than a constant, standard error {error:.4f}"
    # A weak one may do harm nowhere: what it decides is kept only where that saves on held-out rows.
    if difference.mean() <= LEAST_GAIN * error:
        note = f"prompts say nothing that helps ({measured}, {len(y)} fit rows)"
        return PromptScores(predictor=None, probability=unknown, note=note)
    a, b = kernel_logistic(kernel, y, ridge)
    predictor = table.predictor(slope * a, slope * b + shift)
    probability = np.array([np.nan if p is None else p for p in map(predictor.probability, every)], dtype=np.float64)
    probability[rows] = out
    note = f"prompts say something: {measured} ({len(y)} fit rows, {len(predictor.weights):,} weights)"
    return PromptScores(predictor=predictor, probability=probability, note=note)


def _without_task(features_of_prompt: PromptFeatures) -> PromptFeatures:
    """The features as of a prompt whose task is not named."""
    return replace(features_of_prompt, properties=(*features_of_prompt.properties[:-1], NO_TASK))


def _with_embeddings(
    scores: PromptScores,
    every: Sequence[PromptFeatures],
    embeddings: EmbeddingColumns,
    quality: Array,
    rows: Rows,
    *,
    seed: int,
    most_weights: int,
) -> PromptScores:
    """The scores with the embedding read as well, where cross-validation on the fit rows shows a gain."""
    rows = np.asarray(rows, dtype=np.int64)
    y = quality[rows]
    if min(float(y.sum()), float(len(y) - y.sum())) < LEAST_OF_EACH:
        return scores
    if len(rows) > MOST_ROWS:
        rows = np.sort(np.random.default_rng((seed, _STREAM)).choice(rows, MOST_ROWS, replace=False))
        y = quality[rows]
    base = scores.predictor if scores.predictor is not None else range_of([every[i] for i in rows], most_weights)
    if not base.reads_task:
        every = [_without_task(plain) for plain in every]
    by_ngrams = None if scores.predictor is None else scores.probability[rows]
    fitted = fit_embedding(embeddings.vectors[rows], y, by_ngrams, seed=seed)
    note = f"{scores.note}; embeddings of {embeddings.model}: {fitted.note}"
    if not fitted.shows_gain:
        return replace(scores, note=note)
    predictor = with_embedding(base, fitted.weights(embeddings.model))
    both = [
        EmbeddedFeatures.of(plain, vector.tolist()) if vector.any() else plain
        for plain, vector in zip(every, embeddings.vectors, strict=True)
    ]
    probability = np.array([np.nan if p is None else p for p in map(predictor.probability, both)], dtype=np.float64)
    probability[rows] = np.where(embeddings.vectors[rows].any(axis=1), fitted.out_of_fold, probability[rows])
    # A run asks for the embedding only where the prompt is in range, and is not blank.
    paid = np.array([predictor.is_in_range(plain) for plain in every]) & embeddings.vectors.any(axis=1)
    return PromptScores(
        predictor=predictor,
        probability=probability,
        note=note,
        embedding_usd=np.where(paid, embeddings.usd, 0.0),
        embedding_s=np.where(paid, embeddings.latency_s, 0.0),
    )


class _Table:
    """The fit rows as a sparse table: row i has ``values[i]`` in the columns ``columns[i]``.

    A column's inverse document frequency scales it in fitting, and is part of its weight afterwards.
    """

    def __init__(
        self, seen: Sequence[PromptFeatures], shape: Sequence[str], vocabulary: Sequence[int], counts: Counter[int]
    ) -> None:
        self.seen, self.shape, self.vocabulary = seen, shape, vocabulary
        place = {hash: i for i, hash in enumerate(vocabulary)}
        self.idf = np.array([np.log((1 + len(seen)) / (1 + counts[hash])) + 1.0 for hash in vocabulary])
        self.columns: list[Ints] = []
        self.values: list[Array] = []
        self.known_share: list[float] = []
        for f in seen:
            grams = sorted(place[hash] for hash in f.ngrams if hash in place)
            properties = [place[hash] for hash in f.properties if hash in place]
            self.columns.append(np.array(grams + properties, dtype=np.intp))
            scale = [len(f.ngrams) ** -0.5] * len(grams) + [len(f.properties) ** -0.5] * len(properties)
            self.values.append(np.array(scale) * self.idf[self.columns[-1]])
            # Known without this row: two others have it.
            self.known_share.append(sum(counts[vocabulary[i]] > 2 for i in grams) / max(len(f.ngrams), 1))

    @classmethod
    def of(cls, seen: Sequence[PromptFeatures], shape: Sequence[str], most_weights: int) -> "_Table":
        """The table of these rows, with the features that at least two of them have: the most frequent ones."""
        counts = Counter(hash for f in seen for hash in (*f.ngrams, *f.properties))
        vocabulary = [hash for hash, n in sorted(counts.items(), key=lambda item: (-item[1], item[0])) if n > 1]
        return cls(seen, shape, vocabulary[:most_weights], counts)

    def kernel(self) -> Array:
        """(n, n): the products of all pairs of rows."""
        n = len(self.columns)
        kernel = np.zeros((n, n))
        for start in range(0, len(self.vocabulary), _BLOCK):
            block = np.zeros((n, _BLOCK))
            for i, (columns, values) in enumerate(zip(self.columns, self.values, strict=True)):
                inside = (columns >= start) & (columns < start + _BLOCK)
                np.add.at(block[i], columns[inside] - start, values[inside])
            kernel += block @ block.T
        return kernel

    def predictor(self, a: Array, intercept: float) -> Predictor:
        """The predictor of the dual weights ``a`` (n,), rounded to whole numbers of a scale."""
        weights = np.zeros(len(self.vocabulary))
        for dual, columns, values in zip(a, self.columns, self.values, strict=True):
            np.add.at(weights, columns, dual * values)
        weights *= self.idf
        scale = float(np.abs(weights).max(initial=0.0)) / MOST_LEVELS or 1.0
        levels = np.round(weights / scale).astype(int).tolist()
        lengths = [f.length for f in self.seen]
        places = [PROPERTIES.index(kind) for kind in self.shape]
        return Predictor(
            intercept=float(intercept),
            weights=dict(zip(self.vocabulary, levels, strict=True)),
            scale=scale,
            lengths=(min(lengths) // 2, 2 * max(lengths)),
            scripts=tuple(sorted({f.script for f in self.seen})),
            known_share=_least_share(np.array(self.known_share)),
            shape=tuple(self.shape),
            shapes=frozenset(f.properties[place] for f in self.seen for place in places),
        )


def range_of(seen: Sequence[PromptFeatures], most_weights: int = MOST_WEIGHTS) -> Predictor:
    """A predictor that says 0.5 of every prompt like these rows, and nothing of others."""
    return _Table.of(seen, required_shape(seen), most_weights).predictor(np.zeros(len(seen)), 0.0)


def _least_share(shares: Array) -> float:
    """The known share below which a prompt is unlike the fit rows, from the shares of each of them without itself.

    A share below the k-th smallest of n has probability k / (n + 1). Of few rows that is mostly chance: it is then not taken
    to be higher than the quantile of a normal distribution.
    """
    n = len(shares)
    low = float(np.sort(shares)[max(1, int(UNLIKE * (n + 1))) - 1])
    return low if n >= FEW_ROWS else max(0.0, min(low, float(shares.mean() - 2.05 * shares.std())))


def required_shape(seen: Sequence[PromptFeatures]) -> tuple[str, ...]:
    """The kinds of properties of which nearly every prompt like the fit rows has a value that they have.

    The share of rows whose value no other row has estimates the share of prompts with a new value (Good 1953). Kinds are
    taken as long as these shares add up to at most ``UNLIKE``: values that change from prompt to prompt, such as the first
    message of real conversations, say nothing.
    """
    single = {}
    task = PROPERTIES.index("task")
    # No caller names a task: then no run reads the tag, and prompts that have one are like the others.
    has_tasks = any(f.properties[task] != NO_TASK for f in seen)
    for kind in SHAPE if has_tasks else SHAPE[:-1]:
        counts = Counter(f.properties[PROPERTIES.index(kind)] for f in seen)
        single[kind] = sum(n == 1 for n in counts.values())
    kinds, total = [], 0
    for kind in sorted(single, key=single.__getitem__):
        total += single[kind]
        if total <= UNLIKE * len(seen):
            kinds.append(kind)
    return tuple(kind for kind in SHAPE if kind in kinds)


def _out_of_fold(kernel: Array, y: Array, fold: Ints, ridge: float) -> Array:
    """(n,): each row's logit, fitted without its fold."""
    out = np.zeros(len(y))
    for k in _folds(fold):
        training, held_out = fold != k, fold == k
        a, b = kernel_logistic(kernel[np.ix_(training, training)], y[training], ridge)
        out[held_out] = kernel[np.ix_(held_out, training)] @ a + b
    return out


def _folds(fold: Ints) -> Iterator[int]:
    return iter(range(int(fold.max()) + 1))


def _platt(logits: Array, y: Array) -> tuple[float, float]:
    """Slope and shift of the logits; (1, 0) where they do not lower the log-loss by more than its standard error."""
    x = np.column_stack([np.ones(len(y)), logits])
    fitted = ridge_logistic(x, y, np.ones((1, len(y))), np.array([[0.0, 0.1]]))
    if fitted is None or fitted[0, 1] <= 0:
        return 1.0, 0.0
    shift, slope = float(fitted[0, 0]), float(fitted[0, 1])
    difference = losses(logistic(logits), y) - losses(logistic(slope * logits + shift), y)
    return (slope, shift) if difference.mean() > difference.std(ddof=1) / len(y) ** 0.5 else (1.0, 0.0)
