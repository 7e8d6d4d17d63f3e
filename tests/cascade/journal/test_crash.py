"""A process that dies at any moment, killed for real."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from cascade.journal.open_store import open_store
from cascade.journal.read.verify import StoredPolicy, verify
from tests.cascade.journal.cascades import policies, records
from tests.workers import warm_python

ROOT = Path(__file__).parents[3]
KILLS = {"sqlite": 8, "postgresql": 4}  # a hundred in tests/benchmarks/journal/bench_journal_crash.py

# Prints each run's id once the run has returned it; the id leaves the process before the next line of it runs.
SERVICE = """
import asyncio, os, sys
from tests.cascade.journal.cascades import cascade
from cascade.policy.journal_config import JournalSpec

async def serve(c):
    while True:
        result = await c.arun("What is 6 * 7?", tags={"pid": os.getpid()})
        os.write(1, result.run_id.encode() + b"\\n")

async def main():
    async with cascade(JournalSpec(url=sys.argv[1], durability="full", keep_days=1)) as c:
        await asyncio.gather(*(serve(c) for _ in range(20)))

asyncio.run(main())
"""


def killed_service(url: str, seconds: float, *, early: bool) -> list[str]:
    """The ids that a service returned till it was killed, ``seconds`` after its first, or after it was started."""
    service = warm_python.Popen([sys.executable, "-c", SERVICE, url], stdout=subprocess.PIPE, cwd=ROOT)
    assert service.stdout is not None
    first = b"" if early else service.stdout.read(33)
    time.sleep(seconds)
    service.send_signal(signal.SIGKILL)
    output = (first + service.communicate()[0]).decode()
    assert service.returncode == -signal.SIGKILL
    # A write of 33 bytes to a pipe is whole or not there at all.
    assert all(len(line) == 32 for line in output.splitlines())
    return output.splitlines()


def crash_often(url: str, kills: int, seed: int = 0) -> int:
    """Kills a service ``kills`` times, and checks after each that every id it returned is there exactly once."""
    rng = random.Random(seed)
    returned: list[str] = []
    for _ in range(kills):
        early = rng.random() < 0.25  # while it starts, perhaps while it makes the tables
        returned += killed_service(url, rng.uniform(0.0, 0.3) if early else rng.uniform(0.0, 0.25), early=early)
        if url.startswith("sqlite"):
            store = open_store(url)
            assert store.execute("PRAGMA integrity_check") == [("ok",)]
            store.close()
    rows = records(url)
    run_ids = [r.run_id for r in rows]
    assert len(set(run_ids)) == len(run_ids)
    assert set(returned) <= set(run_ids)
    assert len(set(returned)) == len(returned)
    stored = {hash: StoredPolicy.of(hash, text) for hash, text in policies(url).items()}
    assert [d for r in rows for d in verify(r, stored.get(r.policy_hash))] == []
    return len(returned)


def test_no_returned_run_is_lost(url: str) -> None:
    """SIGKILL at random moments: with `full` every run that returned is in the journal once, and the database is whole."""
    kills = KILLS[url.partition(":")[0]]
    assert crash_often(url, kills) > kills
