"""Other people's packages, each by its own public interface, on the evidence that our judges recorded.

A peer that cascades two models may choose which model goes first: the one that it says costs least on the calibration
rows. A peer without a confidence of its own gets ours, uncalibrated. None of them knows our promise with its probability;
each is asked for what comes nearest to it, which ``note`` says.
"""

import logging
import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from evals.replay.rows.splits import Splits

from .rows import Array, Evidence, Flags, Outcome, Promise, Rows, Table, one_model_each, premium_alone, two_models

BUDGETS = np.geomspace(0.04, 1.0, 32)
Accepts = Callable[[Rows], Flags]
"""Which answers of a model are returned, of the rows that it is given."""


def _first_asked(table: Table) -> list[Evidence]:
    """All evidence on models that may be asked before the premium one."""
    return [each for each in table.evidence if each.model != table.premium]


def _cheapest(table: Table, splits: Splits, pairs: Iterable[tuple[Evidence, Accepts]]) -> Outcome:
    """The test rows' outcome in the pair that costs least on the calibration rows; the premium model if that costs less."""
    rows, test = splits.calibration, splits.test
    best: tuple[Evidence, Accepts] | None = None
    least = float(table.usd[rows, table.premium].mean())
    for first, accepts in pairs:
        usd = float(two_models(table, first, accepts(rows), rows, "").usd.mean())
        if usd < least:
            best, least = (first, accepts), usd
    if best is None:
        return premium_alone(table, test)
    first, accepts = best
    accepted = accepts(test)
    return two_models(table, first, accepted, test, _words(table, first, accepted))


def _words(table: Table, first: Evidence, accepted: Flags) -> str:
    by = f" by {' and '.join(first.judges)}" if first.judges else ""
    return f"{table.models[first.model]} first, {100 * accepted.mean():.0f} % of its answers accepted{by}"


class Cascadeflow:
    """cascadeflow: its own confidence and its own checks, with the thresholds that it ships for cascades."""

    name = "cascadeflow"
    note = "its own evidence and default thresholds; the drafter that loses least of those that keep the promise, or of all"

    def __init__(self) -> None:
        logging.getLogger("cascadeflow").setLevel(logging.ERROR)
        from cascadeflow.quality.confidence import ProductionConfidenceEstimator
        from cascadeflow.quality.quality import QualityConfig, QualityValidator

        self._confidence = ProductionConfidenceEstimator("openai")
        self._validator = QualityValidator(QualityConfig.for_cascade())
        self._table: Table | None = None
        self._passed: dict[int, Flags] = {}

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """Drafts that its validator passes are returned."""
        if table is not self._table:  # it learns nothing from the rows, so that all halves share its verdicts
            every = range(len(table.texts))
            self._passed = {m: np.array([self._passes(table, row, m) for row in every]) for m in range(table.premium)}
            self._table = table
        rows, pairs = splits.calibration, []
        for model in range(table.premium):
            first = Evidence(
                model=model, judges=(), confidence=np.zeros(0), usd=table.usd[:, model], quality=table.quality[:, model]
            )
            passed = self._passed[model]
            lost = float(
                (table.quality[rows, table.premium] - two_models(table, first, passed[rows], rows, "").quality).mean()
            )
            pairs.append((lost, first, passed))
        safe = [pair for pair in pairs if pair[0] <= promise.max_loss]
        if safe:
            return _cheapest(table, splits, [(first, passed.__getitem__) for _, first, passed in safe])
        _, first, passed = min(pairs, key=lambda pair: pair[0])
        accepted = passed[splits.test]
        return two_models(table, first, accepted, splits.test, _words(table, first, accepted))

    def _passes(self, table: Table, row: int, model: int) -> bool:
        answer, query = table.answer(row, model), table.texts[row]
        text = answer.get("text") or ""
        analysis = self._confidence.estimate(
            text,
            query=query,
            logprobs=answer.get("token_logprobs"),
            tokens=answer.get("tokens"),
            temperature=0.0,
            finish_reason=answer.get("finish_reason"),
        )
        return bool(self._validator.validate(text, query, analysis.final_confidence).passed)


