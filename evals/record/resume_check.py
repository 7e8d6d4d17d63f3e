"""The arguments of a recording that change its answers, and so must stay the same when it is resumed."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PinnedSetting:
    """A named argument on which the answers of ``model`` depend, or only one ``part`` of them."""

    name: str
    value: Any
    model: str
    part: str | None = None


def difference(name: str, was: Any, now: Any) -> str:
    """Describes a changed setting; of two objects only the fields that differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        fields = sorted(field for field in was | now if was.get(field) != now.get(field))
        was, now = ({field: one.get(field) for field in fields} for one in (was, now))
    return f"{name}: {json.dumps(was)}, now it is {json.dumps(now)}"
