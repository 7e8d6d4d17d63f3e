"""The worker that sends requests: replies that had arrived survive it, others do not, and errors keep their fields."""

import asyncio
import os
import tempfile
from pathlib import Path

import pytest

from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import ModelSpec
from evals.engines.model_worker import Call, Fault, ModelWorker
from judges import Prompt, Usage


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where workers store replies."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def call(number: int, **more: object) -> Call:
    """A request to a model that always says "7"."""
    spec = ModelSpec.model_validate({"provider": "scripted", "answers": ["7"], **more})
    return Call(number=number, name="m", spec=spec, prompt=Prompt.of("3 + 4?"), request=Request())


async def outcomes_of(worker: ModelWorker, *numbers: int) -> dict[int, object]:
    """Sends requests and collects until all are answered."""
    await worker.send([call(number) for number in numbers], [])
    outcomes: dict[int, object] = {}
    while len(outcomes) < len(numbers):
        outcomes |= await worker.collect(5)
    return outcomes


def test_a_worker_finds_what_its_predecessor_had_received(folder: Path) -> None:
    """Replies by their numbers, each once; the folder belongs to its owner alone, and is empty at the end."""

    async def main() -> None:
        first = ModelWorker("run", 0)
        sent = await outcomes_of(first, 1, 2, 3)
        assert {one.stat().st_mode & 0o777 for one in first.folder.iterdir()} == {0o600}
        assert first.folder.stat().st_mode & 0o777 == 0o700
        await first.send([], [2])  # the caller has it
        (first.folder / "4.half").write_bytes(b"cut off by a kill")
        second = ModelWorker("run", 0)
        assert await second.recover([1, 2, 3, 4]) == {1: sent[1], 3: sent[3]}
        assert await second.recover([1, 3]) == {}
        other = ModelWorker("run", 1)
        assert await other.recover([1, 3]) == {}
        await other.close()
        await second.close()

    asyncio.run(main())
    assert not list(folder.iterdir())


def test_a_collect_without_replies_ends() -> None:
    """After the time that it may wait."""
    worker = ModelWorker("run", 0)
    assert asyncio.run(worker.collect(0.01)) == {}


def test_a_full_disk_loses_no_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    """The reply is handed over, only a kill would lose it."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    outcomes = asyncio.run(outcomes_of(ModelWorker("run", 0), 1))
    assert [answer.text for answer in outcomes[1]] == ["7"]  # type: ignore[attr-defined]


def test_an_error_keeps_its_fields() -> None:
    """What decides about retries and costs."""
    error = ModelError("slow down", model="m", retryable=True, status=429, usage=Usage(), retry_after_s=1.5, kind="other")
    again = Fault.of(error).to_error()
    assert str(again) == str(error)
    assert vars(again) == vars(error)


def test_a_missing_key_is_permanent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker's environment lacks it: no retry helps."""
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)

    async def main() -> object:
        worker = ModelWorker("run", 0)
        await worker.send([call(1, provider="openai", answers=[], api_key_env="NO_SUCH_KEY")], [])
        return (await worker.collect(5))[1]

    fault = asyncio.run(main())
    assert isinstance(fault, Fault)
    assert (fault.status, fault.retryable, fault.usage) == (401, False, Usage())
    assert "NO_SUCH_KEY" in fault.message
