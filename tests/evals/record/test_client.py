"""One model with all who ask it, against models whose faults are written down."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import pytest

from cascade.costs.prices import Pricer
from cascade.models.protocol import ModelError, Request
from cascade.policy.schema import ModelSpec
from evals.common.cost_budget import CostBudget
from evals.record import outage
from evals.record.adaptive_concurrency import AdaptiveLimiter
from evals.record.checkpoint import Checkpoint
from evals.record.client import FailedError, RecordingClient, StoppedError, StopSignal
from evals.record.dataset import Dataset
from evals.record.outage import Outage
from judges import Answer, Prompt, Usage


class Faulty:
    """A model that raises what it is told to, after ``before`` was called."""

    name = "m"

    def __init__(self, error: ModelError, before: Callable[[], None]) -> None:
        self.error, self.before = error, before

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Never an answer."""
        self.before()
        raise self.error

    async def close(self) -> None:
        """Holds nothing."""


def test_a_refusal_after_the_end_is_not_waited_out(tmp_path: Path) -> None:
    """Ctrl-C ends a run at once although the provider's last word was to wait for an hour."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}')
    work = Checkpoint(tmp_path / "work", Dataset(str(tmp_path / "rows.jsonl")).survey())
    spec = ModelSpec.model_validate({"provider": "openai", "model": "m"})

    async def main() -> None:
        halt = StopSignal()
        told = ModelError("m: HTTP 429", model="m", status=429, retryable=True, retry_after_s=3600.0, usage=Usage())
        model = Faulty(told, lambda: halt.stop("interrupted"))
        line = RecordingClient("m", model, Pricer("m", spec), AdaptiveLimiter(4), CostBudget(None), work, halt)
        began = monotonic()
        with pytest.raises(StoppedError):
            await asyncio.wait_for(line.ask(Prompt.of("x"), Request()), 5)
        assert monotonic() - began < 2

    try:
        asyncio.run(main())
    finally:
        work.close()


LOST = ModelError("m: connection lost", model="m", retryable=True)
UNREACHED = ModelError("m: no connection", model="m", retryable=True, usage=Usage())
BROKEN = ModelError("m: HTTP 500", model="m", status=500, retryable=True, usage=Usage())
REFUSED = ModelError("m: HTTP 400", model="m", status=400, usage=Usage())


@pytest.mark.parametrize("error", [LOST, UNREACHED, BROKEN])
def test_a_server_that_answered_is_down_after_faults_in_a_row(error: ModelError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any answer or refusal between them says that it is there; what it says is told once, and patience ends."""
    now = [0.0]
    monkeypatch.setattr(outage, "monotonic", lambda: now[0])
    told: list[str] = []
    server = Outage("m", 3, told.append)
    server.replied(answered=True)
    assert [server.failed(e) for e in (error, error, REFUSED, error, error, error, error)] == [False] * 5 + [True] * 2
    assert told == [f"\n{error}; nothing else for 3 requests, asking again for 3600 s"]
    now[0] = 3599.0
    assert not server.over_patience
    now[0] = 3600.0
    assert server.over_patience
    server.replied(answered=True)
    assert not server.over_patience
    assert told[1:] == ["\nm: is back after 3600 s"]


@pytest.mark.parametrize("error", [LOST, BROKEN])
def test_rows_that_a_server_never_answered_fail(error: ModelError) -> None:
    """A server that is reached, and fails from the first request on, may be unable to answer these rows."""
    server = Outage("m", 3, lambda _: None)
    assert not any(server.failed(error) for _ in range(10))
    assert [server.failed(UNREACHED) for _ in range(3)] == [False, False, True]


def test_what_is_no_outage_fails_the_row(tmp_path: Path) -> None:
    """A refused request fails at once."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}')
    work = Checkpoint(tmp_path / "work", Dataset(str(tmp_path / "rows.jsonl")).survey())
    spec = ModelSpec.model_validate({"provider": "openai", "model": "m"})

    async def main() -> None:
        line = RecordingClient(
            "m", Faulty(REFUSED, lambda: None), Pricer("m", spec), AdaptiveLimiter(4), CostBudget(None), work, StopSignal()
        )
        with pytest.raises(FailedError) as failed:
            await line.ask(Prompt.of("x"), Request())
        assert (failed.value.kind, failed.value.tries) == ("HTTP 400", 1)

    try:
        asyncio.run(main())
    finally:
        work.close()
