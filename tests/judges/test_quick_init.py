"""The faster ``__init__`` makes what the dataclass's own makes."""

import pickle
from collections.abc import Mapping
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from inspect import signature
from typing import Any

import pytest

from cascade.models.protocol import Chunk
from cascade.result import Attempt, CallRecord, Decision, Result
from judges import JudgeInput, Usage, Verdict
from judges.quick_init import quick_init

CLASSES = (Attempt, CallRecord, Chunk, Decision, JudgeInput, Result, Usage, Verdict)


@dataclass(frozen=True, slots=True)
class Point:
    """A class with every kind of field."""

    x: float
    y: float = 2.0
    tags: list[str] = field(default_factory=list, kw_only=True)
    more: Mapping[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if self.x < 0:
            raise ValueError("x is negative")


OWN_SIGNATURE = signature(Point)
OWN = Point(1.0, tags=["a"])
Quick = quick_init(Point)


def test_signature_and_fields_stay() -> None:
    """Names, kinds, defaults, annotations and fields are the dataclass's."""
    assert Quick is Point
    assert signature(Quick) == OWN_SIGNATURE
    assert [f.name for f in fields(Quick)] == ["x", "y", "tags", "more"]


def test_values_are_the_same() -> None:
    """By position and keyword, with defaults that no two objects share."""
    assert Quick(1.0, tags=["a"]) == OWN
    assert Quick(x=1.0, y=2.0, tags=["a"], more={}) == OWN
    assert Quick(1.0).tags == []
    assert Quick(1.0).tags is not Quick(1.0).tags
    assert replace(Quick(1.0), y=3.0) == Quick(1.0, 3.0)
    assert pickle.loads(pickle.dumps(OWN)) == OWN


def test_wrong_calls_are_refused() -> None:
    """Missing, unknown and positional keyword-only arguments; ``__post_init__`` runs."""
    for arguments, keywords in (((), {}), ((1.0, 2.0, []), {}), ((1.0,), {"z": 1})):
        with pytest.raises(TypeError):
            Quick(*arguments, **keywords)
    with pytest.raises(ValueError, match="negative"):
        Quick(-1.0)


@pytest.mark.parametrize("cls", CLASSES)
def test_objects_of_every_run_stay_frozen(cls: Any) -> None:
    """They are slotted dataclasses whose fields cannot be set."""
    assert cls.__init__.__code__.co_filename == "<string>"
    instance = cls(**dict.fromkeys(signature(cls).parameters))
    first = fields(cls)[0].name
    with pytest.raises(FrozenInstanceError):
        setattr(instance, first, 1)
    assert not hasattr(instance, "__dict__")
