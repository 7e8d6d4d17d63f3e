"""The journal's Postgres is killed in the middle of traffic and comes back, more than once."""

import asyncio
import sys
import time
from collections import Counter
from pathlib import Path

import httpx2
import psycopg
import pytest

from tests.cascade.gateway.serve.test_server import process
from tests.cascade.gateway.serve.test_supervisor import QUESTION, Load, wait_until
from tests.workers.postgres_server import PostgresServer, missing

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="kills processes that it finds in /proc")

FILE = """
journal: {{url: "{url}", durability: {durability}}}
state: {{fail: {fail}}}
models: {{m: {{provider: scripted, answers: ["51"], price: {{input_per_mtok: 1, output_per_mtok: 1}}}}}}
policies: {{default: {{tiers: [{{model: m, accept_at: 0.0}}], budget_usd_per_day: 1000}}}}
"""
OUTAGES = 2


@pytest.mark.parametrize(("durability", "fail"), [("full", "closed"), ("batched", "open")])
def test_nothing_is_lost_from_the_journal(tmp_path: Path, durability: str, fail: str) -> None:
    """Every run that a client got is recorded once, by two workers, whose budget is in the same database.

    With ``full`` a run is returned once it is recorded; with ``batched`` records wait in memory until the database is back.
    """
    if reason := missing():
        pytest.skip(reason)
    server = PostgresServer()
    try:
        url = server.url()
        (tmp_path / "policies.yaml").write_text(FILE.format(url=url, durability=durability, fail=fail))
        arguments = ("--policy-file", str(tmp_path / "policies.yaml"), "--workers", "2")
        with process(*arguments, TMPDIR=str(tmp_path)) as (_, address, _):
            load = Load(address)

            def kill_and_start() -> None:
                for _ in range(OUTAGES):
                    before = len(load.run_ids)
                    wait_until(lambda before=before: len(load.run_ids) > before + 30)
                    server.kill()
                    time.sleep(1.0)
                    server.start()
                wait_until(lambda: httpx2.post(f"{address}/v1/route", json=QUESTION, timeout=30).status_code == 200)

            asyncio.run(load.during(kill_and_start))

            def rows() -> Counter[str]:
                with psycopg.connect(url) as connection:
                    return Counter(run_id for (run_id,) in connection.execute("SELECT run_id FROM cascade_runs"))

            wait_until(lambda: set(load.run_ids) <= set(rows()))
            assert set(rows().values()) == {1}
            assert len(load.run_ids) > OUTAGES * 30
            # While the database is unavailable, runs wait for it or fail as the rules say; nothing else fails.
            assert set(load.failures) <= {"500", "503"}, load.failures
    finally:
        server.close()
