"""The features of many prompts, computed here or on the workers of an engine."""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256

from cascade.promise.drift import prompt_features
from evals.engines import Engine

SHARD_TEXTS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class TextShard:
    """Prompts that follow one another."""

    texts: tuple[str, ...]

    @property
    def key(self) -> str:
        """The SHA-256 of the texts in hex."""
        return sha256("\0".join(self.texts).encode("utf-8", "surrogatepass")).hexdigest()


def features_of(texts: Iterable[str], engine: Engine | None = None) -> Iterator[list[float]]:
    """The features of each prompt, in their order.

    Args:
        texts: The prompts; taken as they are needed, some thousands ahead where there is an engine.
        engine: Whose workers compute them; None: this process.

    Raises:
        EngineError: The engine fails.
    """
    if engine is None:
        return map(prompt_features, texts)
    shards = (TextShard(texts=part) for part in _batched(iter(texts)))
    return itertools.chain.from_iterable(engine.map(_features, None, shards))


def _batched(texts: Iterator[str]) -> Iterator[tuple[str, ...]]:
    while part := tuple(itertools.islice(texts, SHARD_TEXTS)):
        yield part


def _features(_: None, shard: TextShard) -> list[list[float]]:
    return [prompt_features(text) for text in shard.texts]
