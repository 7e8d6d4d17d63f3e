"""2,000 clients at once for a minute, far more than one core serves: each request gets an answer or an honest refusal, and
memory is flat afterwards. Prints JSON, fails where a target is missed.

CASCADE_LOAD_S sets the seconds.
"""

import asyncio
import json
import os
import random
import sys
from collections import Counter
from pathlib import Path
from time import perf_counter
from typing import Any

from bench_gateway import SCRIPTED, Client, clients, gateway, percentile

CLIENTS = 2000
SECONDS = float(os.environ.get("CASCADE_LOAD_S", "60"))
PATIENCE_S = 30.0  # an answer that takes longer counts as none
HONEST = {200, 429, 503}


def rss_mb(pid: int) -> float:
    """Resident memory of a process in millions of bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


async def insist(client: Client, ends: float, seen: Counter[int], took: list[float]) -> None:
    """Asks until the time is up; who is turned away comes back after about the second that Retry-After names."""
    while perf_counter() < ends:
        start = perf_counter()
        try:
            status = await asyncio.wait_for(client.ask(), PATIENCE_S)
        except TimeoutError:
            status = 0
        seen[status] += 1
        if status == 200:
            took.append(perf_counter() - start)
        elif status == 0:
            return
        else:
            await asyncio.sleep(random.uniform(0.5, 1.5))


async def crowd(port: int, pid: int, seconds: float) -> tuple[Counter[int], list[float], list[float]]:
    """Statuses, seconds of the answers, and the gateway's memory each second."""
    made = await clients(port, CLIENTS)
    seen: Counter[int] = Counter()
    took: list[float] = []
    memory: list[float] = []
    work = asyncio.gather(*(insist(client, perf_counter() + seconds, seen, took) for client in made))
    while not work.done():
        memory.append(rss_mb(pid))
        await asyncio.wait([work], timeout=1)
    for client in made:
        client.close()
    return seen, took, memory


def main() -> int:
    """A short crowd first, so that what is allocated once is there; then the long one, which must add nothing that stays."""
    with gateway(SCRIPTED) as (port, pid):
        asyncio.run(crowd(port, pid, min(10.0, SECONDS)))
        before = rss_mb(pid)
        seen, took, memory = asyncio.run(crowd(port, pid, SECONDS))
        asyncio.run(asyncio.sleep(2))
        after = rss_mb(pid)
    dishonest = sum(n for status, n in seen.items() if status not in HONEST)
    found: dict[str, Any] = {
        "clients": CLIENTS,
        "seconds": SECONDS,
        "answered": seen[200],
        "turned_away": seen[429] + seen[503],
        "without_answer": dishonest,
        "answered_per_s": round(seen[200] / SECONDS, 1),
        "p50_s": round(percentile(took, 0.5), 3),
        "p99_s": round(percentile(took, 0.99), 3),
        "rss_mb": {"before": round(before, 1), "most": round(max(memory), 1), "after": round(after, 1)},
        "targets": {"without_answer": 0, "grown_mb": 10},
    }
    print(json.dumps({"gateway_load": found}))
    return 0 if not dishonest and seen[200] and after - before <= 10 else 1


if __name__ == "__main__":
    sys.exit(main())
