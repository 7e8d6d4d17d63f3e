"""What one request and all requests together may take: they are refused before memory grows."""

from dataclasses import dataclass

from cascade.gateway.errors import ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a gateway.

    ``body_bytes`` and ``body_s``: most bytes of a request's body and seconds until it is there. ``run_s``: seconds that an
    answer may take, whatever its policy says. ``concurrent`` and ``held_bytes``: most requests under way, and bytes of their
    bodies, before others are turned away. ``shutdown_s``: how long a stopping gateway waits for what is under way.
    """

    body_bytes: int = 16 * 2**20
    body_s: float = 30.0
    run_s: float = 600.0
    concurrent: int = 1000
    held_bytes: int = 256 * 2**20
    shutdown_s: float = 30.0


class Load:
    """What is under way now. One event loop's: nothing here waits."""

    __slots__ = ("_limits", "held_bytes", "requests", "shed")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.requests = self.held_bytes = 0
        self.shed = 0
        """Requests that were turned away because there were too many."""

    def enter(self) -> None:
        """One more request; ``leave`` must follow. Raises Refusal where there are too many."""
        if self.requests >= self._limits.concurrent:
            self.shed += 1
            raise ApiError(503, "too many requests are under way; try again", code="overloaded", retry_after_s=1)
        self.requests += 1

    def leave(self, held: int) -> None:
        """It is done, and the bytes of its body are free."""
        self.requests -= 1
        self.held_bytes -= held

    def hold(self, size: int) -> None:
        """Bytes of a body that are about to be kept. Raises Refusal where all bodies together grow too large."""
        if self.held_bytes + size > self._limits.held_bytes:
            self.shed += 1
            raise ApiError(503, "too much is being sent at once; try again", code="overloaded", retry_after_s=1)
        self.held_bytes += size
