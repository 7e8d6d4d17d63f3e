"""What the shadower's thread checks from time to time."""

from typing import Protocol


class Monitor(Protocol):
    """Checks promises, canaries and traffic from time to time; for one thread."""

    @property
    def is_needed(self) -> bool:
        """Whether there is anything to watch."""
        ...

    def check(self) -> None:
        """Takes new labels and runs into account."""
        ...

    def restart(self) -> None:
        """In a forked child: begins with connections of its own."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...
