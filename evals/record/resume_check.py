"""The arguments of a recording that change its answers, and so must not change once there are some."""

import json
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PinnedSetting:
    """An argument by a name for people, on which the answers of ``model`` depend, or only their ``part``."""

    name: str
    value: Any
    model: str
    part: str | None = None


def difference(name: str, was: Any, now: Any) -> str:
    """What to say of a setting that changed; of two objects only the fields in which they differ."""
    if isinstance(was, dict) and isinstance(now, dict):
        fields = sorted(field for field in was | now if was.get(field) != now.get(field))
        was, now = ({field: one.get(field) for field in fields} for one in (was, now))
    return f"{name}: {json.dumps(was)}, now it is {json.dumps(now)}"
