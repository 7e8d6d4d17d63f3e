"""What an engine does: it runs functions on shards of rows, and sends requests to models."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from cascade.models.protocol import Model
    from cascade.policy.schema import ModelSpec


class EngineError(ValueError):
    """An engine that cannot be reached, or a shard that no worker finished; the message says what to do."""


class Shard(Protocol):
    """Some of the rows of a command. It is pickled, and must not change."""

    @property
    def key(self) -> str:
        """The SHA-256 of its content in hex: what identifies the shard, whoever works on it."""
        ...


SomeShard = TypeVar("SomeShard", bound=Shard)
Common = TypeVar("Common")
Output = TypeVar("Output")


class Engine(Protocol):
    """Workers beside this process. Where a command has no engine, it does everything itself."""

    @property
    def workers(self) -> int:
        """How many shards are worked on at once."""
        ...

    def map(
        self, work: Callable[[Common, SomeShard], Output], common: Common, shards: Iterable[SomeShard]
    ) -> Iterator[Output]:
        """Runs ``work(common, shard)`` on the workers for every shard.

        A shard whose worker dies is given to another one, so ``work`` must not pay for anything. Only a few shards and
        outputs are in memory at a time.

        Args:
            work: A function of a module that the workers can import; it may raise, and its first error in the order of the
                shards is raised here.
            common: What every shard needs; sent once.
            shards: The shards, taken as workers become free.

        Yields:
            The outputs in the order of the shards.

        Raises:
            EngineError: A shard's workers died again and again.
        """
        ...

    def model(self, name: str, spec: "ModelSpec") -> "Model":
        """A model whose requests are sent by the workers.

        Limits, budgets and files stay with the caller, so that they hold for all workers together.

        Args:
            name: The model's name in the policy file.
            spec: Its entry there.
        """
        ...
