"""An engine without workers: what crosses to a worker is pickled and read again, in this process."""

import pickle
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cascade.models.factory import build
from cascade.models.protocol import Model
from cascade.policy.schema import ModelSpec


class SerialEngine:
    """Implements Engine. ``keys`` lists the shards that were worked on; after ``fails_after`` of them it fails."""

    def __init__(self, fails_after: int | None = None) -> None:
        self.workers = 2
        self.keys: list[str] = []
        self.fails_after = fails_after
        self.models: list[str] = []

    def map(self, work: Callable[[Any, Any], Any], common: Any, shards: Iterable[Any]) -> Iterator[Any]:
        """See Engine."""
        sent = pickle.dumps((work, common))
        # In a thread of its own, where no event loop runs, as in a worker.
        with ThreadPoolExecutor(1) as thread:
            for shard in shards:
                if self.fails_after is not None and len(self.keys) >= self.fails_after:
                    raise ConnectionError("the engine is gone")
                self.keys.append(shard.key)
                here, shared = pickle.loads(sent)
                output = thread.submit(here, shared, pickle.loads(pickle.dumps(shard))).result()
                yield pickle.loads(pickle.dumps(output))

    def model(self, name: str, spec: ModelSpec) -> Model:
        """See Engine."""
        self.models.append(name)
        return build(name, spec)
