"""Any value as plain data that ``json.dumps`` accepts: dict, list, str, int, float, bool and None."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite
from typing import Any


def plain(value: Any) -> Any:
    """The value as plain data.

    Dataclasses and mappings become dicts, pydantic models what ``model_dump(mode="json")`` gives, sequences and sets lists.
    A float that JSON cannot hold (NaN, infinity) becomes None: unknown. Whatever else there is becomes its text.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return plain(value.value)
    # int(), str() and the rest: subclasses (of a numeric library, say) become the plain type.
    if isinstance(value, str):
        return str(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(plain(key)): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | AbstractSet):
        return [plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    dump = getattr(value, "model_dump", None)
    if dump is not None and not isinstance(value, type):
        return plain(dump(mode="json"))
    return str(value)


def usd(amount: float | None) -> str:
    """An amount for people to read; an unknown one is called that, never shown as 0."""
    return "unknown" if amount is None else f"${amount:.6f}"


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning and its length where it has more than ``limit`` characters."""
    return text if len(text) <= limit else f"{text[:limit].rstrip()}... ({len(text):,} characters)"
