"""What changes while the gateway runs: policies, calibrations; and what stays."""

import json
import random
import threading
import time
from pathlib import Path

import httpx2
import pytest

from cascade.gateway import reload
from cascade.gateway.auth.key_file import KeyFile
from cascade.policy import calibration_file, load
from tests.cascade.gateway.auth.test_keys import eventually
from tests.cascade.gateway.conftest import Serve
from tests.cascade.gateway.test_limits import SCRIPTED
from tests.wire_server import Received, Reply, WireServer, chat


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
    """An open breaker stays open when another policy changes; a model whose settings changed starts with a closed one."""
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


def test_many_changes_under_load(
    serve: Serve, upstream: WireServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While good, broken and half-written files follow each other, no request fails and no budget starts anew."""
    monkeypatch.setattr(reload, "EVERY_S", 0.005)
    text = f"""
models: {{m: {{provider: openai, model: m, base_url: "{upstream.base_url}/v1", max_tokens: 10, retry: {{attempts: 1}},
  price: {{input_per_mtok: 0, output_per_mtok: 1000}}}}}}
policies: {{default: {{budget_usd_per_day: 100.0, tiers: [{{model: m, accept_at: 0.0}}]}}}}
"""
    billed = 0

    def reply(received: Received) -> Reply:
        nonlocal billed
        billed += 1
        return Reply(chat("one", usage={"completion_tokens": 10, "total_tokens": 20}), delay_s=0.002 * (billed % 5))

    upstream.reply = reply
    path = tmp_path / "policies.yaml"
    path.write_text(text)
    running = serve(text, path=path)
    used = {running.gateway.active}
    statuses: list[int] = []
    done = threading.Event()

    def clients() -> None:
        body = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
        with httpx2.Client(base_url=running.url, timeout=20) as client:
            while not done.is_set():
                statuses.append(client.post("/v1/chat/completions", json=body).status_code)

    threads = [threading.Thread(target=clients) for _ in range(4)]
    for thread in threads:
        thread.start()
    draw, until = random.Random(3), time.monotonic() + 10
    while time.monotonic() < until and (billed < 40 or len(used) < 6):
        changed = text.replace("100.0", f"{100 + draw.randrange(1000)}.0")
        cut, wrong = changed[: draw.randrange(len(changed))], text.replace("tiers", "tears")
        path.write_text(draw.choice([changed, changed, cut, "", wrong]))
        if draw.random() < 0.2:
            path.unlink()
        used.add(running.gateway.active)
        time.sleep(draw.random() * 0.03)
    path.write_text(text.replace("100.0", "0.3"))
    eventually(lambda: running.gateway.active.file.policies["default"].budget_usd_per_day == 0.3)
    sent = billed
    done.set()
    for thread in threads:
        thread.join()
    assert len(used) > 5
    assert set(statuses) <= {200, 429}  # 429: after the last change
    eventually(lambda: all(config.cascade._runtime.closed for config in used if config is not running.gateway.active))
    # Each costs one cent: what was spent under all the files before is more than the last one's budget.
    assert sent >= 40
    assert running.chat().status_code == 429


def test_keys_change_under_load(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While other keys are created and revoked, an unchanged key stays valid and a revoked one stays revoked."""
    monkeypatch.setattr(reload, "EVERY_S", 0.005)
    keys = KeyFile(tmp_path / "k.db")
    _, secret = keys.create("stays")
    _, gone = keys.create("leaves")
    running = serve(SCRIPTED, key_store=keys)
    statuses: list[int] = []
    late: list[int] = []
    done, revoked = threading.Event(), threading.Event()

    def with_key(secret: str) -> int:
        body = {"model": "default", "messages": [{"role": "user", "content": "hi"}]}
        headers = {"authorization": f"Bearer {secret}"}
        return httpx2.post(f"{running.url}/v1/chat/completions", json=body, headers=headers).status_code

    def stays() -> None:
        while not done.is_set():
            statuses.append(with_key(secret))

    def goes() -> None:
        while not done.is_set():
            was_revoked = revoked.is_set()
            status = with_key(gone)
            if was_revoked:
                late.append(status)

    threads = [threading.Thread(target=target) for target in (stays, stays, goes)]
    for thread in threads:
        thread.start()
    for i in range(40):
        keys.create(f"other-{i}")
        if i == 20:
            keys.revoke("leaves")
        if i == 30:  # ten changes later
            eventually(lambda: with_key(gone) == 401)
            revoked.set()
            eventually(lambda: len(late) > 3)
        keys.revoke(f"other-{i}")
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert set(statuses) == {200}
    assert late
    assert set(late) == {401}
