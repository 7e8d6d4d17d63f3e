"""Calls that type checkers must refuse: each line that ends in ``# refused``, and no other."""

from pydantic import BaseModel

import cascade
from cascade import Cascade


class City(BaseModel):
    """A schema."""

    name: str


cascade.run("q", polcy="default")  # refused
cascade.run("q", schema=City, polcy="default")  # refused
cascade.run("q", budget_usd="1")  # refused
cascade.run("q", stream="sometimes")  # refused
cascade.run(17)  # refused
cascade.run("q", schema="City")  # refused
print(cascade.run("q", schema=City).parsed.name)  # refused: it may be None
cascade.run("q", schema=City).parsed.nme if cascade.run("q", schema=City).parsed else ""  # refused
print(cascade.run("q").txt)  # refused
cascade.stream("q", on_event=print)  # refused
cascade.stream("q", polcy="default")  # refused
cascade.gate("q", "a", budget_usd=1)  # refused
cascade.gate("q", "a", teir="small")  # refused
cascade.gate("q")  # refused
cascade.feedback("id", quality="good")  # refused
cascade.feedback("id", qualty=1.0)  # refused
cascade.feedback("id", 1.0)  # refused


async def everything(service: Cascade) -> None:
    """The async forms, and the methods."""
    await cascade.arun("q", polcy="default")  # refused
    await cascade.agate("q", "a", polcy="default")  # refused
    cascade.astream("q", polcy="default")  # refused
    await cascade.afeedback("id", qualty=1.0)  # refused
    await service.arun("q", polcy="default")  # refused
    await service.agate("q", "a", polcy="default")  # refused
    service.run("q", polcy="default")  # refused
    service.gate("q", "a", polcy="default")  # refused
    service.stream("q", polcy="default")  # refused
    service.astream("q", polcy="default")  # refused
    service.feedback("id", qualty=1.0)  # refused
    await service.afeedback("id", qualty=1.0)  # refused
