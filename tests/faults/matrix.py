"""The fault matrix: every fault in every tier of every provider at every rate, through a real Cascade.

The test and the benchmark differ in the number of runs alone; ``accounts.audit`` says what happened.
"""

import asyncio
import gc
from collections.abc import AsyncGenerator, Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from cascade import Cascade
from cascade.engine.streaming import Event, Finished, Retracted, Token
from cascade.errors import RunError
from cascade.models.http import load
from cascade.policy.schema import PolicyFile
from cascade.result import Result
from tests.faults.accounts import Ended
from tests.faults.process import FaultServer
from tests.faults.replies import FAULTS, STREAM_FAULTS, Plan

TIERS = ("cheap", "balanced", "premium")
PROVIDERS = ("openai", "anthropic")
RATES = (0.05, 0.3, 1.0)
DEADLINE_S = 12.0  # far from what a run takes where the machine has time for it
MAX_BODY_BYTES = 2_000_000  # well below the 20 MB that are sent, and quick to read
GOOD, WEAK = Plan.answer, "no idea"
PRICES = {"cheap": (0.15, 0.6), "balanced": (0.8, 4.0), "premium": (3.0, 15.0)}


@dataclass(frozen=True, slots=True)
class Cell:
    """One case: the tier ``broken`` of a ladder meets ``fault`` at ``rate``; the tiers before it give rejected answers."""

    fault: str
    broken: str
    provider: str
    rate: float
    streamed: bool = False

    @property
    def name(self) -> str:
        """The policy's name."""
        return f"{self.model} as {self.broken}"

    @property
    def model(self) -> str:
        """The name of the model that is broken; its price is that of the balanced tier."""
        return f"{self.fault} {self.rate:.0%} {self.provider}"

    def models(self) -> tuple[str, str, str]:
        """The models of the three tiers."""
        at = TIERS.index(self.broken)
        others = [f"{tier} {'weak' if i < at else 'good'} {self.provider}" for i, tier in enumerate(TIERS)]
        return tuple(self.model if i == at else name for i, name in enumerate(others))  # type: ignore[return-value]

    def texts(self) -> tuple[str, ...]:
        """What may be answered: a rejected answer only where the last tier is the broken one."""
        return (GOOD, WEAK) if self.broken == TIERS[-1] else (GOOD,)


CELLS = (
    *(Cell(*case) for case in product(FAULTS, TIERS, PROVIDERS, RATES)),
    *(Cell(*case, True) for case in product(dict.fromkeys((*FAULTS, *STREAM_FAULTS)), TIERS, PROVIDERS, RATES)),
)


def plans(cells: Iterable[Cell]) -> dict[str, Plan]:
    """What the server plays."""
    plans = {}
    for provider, tier in product(PROVIDERS, TIERS):
        for kind, text in (("good", GOOD), ("weak", WEAK)):
            plans[f"{tier} {kind} {provider}"] = Plan(text, *PRICES[tier])
    for cell in cells:
        plans[cell.model] = Plan(GOOD, *PRICES["balanced"], faults=(cell.fault,), rate=cell.rate)
    return plans


def spec(
    server: FaultServer, name: str, provider: str, plan: Plan, timeout_s: float | None = None, **more: Any
) -> dict[str, Any]:
    """A model of the server's as a policy file has it. The timeout is short by default where the fault is to be slow."""
    if timeout_s is None:
        timeout_s = 0.5 if set(plan.faults) & {"hang", "drip"} else 5.0
    return {
        "provider": provider,
        "base_url": server.base_url(name, provider),
        "price": {"input_per_mtok": plan.input_per_mtok, "output_per_mtok": plan.output_per_mtok},
        "timeout_s": timeout_s,
        "max_body_bytes": MAX_BODY_BYTES,
        "retry": {"attempts": 2, "initial_backoff_s": 0.05, "max_backoff_s": 0.1, "retry_after_s": 1.0},
        "breaker": "off",  # so that every run meets its fault; a test of its own has it on
        **more,
    }


def tiers(models: Iterable[tuple[str, str]]) -> list[dict[str, Any]]:
    """Tiers by (name, model); a rule lets only those answers pass that have the word "answer" in them."""
    judges = [{"use": "rules", "pattern": "answer"}]
    return [{"name": name, "model": model, "accept_at": 0.5, "judges": judges} for name, model in models]


def policies(server: FaultServer, cells: Sequence[Cell], journal: Path) -> PolicyFile:
    """The models with their prices, a policy for each cell, and the file of the journal."""
    models = {}
    for name, plan in plans(cells).items():
        provider = "anthropic" if name.endswith("anthropic") else "openai"
        models[name] = spec(server, name, provider, plan)
    by_cell = {
        cell.name: {"tiers": tiers(zip(TIERS, cell.models(), strict=True)), "deadline_s": DEADLINE_S} for cell in cells
    }
    journal_options = {"url": f"sqlite:///{journal}", "durability": "batched"}
    return PolicyFile.model_validate({"models": models, "policies": by_cell, "journal": journal_options})


async def one(
    cascade: Cascade,
    policy: str,
    number: int,
    deadline_s: float,
    texts: tuple[str, ...] = (GOOD,),
    *,
    streamed: bool = False,
) -> Ended:
    """Run number ``number``, which may answer with one of ``texts``."""
    loop = asyncio.get_running_loop()
    ends, withheld = loop.time() + deadline_s, withheld_s()
    outcome: Result | RunError
    try:
        question = f"run:{number} what is it?"
        options: dict[str, Any] = {"policy": policy, "deadline_s": deadline_s, "tags": {"run": number}}
        outcome = (
            await result_of(cascade.astream(question, **options)) if streamed else await cascade.arun(question, **options)
        )
    except RunError as error:
        outcome = error
    late = loop.time() - ends
    return Ended(number, policy, texts, outcome, late - min(max(late, 0.0), withheld_s() - withheld))


def withheld_s() -> float:
    """Seconds that this thread was ready to run and the machine ran others; 0 where the system does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


async def result_of(events: AsyncGenerator[Event]) -> Result:
    """The result of a streamed run; what was told on the way must be its text."""
    text = ""
    async for event in events:
        match event:
            case Token():
                text += event.text
            case Retracted():
                text = ""
            case Finished():
                assert text == event.result.text
                return event.result
    raise AssertionError("the stream of events has no end")


async def run(
    cascade: Cascade, cells: Sequence[Cell], numbers: range, *, deadline_s: float = DEADLINE_S, concurrent: int = 48
) -> list[Ended]:
    """The runs of these numbers, ``concurrent`` at once, in the order of their numbers; they take the cells in turn."""
    room = asyncio.Semaphore(concurrent)

    async def ask(number: int) -> Ended:
        cell = cells[number % len(cells)]
        async with room:
            return await one(cascade, cell.name, number, deadline_s, cell.texts(), streamed=cell.streamed)

    shuffled = list(numbers)
    Random(0).shuffle(shuffled)  # so that the slow faults do not meet each other alone
    await settle()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(ask(number)) for number in shuffled]
    return sorted((task.result() for task in tasks), key=lambda ended: ended.number)


async def settle() -> None:
    """Makes this process a service that has started: the SDKs are loaded, and the garbage collector leaves them alone.

    Else each full pass over their 175,000 objects holds up every thread for 100 ms, as much as a run may be late.
    """
    for sdk in PROVIDERS:
        await load(sdk)
    gc.collect()
    gc.freeze()
