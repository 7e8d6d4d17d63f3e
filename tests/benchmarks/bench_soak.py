"""Many runs with many faults: memory, tasks and file descriptors must not grow. ``--runs`` shortens it; prints JSON.

Retries, breakers and a batched journal are on. The server is a process of its own. Memory is the resident set after a
garbage collection and ``malloc_trim``, which gives back to the system what the allocator merely keeps; growth counts from
the first fifth of the runs on.
"""

import argparse
import asyncio
import ctypes
import gc
import json
import os
import sys
import tempfile
from collections import Counter
from time import perf_counter

from cascade import Cascade
from cascade.errors import RunError
from cascade.policy.schema import PolicyFile
from tests.faults.process import FaultServer
from tests.faults.replies import FAULTS, Plan

CONCURRENT, RATE = 200, 0.2
LARGE = ("huge", "bomb")
# Bodies of 20 MB are one fault in two hundred: more would measure the copying of bytes.
MIX = tuple(f for f in FAULTS if f not in (*LARGE, "refused")) * 20 + LARGE
TIERS = {
    "cheap": ("openai", "no idea"),
    "balanced": ("anthropic", "the answer is 42"),
    "premium": ("openai", "the answer is 7"),
}


def policies(server: FaultServer, journal: str) -> PolicyFile:
    """Three tiers of two providers, each with all faults; the answers of the first are rejected. All else is default."""
    models = {
        name: {
            "provider": provider,
            "base_url": server.base_url(name, provider),
            "price": {"input_per_mtok": 1.0, "output_per_mtok": 4.0},
            "timeout_s": 2.0,  # a saturated client takes a good part of a second for each of 200 requests at once
        }
        for name, (provider, _) in TIERS.items()
    }
    judges = [{"use": "rules", "pattern": "answer"}]
    tiers = [{"name": name, "model": name, "accept_at": 0.5, "judges": judges} for name in TIERS]
    policy = {"tiers": tiers, "deadline_s": 30.0}
    return PolicyFile.model_validate({"models": models, "policies": {"default": policy}, "journal": {"url": journal}})


def sample() -> dict[str, float]:
    """Resident megabytes, tasks and file descriptors of this process."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return {
        "rss_mb": round(pages * os.sysconf("SC_PAGESIZE") / 2**20, 2),
        "tasks": len(asyncio.all_tasks()),
        "fds": len(os.listdir("/proc/self/fd")),
    }


async def soak(server: FaultServer, journal: str, runs: int) -> tuple[list[dict[str, float]], Counter[str], float]:
    """A sample after each fifth of the runs, the runs' ends by reason, and runs a second."""
    ends: Counter[str] = Counter()
    samples = []
    async with Cascade(policies(server, journal)) as cascade:

        async def worker(numbers: range) -> None:
            for number in numbers:
                try:
                    ends[(await cascade.arun(f"run:{number} what is it?")).reason] += 1
                except RunError as error:
                    ends[type(error).__name__] += 1

        began = perf_counter()
        for part in range(5):
            first, last = runs * part // 5, runs * (part + 1) // 5
            await asyncio.gather(*(worker(range(first + i, last, CONCURRENT)) for i in range(CONCURRENT)))
            samples.append(sample())
        rate = runs / (perf_counter() - began)
    return samples, ends, rate


def main() -> int:
    """Runs it and compares the last sample with the first."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=50_000)
    runs = parser.parse_args().runs
    with FaultServer() as server, tempfile.TemporaryDirectory() as folder:
        server.plan({name: Plan(text, faults=MIX, rate=RATE) for name, (_, text) in TIERS.items()}, keep=False)
        samples, ends, rate = asyncio.run(soak(server, f"sqlite:///{folder}/journal.db", runs))
        requests = sum(server.ledger().requests.values())
    first, last = samples[0], samples[-1]
    grown = {key: round(last[key] - first[key], 2) for key in first}
    targets = {"rss_mb": 5.0, "tasks": 0, "fds": 20}
    answered = ends["accepted"] / runs  # or else little was asked, and little could leak
    result = {
        "runs": runs,
        "requests": requests,
        "concurrent": CONCURRENT,
        "runs_per_s": round(rate),
        "ends": dict(ends),
        "accepted_share": round(answered, 4),
        "grown": grown,
        "targets": targets,
        "samples": samples,
    }
    print(json.dumps({"soak": result}))
    return 0 if answered > 0.95 and all(grown[key] <= most for key, most in targets.items()) else 1


if __name__ == "__main__":
    sys.exit(main())
