"""One API key of the gateway, as it is stored: its hash, its limits, and until when it is valid."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """One key. Times are in Unix seconds.

    Attributes:
        id: The public part of the key.
        name: The name that the journal tags its runs with.
        sha256: The hash of the whole key.
        policies: The policies that it may use; None: all.
        usd_per_day: Most USD per UTC day; None: no limit.
        per_minute: Most requests per minute; None: no limit.
        created: When it was created.
        revoked: When it was revoked; None: it was not.
        expires: From when on it is not accepted any more; None: never.
        previous_sha256: The hash of the text that it had before it was rotated; None: it was not.
        previous_expires: From when on that text is not accepted any more.
    """

    id: str
    name: str
    sha256: str
    policies: tuple[str, ...] | None = None
    usd_per_day: float | None = None
    per_minute: float | None = None
    created: float = 0.0
    revoked: float | None = None
    expires: float | None = None
    previous_sha256: str | None = None
    previous_expires: float | None = None

    def is_valid(self, now: float) -> bool:
        """Whether it is neither revoked nor expired."""
        return self.revoked is None and (self.expires is None or now < self.expires)

    def previous_is_valid(self, now: float) -> bool:
        """Whether the text that it had before is still accepted."""
        return self.revoked is None and self.previous_expires is not None and now < self.previous_expires
