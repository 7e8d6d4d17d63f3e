"""A process that forks, as servers that preload an application do: parent and child each use connections of their own."""

import sys
from pathlib import Path

import pytest

from tests.wire_server import Reply, WireServer, chat
from tests.workers import warm_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork")

ROOT = Path(__file__).parents[2]
CODE = """
import asyncio, os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore")  # from Python 3.12 on a process with threads that forks
import cascade
from cascade.policy.schema import PolicyFile

model = {"provider": "openai", "model": "m", "base_url": sys.argv[1], "max_concurrency": 1, "retry": {"attempts": 1}}
file = PolicyFile.model_validate({
    "models": {"m": {**model, "price": {"input_per_mtok": 1, "output_per_mtok": 1}}},
    "policies": {"default": {"budget_usd_per_day": 1.0, "tiers": [{"model": "m", "accept_at": 0}]}},
})
os.environ["OPENAI_API_KEY"] = "k"
service = cascade.Cascade(file)
assert service.run("before").text == "hello"
waiting = threading.Thread(target=service.run, args=("slow",))
waiting.start()
while service.health()["m"].in_flight == 0:
    time.sleep(0.01)
child = os.fork()
if not child:
    signal.alarm(10)
    ok = all(service.run(f"child {i}").text == "hello" for i in range(3))
    ok = ok and asyncio.run(service.arun("child, async")).text == "hello"
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0, "the child"
waiting.join()
assert all(service.run(f"parent {i}").text == "hello" for i in range(3))
service.close()
"""


def test_both_run_after_a_fork() -> None:
    """Also where the parent had a request in flight, which held the model's only slot; no connection is used by both."""

    def reply(received: object) -> Reply:
        slow = "slow" in str(received.body)  # type: ignore[attr-defined]
        return Reply(chat("hello"), delay_s=0.8 if slow else 0.0)

    with WireServer() as server:
        server.reply = reply
        done = warm_python.run(
            [sys.executable, "-c", CODE, server.base_url],
            cwd=ROOT, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        clients: dict[str, set[object]] = {"child": set(), "parent": set()}
        for received in server.received:
            who = str(received.body["messages"][-1]["content"]).split()[0].strip(",")
            clients["child" if who == "child" else "parent"].add(received.client)
        assert len(server.received) == 9
        assert not clients["child"] & clients["parent"]
