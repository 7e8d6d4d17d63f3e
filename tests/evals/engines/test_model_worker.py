"""The worker and the process that sends its requests: a worker's death loses nothing and repeats nothing."""

import asyncio
import os
import pickle
import signal
import socket
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic

import pytest

from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import ModelSpec
from evals.engines import sender
from evals.engines.calls import Call, Fault
from evals.engines.model_worker import ModelWorker, folder_of
from judges import Prompt, Usage
from tests.evals.record.provider import Provider


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    """A provider in a process of its own, which counts requests."""
    with Provider() as running:
        yield running


@pytest.fixture
def run() -> Iterator[str]:
    """The name of a run, whose senders are ended afterwards."""
    name = uuid.uuid4().hex
    yield name
    for place in (0, 1):
        with suppress(ConnectionError, FileNotFoundError):
            sender.exchange(folder_of(name, place), "close")
    assert not folder_of(name, 0).parent.exists()


def call(number: int, **more: object) -> Call:
    """A request to a model that always says "7"."""
    spec = ModelSpec.model_validate({"provider": "scripted", "answers": ["7"], **more})
    return Call(number=number, name=spec.provider, spec=spec, prompt=Prompt.of(f"{number} + 4?"), request=Request())


def paid(number: int, provider: Provider) -> Call:
    """A request that a provider counts."""
    key = {"CASCADE_TEST_KEY": "k"}
    os.environ.update(key)
    return call(
        number, provider="openai", answers=[], model="small", base_url=f"{provider.url}/v1", api_key_env="CASCADE_TEST_KEY"
    )


async def collected(worker: ModelWorker, count: int) -> dict[int, object]:
    """The outcomes of so many calls."""
    outcomes: dict[int, object] = {}
    until = monotonic() + 60
    while len(outcomes) < count and monotonic() < until:
        outcomes |= {number: pickle.loads(data) for number, data in (await worker.collect(5)).items()}
    return outcomes


def die(worker: ModelWorker) -> None:
    """What the sender notices of a worker's death."""
    worker._held.close()


def test_a_worker_finds_what_its_predecessor_had_received(run: str) -> None:
    """Replies by their numbers, until the command has them; the folder belongs to its owner alone."""

    async def main() -> None:
        first = ModelWorker(run, 0)
        await first.attach([])
        await first.send([call(number) for number in (1, 2, 3)], [])
        outcomes = await collected(first, 3)
        assert {one.stat().st_mode & 0o777 for one in first.folder.iterdir() if one.name.isdecimal()} == {0o600}
        assert first.folder.stat().st_mode & 0o777 == 0o700
        await first.send([], [2])  # the command has it
        die(first)
        second = ModelWorker(run, 0)
        custody = await second.attach([1, 2, 3, 4])
        assert {number: pickle.loads(data) for number, data in custody.outcomes.items()} == {1: outcomes[1], 3: outcomes[3]}
        assert not custody.under_way
        other = ModelWorker(run, 1)
        assert (await other.attach([1, 3])).outcomes == {}
        await other.close()
        await second.close()

    asyncio.run(main())


def test_requests_under_way_outlive_the_worker(run: str, provider: Provider) -> None:
    """Their replies come to the worker that takes its place, and none is sent a second time, not even if it asks for it."""
    provider.behave(delay_s=0.5)
    calls = [paid(number, provider) for number in range(20)]

    async def main() -> None:
        worker = ModelWorker(run, 0)
        custody = await worker.attach([])
        await worker.send(calls[:10], [])
        waiting = asyncio.ensure_future(worker.collect(30))  # of a worker that dies in it
        await asyncio.sleep(0.1)
        for _ in range(3):
            die(worker)
            worker = ModelWorker(run, 0)
            after = await worker.attach([one.number for one in calls])
            assert after.sender == custody.sender
            assert sorted([*after.outcomes, *after.under_way]) == list(range(10))
            await worker.send(calls[:5], [])
        await worker.send(calls, [])
        outcomes = await collected(worker, 20)
        assert await waiting == {}
        assert sorted(outcomes) == list(range(20))
        assert not any(isinstance(one, Fault) for one in outcomes.values())
        await worker.close()

    asyncio.run(main())
    assert set(provider.counts()["received"].values()) == {1}
    assert len(provider.counts()["received"]) == 20


def test_a_dead_sender_leaves_what_it_had_received(run: str, provider: Provider) -> None:
    """The next one finds these replies on the disk; a request under way is known to none, so that it counts as paid."""
    provider.behave(delay_s=30)

    async def main() -> None:
        first = ModelWorker(run, 0)
        before = await first.attach([])
        await first.send([call(1), paid(2, provider)], [])
        await collected(first, 1)
        (first.folder / "3.half").write_bytes(b"cut off by a kill")
        (process,) = sender_processes(first.folder)
        os.kill(process, signal.SIGKILL)
        with pytest.raises((ConnectionError, FileNotFoundError)):
            await collected(first, 2)
        die(first)
        second = ModelWorker(run, 0)
        custody = await second.attach([1, 2, 3])
        assert custody.sender != before.sender
        assert ([*custody.outcomes], [*custody.under_way]) == ([1], [])
        await second.close()

    asyncio.run(main())


def sender_processes(folder: Path) -> list[int]:
    """The processes that listen in a folder."""
    lines = {
        int(one.name): (one / "cmdline").read_bytes() for one in Path("/proc").glob("[0-9]*") if (one / "cmdline").exists()
    }
    return [process for process, line in lines.items() if str(folder).encode() in line and b"evals.engines.sender" in line]


def test_a_sender_without_a_worker_ends(tmp_path: Path) -> None:
    """After a while, and its folder is gone."""
    folder = Path(tempfile.mkdtemp(prefix="c")) / "run" / "0"
    folder.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / sender.SOCKET))
        listener.listen()
        asyncio.run(asyncio.wait_for(sender.serve(listener, folder, idle_s=0.05), 10))
    assert not folder.parent.exists()
    folder.parent.parent.rmdir()


def test_a_collect_without_replies_ends(run: str) -> None:
    """After the time that it may wait."""

    async def main() -> None:
        worker = ModelWorker(run, 0)
        await worker.attach([])
        assert await worker.collect(0.01) == {}
        await worker.close()

    asyncio.run(main())


def test_a_full_disk_loses_no_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is handed over; only a kill of the sender would lose it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def main() -> object:
        one = sender.Sender(tmp_path)
        custody = await one.attach([])
        await one.send([call(1)], [])
        return pickle.loads((await one.collect(custody.worker, 5))[1])

    monkeypatch.setattr(os, "replace", full)
    assert [answer.text for answer in asyncio.run(main())] == ["7"]  # type: ignore[attr-defined]


def test_an_error_keeps_its_fields() -> None:
    """What decides about retries and costs."""
    error = ModelError("slow down", model="m", retryable=True, status=429, usage=Usage(), retry_after_s=1.5, kind="other")
    again = Fault.of(error).to_error()
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_missing_key_is_permanent(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's environment lacks it: no retry helps."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    async def main() -> object:
        worker = ModelWorker(run, 0)
        await worker.attach([])
        await worker.send([call(1, provider="openai", answers=[], api_key_env="NO_SUCH_KEY")], [])
        outcomes = await collected(worker, 1)
        await worker.close()
        return outcomes[1]

    fault = asyncio.run(main())
    assert isinstance(fault, Fault)
    assert (fault.status, fault.retryable, fault.usage) == (401, False, Usage())
    assert "NO_SUCH_KEY" in fault.message
