"""Answers a file of prompts in parallel and sorts them into accepted answers and a queue for people.

Run it: ``python examples/batch_script.py prompts.jsonl answers.jsonl --policy default``. Each line of the input is an
object with ``prompt``. With the packaged default policy it answers the questions of the shipped recording, without a key.
"""

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cascade import Cascade, CascadeError, Result


async def answer(service: Cascade, row: dict[str, Any], policy: str, limit: asyncio.Semaphore) -> dict[str, Any]:
    """The row with its answer, or with the reason why there is none."""
    async with limit:
        try:
            result: Result = await service.arun(row["prompt"], policy=policy)
        except CascadeError as error:  # every tier failed, a budget or a deadline allowed no answer
            return {**row, "accepted": False, "error": str(error)}
    return {
        **row,
        "text": result.text,
        "accepted": result.accepted,
        "confidence": round(result.confidence, 3),
        "tier": result.tier,
        "cost_usd": result.cost_usd,  # None: unknown, which is not 0
        "run_id": result.run_id,
    }


async def answer_all(rows: list[dict[str, Any]], policy: str, concurrency: int) -> list[dict[str, Any]]:
    """All rows, in their order; one Cascade shares connections, limits and circuit breakers."""
    limit = asyncio.Semaphore(concurrency)
    async with Cascade() as service:
        return await asyncio.gather(*(answer(service, row, policy, limit) for row in rows))


def main(argv: Sequence[str] | None = None) -> int:
    """Reads, answers, writes; prints one line of totals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=Path)
    parser.add_argument("answers", type=Path)
    parser.add_argument("--policy", default="default")
    parser.add_argument("--concurrency", type=int, default=16)
    options = parser.parse_args(argv)
    rows = [json.loads(line) for line in options.prompts.read_text(encoding="utf-8").splitlines() if line.strip()]
    answered = asyncio.run(answer_all(rows, options.policy, options.concurrency))
    options.answers.write_text("".join(json.dumps(row) + "\n" for row in answered), encoding="utf-8")
    costs = [row.get("cost_usd") for row in answered]
    total = sum(cost for cost in costs if cost is not None)
    accepted = sum(row["accepted"] for row in answered)
    print(
        f"{accepted} of {len(answered)} accepted, {len(answered) - accepted} for people; "
        f"${total:.6f} and {costs.count(None)} of unknown cost",
        file=sys.stderr,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
