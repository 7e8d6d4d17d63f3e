"""Limits on one request and on all requests together: a request over a limit is rejected before memory grows."""

from dataclasses import dataclass

from .errors import ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of a gateway.

    Attributes:
        body_bytes: Most bytes of a request's body.
        body_s: Most seconds until the whole body has arrived.
        run_s: Most seconds that a response may take, whatever the policy allows.
        concurrent: Most requests in flight; further ones are rejected with 503.
        held_bytes: Most bytes of all request bodies together; further ones are rejected with 503.
        shutdown_s: How long a stopping gateway waits for requests in flight, in seconds.
        connections: Most open connections; never more than half of the process's file descriptors.
    """

    body_bytes: int = 16 * 2**20
    body_s: float = 30.0
    run_s: float = 600.0
    concurrent: int = 1000
    held_bytes: int = 256 * 2**20
    shutdown_s: float = 30.0
    connections: int = 2000


@dataclass(slots=True)
class Load:
    """The requests in flight. It belongs to one event loop; nothing here waits.

    Attributes:
        requests: How many there are.
        held_bytes: The bytes of their bodies.
        shed: How many were rejected because there were too many.
    """

    _limits: Limits
    requests: int = 0
    held_bytes: int = 0
    shed: int = 0

    def enter(self) -> None:
        """Counts one more request; ``leave`` must follow.

        Raises:
            ApiError: 503 where too many requests are in flight.
        """
        if self.requests >= self._limits.concurrent:
            self.shed += 1
            raise ApiError(503, "too many requests are in flight; try again", code="overloaded", retry_after_s=1)
        self.requests += 1

    def leave(self, held: int) -> None:
        """Counts one request less, and releases the bytes of its body."""
        self.requests -= 1
        self.held_bytes -= held

    def hold(self, size: int) -> None:
        """Reserves bytes for a body.

        Raises:
            ApiError: 503 where all bodies together are too large.
        """
        if self.held_bytes + size > self._limits.held_bytes:
            self.shed += 1
            message = "the bodies of all requests in flight are too large together; try again"
            raise ApiError(503, message, code="overloaded", retry_after_s=1)
        self.held_bytes += size
