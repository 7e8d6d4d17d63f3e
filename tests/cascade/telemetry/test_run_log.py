"""The line of each run in the logger ``cascade.run``."""

import asyncio
import logging

import pytest

import cascade
from cascade.models.protocol import ModelError
from cascade.models.scripted import ScriptedModel
from cascade.util.log_events import Event

POLICY = cascade.Policy.model_validate({"tiers": [{"model": "m", "accept_at": 0.0}]})
SECRET = "the prompt's own words"


def service(*answers: str | Exception) -> cascade.Cascade:
    """A Cascade of one tier that answers so."""
    return cascade.Cascade(POLICY, models={"m": ScriptedModel("m", list(answers))})


def fields(caplog: pytest.LogCaptureFixture) -> dict[str, object]:
    """The fields of the only line."""
    (record,) = [r for r in caplog.records if r.name == "cascade.run"]
    assert record.levelno == logging.INFO
    assert isinstance(record.msg, Event)
    assert SECRET not in record.getMessage()
    return record.msg.fields


def test_a_run_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With what an operator searches by, and no text."""
    caplog.set_level(logging.INFO, "cascade.run")
    with service(f"no {SECRET}") as one:
        result = one.run(SECRET, tags={"team": SECRET})
    line = fields(caplog)
    assert (line["run_id"], line["policy"], line["reason"]) == (result.run_id, "default", result.reason)
    assert (line["accepted"], line["tier"], line["model"], line["calls"]) == (result.accepted, "m", "m", 1)
    assert 0 <= float(str(line["seconds"])) < 10


def test_a_run_that_fails_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """With the error's class and the run's id."""
    caplog.set_level(logging.INFO, "cascade.run")
    with service(ModelError(SECRET, model="m", status=400)) as one, pytest.raises(cascade.ProviderError) as raised:
        one.run(SECRET)
    line = fields(caplog)
    assert (line["run_id"], line["error"], line["reason"]) == (raised.value.run_id, "ProviderError", "provider_failure")
    assert line["accepted"] is False


def test_a_cancelled_run_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Its cost is unknown."""
    caplog.set_level(logging.INFO, "cascade.run")

    async def cancel() -> None:
        async with cascade.Cascade(POLICY, models={"m": ScriptedModel("m", ["x"], delay_s=10)}) as one:
            task = asyncio.ensure_future(one.arun(SECRET))
            await asyncio.sleep(0.01)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(cancel())
    line = fields(caplog)
    assert (line["reason"], line["cost_usd"], line["error"]) == ("cancelled", None, "CancelledError")


def test_without_the_level_nothing_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even the module's function is called."""
    logging.getLogger("cascade.run").setLevel(logging.WARNING)
    monkeypatch.setattr("cascade.telemetry.run_log.log_run", None)
    with service("x") as one:
        assert one.run("q").text == "x"
    logging.getLogger("cascade.run").setLevel(logging.NOTSET)
