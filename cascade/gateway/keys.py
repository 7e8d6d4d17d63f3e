"""Who asks."""

from collections.abc import Container, MutableMapping
from dataclasses import dataclass
from typing import Any

from ..ladder import Daily


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever sent a request. ``policies`` are those that it may use (None: all); ``daily`` its own budget."""

    name: str | None = None
    policies: frozenset[str] | None = None
    daily: Daily = ()

    def may(self, name: str, known: Container[str]) -> bool:
        """Whether it may use a policy, or a tier of it alone (``policy/tier``); ``known`` are all policies."""
        if self.policies is None or name in self.policies:
            return True
        return name not in known and name.rpartition("/")[0] in self.policies


ANYONE = Caller()


class Keys:
    """No keys: whoever reaches the gateway may use it."""

    def caller(self, scope: MutableMapping[str, Any], *, open: bool = False) -> Caller:
        """Who sent this request."""
        return ANYONE
