"""2,000 clients at once over a provider that takes 50 ms: every answer is one or an honest 503, and memory comes back.

Prints JSON, fails where a request failed otherwise or memory grew. ``seconds`` as the argument (default 60).
"""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from time import monotonic

from tests.benchmarks.bench_gateway import PROVIDER, UPSTREAM, Client, clients, gateway, process

CLIENTS = 2000
SLOW = PROVIDER.replace(
    "self.transport.write(HEAD + BODY)",
    "asyncio.get_running_loop().call_later(0.05, self.transport.write, HEAD + BODY)",
)


def megabytes(pid: int) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


async def soak(port: int, seconds: float) -> Counter[int]:
    """Every client asks again as soon as it was answered; one that was turned away waits as it was told."""
    statuses: Counter[int] = Counter()
    connections = await clients(port, CLIENTS)
    ends = monotonic() + seconds

    async def worker(client: Client) -> None:
        while monotonic() < ends:
            status = await client.ask()
            statuses[status] += 1
            if status == 0:
                return
            if status != 200:
                await asyncio.sleep(1)

    await asyncio.gather(*map(worker, connections))
    return statuses


def main() -> int:
    """Warms up with the same load, then measures: memory after a second round is that after the first."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with process("-c", SLOW) as (provider, _), gateway(UPSTREAM.format(url=f"http://127.0.0.1:{provider}")) as (port, pid):
        asyncio.run(soak(port, seconds / 4))
        before = megabytes(pid)
        statuses = asyncio.run(soak(port, seconds))
        after = megabytes(pid)
    counts = {str(status): count for status, count in sorted(statuses.items())}
    ok = set(statuses) <= {200, 429, 503} and statuses[200] > 0 and after <= before * 1.15
    result = {"clients": CLIENTS, "seconds": seconds, "statuses": counts, "mb_before": before, "mb_after": after, "ok": ok}
    print(json.dumps({"gateway_soak": result}))
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
