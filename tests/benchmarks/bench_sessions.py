"""What conversations cost with and without ``sticky``, on synthetic ones with prices of a prompt cache; prints JSON, fails
where a target is missed.

Each kind of traffic has 200 conversations of 12 turns: a share of them turns hard in its first half and stays so
("mixed", two thirds, and "few", a tenth); a share is hard from the start ("hard", all, and "apart", six in ten); all are
easy; all are hard in turns 3 to 5 alone ("returning"); or each turn is hard at random ("rarely_hard" 10 %, "random" 50 %,
"mostly_hard" 75 %, "nearly_all_hard" 90 %). A model's prompt cache holds what it answered or read of a conversation before.
The cheap model is right on easy turns alone, and its judge knows. On "mixed", "hard" and "apart", sticky must cost at least
10 % less than a cascade that begins every turn at the cheap model; on all, at most 1 % more than the best model alone of
the same quality. The oracle knows beforehand which turns are hard: no policy can save as much.
"""

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from typing import Any

from cascade import Answer, Cascade, Prompt
from cascade.costs.prices import Pricer
from cascade.models.protocol import Request
from cascade.policy.schema import ModelSpec, PolicyFile
from judges import Usage

CONVERSATIONS, TURNS = 200, 12
NEW_TOKENS, OUTPUT_TOKENS = 600, 200
CHEAP = {"input_per_mtok": 0.8, "output_per_mtok": 4.0, "cached_input_per_mtok": 0.08, "cache_write_per_mtok": 1.0}
DEAR = {"input_per_mtok": 3.0, "output_per_mtok": 15.0, "cached_input_per_mtok": 0.3, "cache_write_per_mtok": 3.75}
TURNING_HARD = {"mixed": 2 / 3, "few": 0.1}
HARD_FROM_THE_START = {"hard": 1.0, "apart": 0.6, "easy": 0.0}
HARD_AT_RANDOM = {"rarely_hard": 0.1, "random": 0.5, "mostly_hard": 0.75, "nearly_all_hard": 0.9}
KINDS = (*TURNING_HARD, *HARD_FROM_THE_START, "returning", *HARD_AT_RANDOM)
SAVING = ("mixed", "hard", "apart")
LEAST_SAVING, MOST_ABOVE = 0.10, 0.01


