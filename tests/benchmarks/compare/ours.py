"""This project's own ways: the certified cascade with and without the prompt, and the simple ways that it must beat."""

import asyncio
from collections.abc import Callable

import numpy as np

from evals.replay.baselines import Baseline, best_pair, prompt_router
from evals.replay.certificate.certified_choice import choose_certified
from evals.replay.certificate.guarantee import Guarantee
from evals.replay.evidence.consensus import with_consensus
from evals.replay.expected_value import cascade_routing
from evals.replay.prompt_columns import with_prompts
from evals.replay.rows.splits import Splits

from .rows import Columns, Outcome, Promise, Table, premium_alone


class Premium:
    """The premium model alone."""

    name, note = "premium alone", ""

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """Its answers."""
        return premium_alone(table, splits.test, table.models[-1])


class Certified:
    """What ``cascade replay`` chooses and certifies."""

    def __init__(self, name: str, note: str, *, by_prompt: bool) -> None:
        self.name, self.note, self._by_prompt = name, note, by_prompt

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """The chosen ladder on the test rows."""
        n_certify = len(splits.certify)
        columns: Columns = asyncio.run(with_consensus(table.columns, splits.fit, [promise.max_loss], n_certify, table.score))
        if self._by_prompt:
            columns = with_prompts(columns, table.examples)
        guarantee = Guarantee("max_loss", promise.max_loss, promise.delta)
        candidate = choose_certified(columns, splits, guarantee, seed=seed).chosen
        outcome = candidate.outcome(splits.test)
        return Outcome(quality=outcome.quality, usd=outcome.cost_usd, choice=" -> ".join(candidate.cascade.models))


class Simple:
    """One of replay's baselines."""

    def __init__(self, name: str, note: str, run: Callable[[Table, Splits, Promise, int], Baseline]) -> None:
        self.name, self.note, self._run = name, note, run

    def answer(self, table: Table, splits: Splits, promise: Promise, seed: int) -> Outcome:
        """The baseline on the test rows."""
        line = self._run(table, splits, promise, seed)
        return Outcome(quality=np.asarray(line.quality), usd=np.asarray(line.cost_usd), choice=line.note)


def _pair(table: Table, splits: Splits, promise: Promise, seed: int) -> Baseline:
    return best_pair(table.columns, splits, Guarantee("max_loss", promise.max_loss, promise.delta), seed)


def _router(table: Table, splits: Splits, promise: Promise, seed: int) -> Baseline:
    return prompt_router(table.texts, table.columns, splits, promise.max_loss, promise.delta, seed)


def _by_value(table: Table, splits: Splits, promise: Promise, seed: int) -> Baseline:
    return cascade_routing(table.texts, table.columns, splits, promise.max_loss, promise.delta, seed)


OURS = (
    Premium(),
    Certified("cascade", "certified", by_prompt=False),
    Certified("cascade --by-prompt", "certified", by_prompt=True),
    Simple("best pair", "replay's baseline, certified", _pair),
    Simple("prompt-only router", "replay's baseline, certified", _router),
    Simple("expected value", "replay's baseline, certified", _by_value),
)
