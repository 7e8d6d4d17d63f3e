"""Two workers against one, over the wire with an HTTP upstream; prints JSON, fails where the target is missed.

Both gateways run from the beginning, and are measured in turn, so that what else the machine does is in both. ``by_clock``
is the median over the rounds of the ratio of requests a second; ``interval`` holds that median with a probability of at
least 95 % (binomial, of any distribution). It counts where nothing else runs as the benchmark begins. ``by_cpu`` does not
depend on what else runs: the requests by the processor time of the busiest worker, against one worker's. A worker that got
too many connections, or a lock that both wait for by spinning, shows in it. ``load_cpu`` is the share of one core that the
clients and the upstream take, which two workers on two cores lack.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import comb
from pathlib import Path
from time import process_time, sleep

from tests.benchmarks.bench_gateway import UPSTREAM, cpu_s, percentile, process
from tests.benchmarks.workers.wire_load import WireLoad
from tests.machine import CALM, idle_share

TARGET, TAIL_TARGET = 1.8, 3.0
CONNECTIONS, REQUESTS, ROUNDS = 64, 2560, 7
JOURNAL = 'journal: {{url: "sqlite:///{folder}/journal.db", durability: batched}}\n'


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@contextmanager
def gateway(upstream: int, workers: int, *, has_journal: bool) -> Iterator[tuple[int, list[int]]]:
    """A gateway's port and the processes of its workers."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "policies.yaml")
        journal = JOURNAL.format(folder=folder) if has_journal else ""
        path.write_text(journal + UPSTREAM.format(url=f"http://127.0.0.1:{upstream}"))
        serve = ("-m", "cascade", "serve", "--policy-file", str(path), "--port", "0", "--stop-on-eof", "--workers")
        with process(*serve, str(workers)) as (port, pid):
            sleep(0.5)
            yield port, children(pid)


def measure(load: WireLoad, port: int, workers: list[int]) -> dict[str, float]:
    """Requests a second by the clock and by the processor time of the busiest worker, and latencies in milliseconds."""
    own, before = process_time(), [cpu_s(pid) for pid in workers]
    seen = load.ask(port, REQUESTS, CONNECTIONS)
    busiest = max(cpu_s(pid) - cpu for pid, cpu in zip(workers, before, strict=True))
    p50, p99 = (1000 * percentile(seen.latencies, share) for share in (0.5, 0.99))
    return {
        "per_s": REQUESTS / seen.seconds,
        "per_cpu_s": REQUESTS / busiest,
        "load_cpu": (process_time() - own) / seen.seconds,
        "p50_ms": p50,
        "p99_ms": p99,
        "tail": p99 / p50,
    }


def interval(values: Sequence[float]) -> tuple[float, float]:
    """An interval for the median: the smallest symmetric pair of values that holds it with 95 %, or all of them."""
    ordered, n = sorted(values), len(values)
    outside = [2 * sum(comb(n, k) for k in range(i + 1)) / 2**n for i in range(n // 2)]
    cut = sum(share <= 0.05 for share in outside)
    first = max(0, cut - 1) if cut else 0
    return ordered[first], ordered[n - 1 - first]


def main() -> int:
    """Measures in turn."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument("--journal", action="store_true", help="with a journal in SQLite")
    args = parser.parse_args()
    calm = idle_share() > CALM
    rounds: dict[int, list[dict[str, float]]] = {1: [], 2: []}
    with ExitStack() as stack:
        load = WireLoad()
        stack.callback(load.close)
        gateways = {n: stack.enter_context(gateway(load.port, n, has_journal=args.journal)) for n in rounds}
        for number in range(args.rounds):
            for workers in (1, 2) if number % 2 else (2, 1):
                rounds[workers].append(measure(load, *gateways[workers]))
    ratios = {
        name: [two[name] / one[name] for one, two in zip(rounds[1], rounds[2], strict=True)]
        for name in ("per_s", "per_cpu_s")
    }
    by_clock, by_cpu = statistics.median(ratios["per_s"]), statistics.median(ratios["per_cpu_s"])
    medians = {n: {name: statistics.median(one[name] for one in seen) for name in seen[0]} for n, seen in rounds.items()}
    missed = [by_cpu < TARGET, calm and by_clock < TARGET, calm and any(m["tail"] > TAIL_TARGET for m in medians.values())]
    results = {
        "by_clock": round(by_clock, 3),
        "interval": [round(limit, 3) for limit in interval(ratios["per_s"])],
        "by_cpu": round(by_cpu, 3),
        "one_worker": {name: round(value, 2) for name, value in medians[1].items()},
        "two_workers": {name: round(value, 2) for name, value in medians[2].items()},
        "tails": {n: [round(one["tail"], 2) for one in seen] for n, seen in rounds.items()},
        "calm": calm,
        "n": {"rounds": args.rounds, "requests": REQUESTS, "connections": CONNECTIONS},
    }
    targets = {"ratio": TARGET, "p99_over_p50": TAIL_TARGET}
    print(json.dumps({"workers": {**results, "targets": targets, "ok": not any(missed)}}))
    return int(any(missed))


if __name__ == "__main__":
    sys.exit(main())
