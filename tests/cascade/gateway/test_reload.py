"""What changes while the gateway runs: policies, calibrations; and what stays."""

import json
import time
from pathlib import Path

import pytest

from cascade.gateway import reload
from cascade.policy import calibration_file, load
from tests.cascade.gateway.auth.test_keys import eventually
from tests.cascade.gateway.conftest import Serve
from tests.cascade.gateway.test_limits import SCRIPTED


def test_policies_change_while_it_runs(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A good file is in service within seconds; a bad one leaves the old one there and says why."""
    monkeypatch.setattr(reload, "EVERY_S", 0.1)
    path = tmp_path / "policies.yaml"
    path.write_text(SCRIPTED)
    running = serve(SCRIPTED, path=path)

    def answered() -> str:
        return str(running.chat().json()["choices"][0]["message"]["content"])

    assert answered() == "one"
    path.write_text(SCRIPTED.replace("one", "two"))
    eventually(lambda: answered() == "two")
    assert running.gateway.reload_status.error is None
    path.write_text(SCRIPTED.replace("accept_at", "acept_at"))
    eventually(lambda: running.gateway.reload_status.error is not None)
    message = running.gateway.reload_status.error
    assert message is not None
    assert "policies.yaml:3" in message
    assert "did you mean 'accept_at'" in message
    assert answered() == "two"
    path.write_text(SCRIPTED.replace("one", "three"))
    eventually(lambda: answered() == "three")
    assert running.gateway.reload_status.error is None
    # A file that reads well but cannot be asked any more is as bad.
    unset = "{provider: openai, model: x, api_key_env: SURELY_NOT_SET}"
    path.write_text(SCRIPTED.replace('{provider: scripted, answers: ["one"]}', unset))
    eventually(lambda: "SURELY_NOT_SET" in (running.gateway.reload_status.error or ""))
    assert answered() == "three"


def test_a_calibration_changes_while_it_runs(tmp_path: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a replay has written anew is in service at once, though the policy file that names it is as it was."""
    monkeypatch.setattr(reload, "EVERY_S", 0.1)
    path, fitted = tmp_path / "policies.yaml", tmp_path / "fitted.json"
    shipped = calibration_file.starter().read_text()
    path.write_text(load.packaged().read_text().replace("calibration: starter", "calibration: fitted.json"))
    fitted.write_text(shipped)
    assert load.calibrations(path) == [fitted]
    running = serve(path.read_text(), path=path)
    first = running.gateway.active
    fitted.write_text(shipped[:-40])
    eventually(lambda: "fitted.json" in (running.gateway.reload_status.error or ""))
    assert running.gateway.active is first
    changed = json.loads(shipped)
    changed["chosen"][0]["accept_at"] = 0.9375
    fitted.write_text(json.dumps(changed))
    eventually(lambda: running.gateway.active is not first)
    assert running.gateway.reload_status.error is None
    assert running.gateway.active.cascade.policy("default").tiers[0].accept_at == 0.9375


def test_a_change_keeps_what_is_known_of_a_model(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken model stays left alone when another policy changes; with settings of its own that changed it starts anew."""
    monkeypatch.setattr(reload, "EVERY_S", 0.1)
    text = """
models: {m: {provider: openai, model: m, base_url: "http://127.0.0.1:9/v1", retry: {attempts: 1}, timeout_s: 2}}
policies: {default: {tiers: [{model: m, accept_at: 0.0}]}}
"""
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    running = serve(text, path=path)
    assert running.chat().status_code == 502
    while running.gateway.active.cascade.health()["m"].state != "open":
        running.chat()
    first = running.gateway.active
    path.write_text(text.replace("accept_at: 0.0", "accept_at: 0.25"))
    eventually(lambda: running.gateway.active is not first)
    assert running.gateway.active.cascade.health()["m"].state == "open"
    second = running.gateway.active
    path.write_text(text.replace("timeout_s: 2", "timeout_s: 3"))
    eventually(lambda: running.gateway.active is not second)
    assert running.gateway.active.cascade.health()["m"].state == "closed"


def test_a_change_keeps_the_days_budget(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was spent stays spent; runs under way end by the policies that they began with."""
    monkeypatch.setattr(reload, "EVERY_S", 0.1)
    text = """
models: {m: {provider: openai, model: m, base_url: "http://127.0.0.1:9/v1", price: {input_per_mtok: 1, output_per_mtok: 1}}}
policies: {default: {budget_usd_per_day: 1.0, tiers: [{model: m, accept_at: 0.0}]}}
"""
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    running = serve(text, path=path)
    before = running.gateway.active
    path.write_text(text.replace("1.0", "2.0"))
    eventually(lambda: running.gateway.active is not before)
    assert running.gateway.active.cascade.ledger is before.cascade.ledger
    assert running.gateway.active.file == load.parse(text.replace("1.0", "2.0"))
    eventually(lambda: before.cascade._runtime.closed)
    assert time.time() - running.gateway.reload_status.loaded < 60
