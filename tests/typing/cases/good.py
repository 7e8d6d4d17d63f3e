"""Calls that type checkers must accept, with the types that they must infer."""

from collections.abc import Mapping
from typing import Any, Unpack, assert_type

from pydantic import BaseModel

import cascade
from cascade import Cascade, Result
from cascade.options import RunOptions


class City(BaseModel):
    """A schema."""

    name: str


JSON_SCHEMA: Mapping[str, Any] = {"type": "object"}

assert_type(cascade.run("q", schema=City), Result[City])
assert_type(cascade.run("q", schema=City).parsed, City | None)
assert_type(cascade.run("q", schema=JSON_SCHEMA), Result[Any])
assert_type(cascade.run("q"), Result[Any])
assert_type(cascade.gate("q", "a", schema=City, tier="small").parsed, City | None)
assert_type(cascade.gate("q", cascade.Answer("a")), Result[Any])
cascade.run("q", policy="default", budget_usd=0.1, deadline_s=5, tags={"user": "ana", "n": 3}, policy_file="p.yaml")
cascade.run([{"role": "user", "content": "q"}], system="s", tools=[{"type": "function"}], stream="held", on_event=print)
cascade.feedback("id", quality=1.0, note="right")
for event in cascade.stream("q", policy="default", stream="optimistic"):
    if isinstance(event, cascade.Finished):
        assert_type(event.result, Result[Any])
    elif isinstance(event, cascade.Token):
        assert_type(event.text, str)


def ask(prompt: str, schema: type[BaseModel] | Mapping[str, Any] | None = None, **options: Unpack[RunOptions]) -> str:
    """A wrapper that passes its keywords on."""
    return cascade.run(prompt, schema=schema, **options).text


def annotated(result: Result[City], bare: Result) -> str:
    """Result with its parameter, and without."""
    assert_type(bare.parsed, Any | None)
    return result.parsed.name if result.parsed is not None else ""


annotated(cascade.run("q", schema=City), cascade.run("q"))


async def everything(service: Cascade) -> None:
    """The async forms, and the methods."""
    assert_type(await cascade.arun("q", schema=City), Result[City])
    assert_type(await cascade.arun("q", schema=JSON_SCHEMA), Result[Any])
    assert_type(await cascade.arun("q"), Result[Any])
    assert_type(await cascade.agate("q", "a", schema=City), Result[City])
    assert_type(await service.arun("q", schema=City, policy="careful"), Result[City])
    assert_type(await service.agate("q", "a", schema=City), Result[City])
    assert_type(service.run("q", schema=City), Result[City])
    assert_type(service.run("q", schema=JSON_SCHEMA), Result[Any])
    assert_type(service.gate("q", "a", schema=City), Result[City])
    assert_type(service.gate("q", "a"), Result[Any])
    async for event in service.astream("q", policy="careful", deadline_s=5):
        match event:
            case cascade.Token(text=text):
                assert_type(text, str)
            case cascade.Finished(result=result):
                assert_type(result.accepted, bool)
            case _:
                pass
    async for _ in cascade.astream("q", policy="careful"):
        break
    for _ in service.stream("q", budget_usd=0.1):
        break
    await cascade.afeedback("id", quality=0.5, policy_file="p.yaml")
    await service.afeedback("id", quality=0.5)
    service.feedback("id", quality=0.5)
