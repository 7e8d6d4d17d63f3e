"""The settings of a request to a launcher."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The limits of each of the two processes, and where they find what they import.

    Attributes:
        seconds: CPU time.
        real_seconds: Real time of both together.
        memory: Bytes of address space.
        unsafe: Run without walls where there are none.
        folder: Where the processes may then write.
        site: Folders of installed packages.
        hidden: Folders in these that look empty.
    """

    seconds: int
    real_seconds: int
    memory: int
    unsafe: bool
    folder: str
    site: tuple[str, ...]
    hidden: tuple[str, ...]