class CachingModel:
    """A model whose provider remembers what it has read of each conversation; sure of its answer only where it is right."""

    def __init__(self, name: str, *, able: bool) -> None:
        self.name, self._able = name, able
        self._read: dict[str, int] = {}

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """One answer, with the usage that the provider would count."""
        session, hard = str(prompt.messages[0]["content"]).split()[0], "HARD" in str(prompt.messages[-1]["content"])
        tokens = sum(len(str(m["content"])) // 4 for m in prompt.messages)
        cached = min(self._read.get(session, 0), tokens)
        self._read[session] = tokens
        usage = Usage(tokens, OUTPUT_TOKENS, cached_tokens=cached, cache_write_tokens=tokens - cached)
        sure = self._able or not hard
        return [Answer("y" * 4 * OUTPUT_TOKENS, usage=usage, verdicts={"rules": 0.95 if sure else 0.05})]

    async def close(self) -> None:
        """Nothing to close."""


def conversations(kind: str, count: int, seed: int = 0) -> list[tuple[str, list[bool]]]:
    """Names, and for each turn whether it is hard."""
    draw = random.Random(seed)
    traffic = []
    for i in range(count):
        first, last = 2, 5  # returning
        if kind in TURNING_HARD:
            first = draw.randrange(1, TURNS // 2) if draw.random() < TURNING_HARD[kind] else TURNS
            last = TURNS
        elif kind in HARD_FROM_THE_START:
            first, last = (0 if draw.random() < HARD_FROM_THE_START[kind] else TURNS), TURNS
        hard = [first <= turn < last for turn in range(TURNS)]
        if kind in HARD_AT_RANDOM:
            hard = [draw.random() < HARD_AT_RANDOM[kind] for _ in hard]
        traffic.append((f"{kind}{i}", hard))
    return traffic


def oracle_bill(kind: str, count: int) -> float:
    """USD of all conversations where each turn begins at the model that it needs."""
    prices = {name: Pricer(name, ModelSpec.model_validate({"provider": "scripted", "answers": ["-"], "price": price}))
              for name, price in (("cheap", CHEAP), ("dear", DEAR))}  # fmt: skip
    usd = 0.0
    for name, turns in conversations(kind, count):
        tokens, read = len(name) // 4 + 1000, dict.fromkeys(prices, 0)
        for is_hard in turns:
            tokens += NEW_TOKENS + 1
            model = "dear" if is_hard else "cheap"
            cached, read[model] = read[model], tokens
            usage = Usage(tokens, OUTPUT_TOKENS, cached_tokens=cached, cache_write_tokens=tokens - cached)
            usd += prices[model].cost(usage) or 0.0
            tokens += OUTPUT_TOKENS
    return usd


async def bill(kind: str, count: int, tiers: list[dict[str, Any]], sticky: dict[str, Any] | None) -> tuple[float, float]:
    """USD of all conversations, and the share of turns answered rightly."""
    specs = {
        name: {"provider": "scripted", "answers": ["-"], "price": price}
        for name, price in (("cheap", CHEAP), ("dear", DEAR))
    }
    policy = {"tiers": tiers, **({"sticky": sticky} if sticky else {})}
    file = PolicyFile.model_validate({"models": specs, "policies": {"default": policy}})
    models = {"cheap": CachingModel("cheap", able=False), "dear": CachingModel("dear", able=True)}
    usd, right = 0.0, 0
    async with Cascade(file, models=models) as cascade:  # type: ignore[arg-type]
        for name, hard in conversations(kind, count):
            messages: list[dict[str, str]] = [{"role": "system", "content": f"{name} " + "s" * 4000}]
            for is_hard in hard:
                words = ("HARD " if is_hard else "easy ") + "x" * 4 * NEW_TOKENS
                messages.append({"role": "user", "content": words})
                result = await cascade.arun(messages, session=name)
                messages.append({"role": "assistant", "content": result.text})
                usd += result.cost_usd or 0.0
                right += result.tier == "dear" or not is_hard
    return usd, right / (count * TURNS)


async def measure(count: int = CONVERSATIONS, kinds: Sequence[str] = KINDS) -> dict[str, dict[str, float]]:
    """By traffic: the bills, and how much is saved against a cascade that forgets, and against the best model alone."""
    ladder = [
        {"model": "cheap", "judges": ["rules"], "accept_at": 0.5},
        {"model": "dear", "judges": ["rules"], "accept_at": 0.0},
    ]
    figures = {}
    for kind in kinds:
        sticky, quality = await bill(kind, count, ladder, {"probe_every": 5})
        forgets, _ = await bill(kind, count, ladder, None)
        alone = [await bill(kind, count, [tier], None) for tier in ladder]
        best = min(usd for usd, good in alone if good >= quality)
        figures[kind] = {
            "sticky_usd": round(sticky, 4), "forgets_usd": round(forgets, 4), "best_model_usd": round(best, 4),
            "quality": quality, "below_forgetting": round(1 - sticky / forgets, 4),
            "above_best": round(sticky / best - 1, 4),
            "oracle_below_forgetting": round(1 - oracle_bill(kind, count) / forgets, 4),
        }  # fmt: skip
    return figures


def failures(figures: dict[str, dict[str, float]]) -> list[str]:
    """The targets that are missed."""
    missed = [
        f"{kind}: {100 * f['above_best']:.1f} % above the best model"
        for kind, f in figures.items()
        if f["above_best"] > MOST_ABOVE
    ]
    for kind in SAVING:
        if kind in figures and figures[kind]["below_forgetting"] < LEAST_SAVING:
            missed.append(f"{kind}: only {100 * figures[kind]['below_forgetting']:.1f} % below a cascade that forgets")
    return missed


def main() -> int:
    """Prints the figures; 1 where a target is missed."""
    figures = asyncio.run(measure())
    print(json.dumps(figures, indent=1))
    missed = failures(figures)
    for line in missed:
        print(line, file=sys.stderr)
    return 1 if missed else 0


if __name__ == "__main__":
    raise SystemExit(main())
