"""The client of one model, against scripted errors."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from time import monotonic

import pytest

from cascade.costs.prices import Pricer
from cascade.models.protocol import Model, ModelError, Request
from cascade.policy.schema import ModelSpec
from evals.common.cost_budget import CostBudget
from evals.record import outage
from evals.record.adaptive_concurrency import AdaptiveLimiter
from evals.record.checkpoint import Checkpoint
from evals.record.client import RecordingClient, RequestFailedError, StoppedError, StopSignal
from evals.record.dataset import Dataset
from evals.record.outage import Outage
from judges import Answer, Prompt, Usage


def make_client(model: Model, spec: ModelSpec, checkpoint: Checkpoint, stop_signal: StopSignal) -> RecordingClient:
    """A client of the model without a cost limit."""
    return RecordingClient(
        name="m",
        model=model,
        pricer=Pricer("m", spec),
        limiter=AdaptiveLimiter(4),
        budget=CostBudget(None),
        checkpoint=checkpoint,
        stop_signal=stop_signal,
    )


class Faulty:
    """A model that calls ``before`` and raises ``error``."""

    name = "m"

    def __init__(self, error: ModelError, before: Callable[[], None]) -> None:
        self.error, self.before = error, before

    async def answer(self, prompt: Prompt, request: Request) -> Sequence[Answer]:
        """Never an answer."""
        self.before()
        raise self.error

    async def close(self) -> None:
        """Holds nothing."""


def test_a_rejection_after_the_end_does_not_delay_it(tmp_path: Path) -> None:
    """Ctrl-C ends a run at once although the provider's last word was to wait for an hour."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}')
    checkpoint = Checkpoint(tmp_path / "work", Dataset(str(tmp_path / "rows.jsonl")).survey())
    spec = ModelSpec.model_validate({"provider": "openai", "model": "m"})

    async def main() -> None:
        stop_signal = StopSignal()
        error = ModelError("m: HTTP 429", model="m", status=429, retryable=True, retry_after_s=3600.0, usage=Usage())
        model = Faulty(error, lambda: stop_signal.stop("interrupted"))
        client = make_client(model, spec, checkpoint, stop_signal)
        started = monotonic()
        with pytest.raises(StoppedError):
            await asyncio.wait_for(client.ask(Prompt.of("x"), Request()), 5)
        assert monotonic() - started < 2

    try:
        asyncio.run(main())
    finally:
        checkpoint.close()


LOST = ModelError("m: connection lost", model="m", retryable=True)
UNREACHED = ModelError("m: no connection", model="m", retryable=True, usage=Usage())
BROKEN = ModelError("m: HTTP 500", model="m", status=500, retryable=True, usage=Usage())
REFUSED = ModelError("m: HTTP 400", model="m", status=400, usage=Usage())


@pytest.mark.parametrize("error", [LOST, UNREACHED, BROKEN])
def test_a_server_that_answered_is_down_after_faults_in_a_row(error: ModelError, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any reply in between shows that it is up; the outage is reported once, and the wait ends."""
    now = [0.0]
    monkeypatch.setattr(outage, "monotonic", lambda: now[0])
    reports: list[str] = []
    server = Outage("m", 3, reports.append)
    server.record_reply(answered=True)
    assert [server.record_error(e) for e in (error, error, REFUSED, error, error, error, error)] == [False] * 5 + [True] * 2
    assert reports == [f"\n{error}; the last 3 requests failed, retrying for 3600 s"]
    now[0] = 3599.0
    assert not server.expired
    now[0] = 3600.0
    assert server.expired
    server.record_reply(answered=True)
    assert not server.expired
    assert reports[1:] == ["\nm: back after 3600 s"]


@pytest.mark.parametrize("error", [LOST, BROKEN])
def test_rows_that_a_server_never_answered_fail(error: ModelError) -> None:
    """A server that is reached, and fails from the first request on, may be unable to answer these rows."""
    server = Outage("m", 3, lambda _: None)
    assert not any(server.record_error(error) for _ in range(10))
    assert [server.record_error(UNREACHED) for _ in range(3)] == [False, False, True]


def test_what_is_no_outage_fails_the_row(tmp_path: Path) -> None:
    """A refused request fails at once."""
    (tmp_path / "rows.jsonl").write_text('{"prompt": "x"}')
    checkpoint = Checkpoint(tmp_path / "work", Dataset(str(tmp_path / "rows.jsonl")).survey())
    spec = ModelSpec.model_validate({"provider": "openai", "model": "m"})

    async def main() -> None:
        client = make_client(Faulty(REFUSED, lambda: None), spec, checkpoint, StopSignal())
        with pytest.raises(RequestFailedError) as failed:
            await client.ask(Prompt.of("x"), Request())
        assert (failed.value.kind, failed.value.attempts) == ("HTTP 400", 1)

    try:
        asyncio.run(main())
    finally:
        checkpoint.close()
