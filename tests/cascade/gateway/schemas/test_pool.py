"""The limit of a worker process counts its CPU time: a machine that does other work does not change a verdict."""

import asyncio
import os
import signal
import threading
import time

import pytest

from cascade.gateway.schemas.pool import SchemaPool

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="needs /proc")
SCHEMA = {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"}  # never small: it is sent to a worker
ENDLESS = {
    "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}] * 2} for i in range(40)} | {"d40": {}},
    "$ref": "#/$defs/d0",
}


def test_a_worker_that_gets_no_time_is_waited_for() -> None:
    """It is stopped for longer than the limit, as on a machine whose cores do other work."""

    async def go() -> str | None:
        pool = SchemaPool(workers=1, limit_s=0.5)
        try:
            assert (await pool.validate(SCHEMA, "{}", {})).veto is None
            (worker,) = pool._idle
            pid = worker._process.pid
            os.kill(pid, signal.SIGSTOP)
            threading.Timer(1.2, os.kill, (pid, signal.SIGCONT)).start()
            return (await pool.validate(SCHEMA, '{"a": 1}', {})).veto
        finally:
            await pool.aclose()

    assert asyncio.run(go()) is None


def test_a_worker_that_takes_its_time_is_ended() -> None:
    """By its own work it has no more than the limit, and a stopped one not more than five times as long."""

    async def go() -> float:
        pool = SchemaPool(workers=1, limit_s=0.5)
        try:
            assert (await pool.validate(SCHEMA, "{}", {})).veto is None
            began = time.monotonic()
            outcome = await pool.validate(ENDLESS, "{}", {})
            assert outcome.veto == "$: the validation took too long"
            assert not pool._idle
            return time.monotonic() - began
        finally:
            await pool.aclose()

    assert asyncio.run(go()) < 10