class Ucci:
    """ucci-router: isotonic calibration of one uncertainty, and the cheapest threshold that keeps an accuracy."""

    name = "ucci-router"
    note = "accuracy of the premium model less the promise, on half of the calibration rows; no confidence level"

    def __init__(self) -> None:
        from ucci import InfeasibleTargetError, UCCIRouter

        self._router, self._infeasible = UCCIRouter, InfeasibleTargetError

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """A cascade of two models."""
        shuffled = np.random.default_rng(seed).permutation(splits.calibration)
        fit, choose = shuffled[: len(shuffled) // 2], shuffled[len(shuffled) // 2 :]
        pairs = []
        for first in _first_asked(table):
            uncertainty, best = 1.0 - first.confidence, table.quality[choose, table.premium]
            router = self._router(
                c_small=float(first.usd[fit].mean()),
                c_large=float(table.usd[fit, table.premium].mean()),
                cost_model="sequential",
            )
            router.calibrate(uncertainty[fit], 1.0 - first.quality[fit])
            target = float(best.mean()) - promise.max_loss
            try:
                router.choose_threshold(uncertainty[choose], first.quality[choose], best, target)
            except (self._infeasible, ValueError):  # ValueError: it refuses a first model that costs more than the second
                continue
            pairs.append((first, _accepts_by_ucci(router, uncertainty)))
        return _cheapest(table, splits, pairs)


def _accepts_by_ucci(router: Any, uncertainty: Array) -> Accepts:
    return lambda rows: ~np.asarray(router.escalate(uncertainty[rows]))


class Bargain:
    """BARGAIN_A: a proxy's answers lose nothing to the oracle's on a share of the records, with probability 1 - delta."""

    def __init__(self, *, batch: bool) -> None:
        import BARGAIN

        self._package, self._batch = BARGAIN, batch
        self.name = "BARGAIN, a batch" if batch else "BARGAIN, a threshold"
        self.note = (
            "asks the premium model about a sample of the test rows as well, so it cannot serve one request at a time"
            if batch
            else "the threshold that it finds on the calibration rows"
        )

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """On the test rows as one batch, or by the threshold of the calibration rows."""
        rows, test = splits.calibration, splits.test
        thresholds = []
        for first in _first_asked(table):
            accepted = self._accepted(table, first, rows, promise, seed)
            if accepted.any():
                thresholds.append((first, _accepts_from(first, float(first.confidence[rows][accepted].min()))))
        if not self._batch or not thresholds:
            return _cheapest(table, splits, thresholds)
        # Which model goes first is chosen on the calibration rows, so that the test rows are looked at once.
        first = min(thresholds, key=lambda pair: float(two_models(table, pair[0], pair[1](rows), rows, "").usd.mean()))[0]
        accepted = self._accepted(table, first, test, promise, seed)
        return two_models(table, first, accepted, test, _words(table, first, accepted))

    def _accepted(self, table: Table, first: Evidence, rows: Rows, promise: Promise, seed: int) -> Flags:
        """(m,): whether the proxy's answer is returned and the oracle was not asked."""

        class Proxy(self._package.Proxy):
            def proxy_func(self, record: str) -> tuple[int, float]:
                return int(record), float(first.confidence[int(record)])

        class Oracle(self._package.Oracle):
            def oracle_func(self, record: str, answer: Any) -> tuple[bool, int]:
                row = int(record)
                return bool(first.quality[row] >= table.quality[row, table.premium]), -1 - row

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # means of empty slices
            bargain = self._package.BARGAIN_A(
                Proxy(verbose=False, max_workers=1),
                Oracle(verbose=False, max_workers=1),
                target=1.0 - promise.max_loss,
                delta=promise.delta,
                verbose=False,
                seed=seed,
            )
            _, used = bargain.process([str(row) for row in rows], return_oracle_usage=True)
        return ~np.asarray(used, dtype=bool)


def _accepts_from(first: Evidence, threshold: float) -> Accepts:
    return lambda rows: first.confidence[rows] >= threshold


class CreFrugal:
    """FrugalGPT as cre-router implements it: an ordered list of models, with thresholds that are best within a budget."""

    name = "FrugalGPT (cre-router)"
    note = "the least budget whose accuracy on the calibration rows is the premium's less the promise"

    def __init__(self) -> None:
        from cre_router.baselines.frugalgpt import apply_cascade, fit_cascade

        self._fit, self._apply = fit_cascade, apply_cascade

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """A ladder of at most three models."""
        rows, test = splits.calibration, splits.test
        quality, usd, confidence = table.quality.copy(), table.usd.copy(), np.ones(table.quality.shape)
        for model in range(table.premium):
            # One list of judges for each model: the cheapest that says anything.
            first = min((e for e in table.evidence if e.model == model), key=lambda e: float(e.usd.mean()), default=None)
            if first is not None:
                quality[:, model], usd[:, model], confidence[:, model] = first.quality, first.usd, first.confidence
        confidence = np.clip(confidence, 0.001, 0.999)
        target = float(quality[rows, table.premium].mean()) - promise.max_loss
        premium_usd = float(usd[rows, table.premium].mean())
        low, high, best = 0, len(BUDGETS), None
        while low < high:  # the least budget; a larger one buys at least the same accuracy
            middle = (low + high) // 2
            try:
                fit = self._fit(
                    quality[rows],
                    usd[rows],
                    confidence[rows],
                    (middle + 1) / BUDGETS * premium_usd,
                    min(3, len(table.models)),
                )
            except ValueError:  # nothing meets the budget
                low = middle + 1
                continue
            low, high, best = (low, middle, fit) if fit.accuracy >= target else (middle + 1, high, best)
        if best is None:
            return premium_alone(table, test)
        got, spent, _ = self._apply(best, quality[test], usd[test], confidence[test])
        return Outcome(quality=got, usd=spent, choice=" -> ".join(best.names(table.models)))


class CreClusters:
    """cre-router's first stage: k-means of embedded prompts, and the model of each cluster by error and cost."""

    name = "cre-router, clusters"
    note = "the cheapest routing whose accuracy on the calibration rows is the premium's less the promise; embeddings by LSA"

    def __init__(self) -> None:
        from cre_router import clustering, routing

        self._clustering, self._routing = clustering, routing

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """One model for every cluster of prompts."""
        rows, test, embedded = splits.calibration, splits.test, self._embed(table, splits)
        clusters = self._clustering.fit_clusters(embedded[rows], seed=seed, n_init=3)
        names = [str(c) for c in range(clusters.k)]
        sizes = {c: int((clusters.labels == int(c)).sum()) for c in names}
        stats = [
            self._routing.ModelStats(
                name=model,
                tpot_ms=float(table.usd[rows, i].mean()),  # its unit of cost is whatever the caller measures
                errors={c: float(1.0 - table.quality[rows[clusters.labels == int(c)], i].mean()) for c in names},
            )
            for i, model in enumerate(table.models)
        ]
        target = float(table.quality[rows, table.premium].mean()) - promise.max_loss
        best: tuple[float, Mapping[str, str]] | None = None
        for region in self._routing.routing_regions(stats):
            accuracy, usd = self._routing.system_metrics(stats, region.assignment, sizes)
            if accuracy >= target and (best is None or usd < best[0]):
                best = usd, region.assignment
        if best is None:
            return premium_alone(table, test)
        place = {model: i for i, model in enumerate(table.models)}
        cluster_of = self._clustering.assign_clusters(embedded[test], clusters.centroids)
        chosen = np.array([place[best[1][str(c)]] for c in cluster_of])
        shares = [f"{100 * (chosen == i).mean():.0f} % {model}" for i, model in enumerate(table.models)]
        return one_model_each(table, chosen, test, ", ".join(shares))

    def _embed(self, table: Table, splits: Splits) -> Array:
        """(n, d): TF-IDF and singular vectors, learned on the calibration rows. MiniLM, its default, is a download."""
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import Normalizer

        steps = make_pipeline(TfidfVectorizer(sublinear_tf=True), TruncatedSVD(50, random_state=0), Normalizer())
        steps.fit([table.texts[i] for i in splits.calibration])
        return np.asarray(steps.transform(table.texts))


class RouteLLM:
    """RouteLLM: a BERT router that the authors trained on Chatbot Arena, and a threshold on the calibration rows."""

    name = "RouteLLM (BERT)"
    note = "the cheapest threshold whose accuracy on the calibration rows is the premium's less the promise"

    def __init__(self) -> None:
        from routellm.routers.routers import BERTRouter

        self._router = BERTRouter("routellm/bert_gpt4_augmented")
        self._rates: dict[str, float] = {}

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """The premium model where its rate of winning is above the threshold, else the best of the cheaper ones."""
        rows, test = splits.calibration, splits.test
        rates = np.array([self._rate(text) for text in table.texts])
        best: tuple[float, int, float] | None = None
        for model in range(table.premium):
            for threshold in np.unique(rates[rows]):
                stays = rates[rows] < threshold
                outcome = one_model_each(table, np.where(stays, model, table.premium), rows, "")
                lost, usd = float((table.quality[rows, table.premium] - outcome.quality).mean()), float(outcome.usd.mean())
                if lost <= promise.max_loss and (best is None or usd < best[0]):
                    best = usd, model, float(threshold)
        if best is None:
            return premium_alone(table, test)
        _, model, threshold = best
        chosen = np.where(rates[test] < threshold, model, table.premium)
        words = f"{100 * (chosen == model).mean():.0f} % to {table.models[model]}"
        return one_model_each(table, chosen, test, words)

    def _rate(self, text: str) -> float:
        if text not in self._rates:
            self._rates[text] = float(self._router.calculate_strong_win_rate(text))
        return self._rates[text]


PEERS: Mapping[str, Callable[[], Any]] = {
    "cascadeflow": Cascadeflow,
    "ucci-router": Ucci,
    "bargain, a threshold": lambda: Bargain(batch=False),
    "bargain, a batch": lambda: Bargain(batch=True),
    "cre-router, FrugalGPT": CreFrugal,
    "cre-router, clusters": CreClusters,
    "routellm": RouteLLM,
}
"""By the package to install; each raises ImportError or OSError where it cannot run here."""
