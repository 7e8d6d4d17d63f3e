"""Two workers against one, over the wire with an HTTP upstream; prints JSON, fails where the target is missed.

``by_clock`` is the ratio of requests a second, which needs a calm machine with four processors (gateway, client, upstream).
``by_cpu`` does not depend on what else runs: the requests by the processor time of the busiest worker, against one worker's.
A worker that got too many connections, or a lock that both wait for by spinning, shows in it.
"""

import asyncio
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from time import perf_counter, sleep

from tests.benchmarks.bench_gateway import PROVIDER, UPSTREAM, Client, clients, cpu_s, process

TARGET = 1.8
CONNECTIONS, REQUESTS, ROUNDS = 64, 2560, 2


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def measure(port: int, workers: list[int]) -> tuple[float, float]:
    """Requests a second by the clock, and by the processor time of the busiest worker."""
    asking = await clients(port, CONNECTIONS)
    await asyncio.sleep(0.3)
    before, began = [cpu_s(pid) for pid in workers], perf_counter()

    async def ask(client: Client) -> None:
        for _ in range(REQUESTS // CONNECTIONS):
            assert await client.ask() == 200

    await asyncio.gather(*map(ask, asking))
    seconds = perf_counter() - began
    busiest = max(cpu_s(pid) - cpu for pid, cpu in zip(workers, before, strict=True))
    for client in asking:
        client.close()
    sent = REQUESTS // CONNECTIONS * CONNECTIONS
    return sent / seconds, sent / busiest


def main() -> int:
    """Measures in turn, so that the machine's noise is in both."""
    rates: dict[int, list[tuple[float, float]]] = {1: [], 2: []}
    with process("-c", PROVIDER) as (provider, _), tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policies.yaml")
        path.write_text(UPSTREAM.format(url=f"http://127.0.0.1:{provider}"))
        serve = ("-m", "cascade", "serve", "--policy-file", str(path), "--port", "0", "--stop-on-eof", "--workers")
        for _ in range(ROUNDS):
            for workers in rates:
                with process(*serve, str(workers)) as (port, pid):
                    sleep(0.5)
                    rates[workers].append(asyncio.run(measure(port, children(pid))))
    by_clock, by_cpu = (
        statistics.median(r[i] for r in rates[2]) / statistics.median(r[i] for r in rates[1]) for i in (0, 1)
    )
    calm = os.getloadavg()[0] < 3 and (os.cpu_count() or 1) >= 4
    results = {
        "one_worker_per_s": round(statistics.median(r[0] for r in rates[1])),
        "two_workers_per_s": round(statistics.median(r[0] for r in rates[2])),
        "by_clock": round(by_clock, 2),
        "by_cpu": round(by_cpu, 2),
        "calm": calm,
    }
    missed = by_cpu < TARGET or (calm and by_clock < TARGET)
    print(json.dumps({"benchmark": "workers", **results, "target": TARGET, "missed": missed}))
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
