"""A replay's two passes of the engine of runs over all rows, in shards on the workers: scoring, and the chosen policy's run.

Every row is scored and run by itself, so that the shards' columns, put together in order, are those of one process.
"""

import asyncio
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np

from cascade import Policy, Result
from cascade.policy.schema import JudgeRule
from evals.engines import Engine
from evals.recording import Example
from judges import Answer

from .engine_check import Rows, run_engine
from .rows.input_rows import Rules, session_of
from .rows.recorded_verdicts import placeholders
from .score_table import ARRAYS, Cache, TierScores, score_tier
from .score_table import load_or_score as in_this_process

SHARD_ROWS = 2_000
_READ = ("tool_choice", "session")  # the further fields of a row that a run reads


@dataclass(frozen=True, kw_only=True)
class RowShard:
    """Rows of a recording that follow one another, pickled: ``data`` holds them with the answers that are needed alone.

    They are pickled as tuples: a dataclass takes five times as long to pickle and to unpickle.
    """

    data: bytes
    rows: int

    @classmethod
    def of(cls, examples: Sequence[Example], models: Sequence[str]) -> "RowShard":
        """The rows with the answers of these models."""
        bare = [
            (
                e.id, e.prompt, {model: e.answers[model] for model in models if model in e.answers}, e.task, e.split,
                e.system, e.schema, e.tools, None, {name: e.raw[name] for name in _READ if name in e.raw},
            )
            for e in examples
        ]  # fmt: skip
        return cls(data=pickle.dumps(bare, pickle.HIGHEST_PROTOCOL), rows=len(bare))

    @cached_property
    def key(self) -> str:
        """The SHA-256 of the rows in hex."""
        return sha256(self.data).hexdigest()

    def examples(self) -> list[Example]:
        """The rows."""
        return [Example(*fields) for fields in pickle.loads(self.data)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """Which model's answers are judged by what."""

    model: str
    rules: Rules


async def load_or_score(
    examples: Sequence[Example],
    model: str,
    rules: Rules,
    cache: Cache | None = None,
    on_rows: Callable[[int], None] = lambda rows: None,
    engine: Engine | None = None,
) -> TierScores:
    """``score_table.load_or_score`` on an engine, if there is one.

    The scores of each shard are cached by the hash of its rows until all are there, so that a replay that is interrupted
    continues where it stopped.

    Args:
        examples: The rows.
        model: The model whose answers are judged.
        rules: The judges.
        cache: Where scores are stored.
        on_rows: Called with the number of rows that have just been scored.
        engine: The engine; None: this process.
    """
    if engine is None:
        return await in_this_process(examples, model, rules, cache, lambda: on_rows(1))
    name = cache.name(model, rules, [e.id for e in examples]) if cache else ""
    stored = cache.load(name, model, rules) if cache else None
    if stored is not None and len(stored.vetoed) == len(examples):
        return stored
    asked_models = {name for rule in rules for name in JudgeRule.model_validate(rule).model_names}
    parts: list[TierScores | None] = []
    files: list[str] = []

    def without_scores() -> Iterator[RowShard]:
        for shard in _shards(examples, sorted({model, *asked_models})):
            files.append(_part(name, shard))
            parts.append(cache.load(files[-1], model, rules) if cache else None)
            if parts[-1] is None:
                yield shard
            else:
                on_rows(shard.rows)

    at = 0
    for part in engine.map(_score, Scoring(model=model, rules=rules), without_scores()):
        at = parts.index(None, at)
        parts[at] = part
        on_rows(len(part.vetoed))
        if cache:
            cache.save(files[at], part)
    whole = _joined([part for part in parts if part is not None])
    if cache:
        cache.save(name, whole)
        cache.remove(files)
    return whole


def _shards(examples: Sequence[Example], models: Sequence[str]) -> Iterator[RowShard]:
    for start in range(0, len(examples), SHARD_ROWS):
        yield RowShard.of(examples[start : start + SHARD_ROWS], models)


def _part(name: str, shard: RowShard) -> str:
    """The cache's file of one shard's scores."""
    return f"{sha256(f'{name} {shard.key}'.encode()).hexdigest()[:32]}.npz"


def _score(scoring: Scoring, shard: RowShard) -> TierScores:
    with placeholders([str(rule["use"]) for rule in scoring.rules]):
        return asyncio.run(score_tier(shard.examples(), scoring.model, scoring.rules))


def _joined(parts: Sequence[TierScores]) -> TierScores:
    arrays: dict[str, Any] = {name: np.concatenate([getattr(part, name) for part in parts]) for name in ARRAYS}
    return replace(parts[0], **arrays)


async def run_policy(
    policy: Policy,
    examples: Sequence[Example],
    rows: Rows,
    on_rows: Callable[[int], None] = lambda rows: None,
    engine: Engine | None = None,
    *,
    embeddings: Mapping[str, Answer] | None = None,
) -> list[Result]:
    """``engine_check.run_engine`` on an engine, if there is one.

    Rows of conversations are run in this process: a turn depends on the ones before it. So are policies that read
    embeddings, which are in this process.
    """
    in_one_process = policy.embedding is not None or any(session_of(examples[row]) is not None for row in rows)
    if engine is None or in_one_process:
        return await run_engine(policy, examples, rows, lambda: on_rows(1), embeddings=embeddings)
    models = {name for tier in policy.tiers for rule in tier.judges for name in rule.model_names}
    models |= {tier.model for tier in policy.tiers}
    results: list[Result] = []
    for part in engine.map(_run, policy, _shards([examples[row] for row in rows], sorted(models))):
        results += part
        on_rows(len(part))
    return results


def _run(policy: Policy, shard: RowShard) -> list[Result]:
    examples = shard.examples()
    with placeholders([rule.use for tier in policy.tiers for rule in tier.judges]):
        return asyncio.run(run_engine(policy, examples, np.arange(len(examples))))
