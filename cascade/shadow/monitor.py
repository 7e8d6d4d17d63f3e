"""What the shadower's thread looks at now and then."""

from typing import Protocol


class Monitor(Protocol):
    """Looks at promises, canaries and traffic now and then; for one thread."""

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
