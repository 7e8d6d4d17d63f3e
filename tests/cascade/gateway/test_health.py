"""Health, readiness, metrics, the OpenAPI document."""

from pathlib import Path
from types import SimpleNamespace

import httpx2
import pytest
from jsonschema import Draft202012Validator
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.routes import health
from cascade.gateway.routes.openapi import document
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.openai.test_chat import by_model, logged
from tests.wire_server import WireServer, chat


def value(text: str, name: str, *labels: str) -> float:
    """The sum of a metric's samples with these labels, as Prometheus reads them."""
    lines = [line for line in text.splitlines() if line.startswith(f"{name}{{" if labels else name)]
    return sum(float(line.rpartition(" ")[2]) for line in lines if all(label in line for label in labels))


def test_health_and_readiness(running: Running) -> None:
    """Both answer without anything."""
    assert httpx2.get(f"{running.url}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{running.url}/readyz").json() == {"status": "ready", "policies": 4}
    with httpx2.Client(timeout=20) as client:  # one connection, on which nothing may be left over
        for _ in range(3):
            head = client.head(f"{running.url}/healthz")
            assert (head.status_code, head.content) == (200, b"")
        assert client.get(f"{running.url}/healthz").json() == {"status": "ok"}


def test_not_ready_where_no_policy_can_be_asked(serve: Serve) -> None:
    """A missing key is logged and answered by a 503; the process goes on running."""
    unset = "{provider: openai, model: x, api_key_env: SURELY_NOT_SET}"
    running = serve(f"models: {{m: {unset}}}\npolicies: {{default: {{tiers: [{{model: m}}]}}}}")
    assert httpx2.get(f"{running.url}/readyz").status_code == 503
    assert httpx2.get(f"{running.url}/healthz").status_code == 200
    refused = running.chat()
    assert (refused.status_code, refused.json()["error"]["code"]) == (500, "policy")
    assert "SURELY_NOT_SET" not in refused.text


def test_metrics(running: Running, upstream: WireServer) -> None:
    """What was asked, by route and status, and what the runs were, by the telemetry that every cascade has."""
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    for _ in range(3):
        running.chat()
    running.chat(temprature=1)
    text = httpx2.get(f"{running.url}/metrics").text
    assert value(text, "cascade_http_requests_total", 'route="/v1/chat/completions"', 'status="200"') == 3
    assert value(text, "cascade_http_requests_total", 'route="/v1/chat/completions"', 'status="400"') == 1
    assert value(text, "cascade_runs_total", 'policy="default"', 'tier="premium"', 'reason="last_tier"') == 3
    assert value(text, "cascade_escalations_total", 'tier="cheap"', 'reason="unsure"') == 3
    assert value(text, "cascade_http_requests_under_way") == 0


def test_metrics_while_a_worker_starts(running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's file that is created at this moment, and has no content yet, is read again instead of an error."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(tmp_path))
    file = tmp_path / "counter_1.db"
    file.touch()
    pauses = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            values = MmapedDict(str(file))  # type: ignore[no-untyped-call]
            values.write_value(mmap_key("runs", "runs_total", [], [], "Runs"), 5.0, 0.0)  # type: ignore[no-untyped-call]
            values.close()  # type: ignore[no-untyped-call]

    monkeypatch.setattr(health, "asyncio", SimpleNamespace(sleep=pause))
    assert value(httpx2.get(f"{running.url}/metrics").text, "runs_total") == 5.0
    assert len(pauses) == 3
    file.write_bytes(b"")
    assert httpx2.get(f"{running.url}/metrics").status_code == 500
    assert len(pauses) == 3 + health._READS - 1


def test_who_may_see_them(serve: Serve, tmp_path: Path, upstream: WireServer) -> None:
    """Health is everybody's; the figures of all belong to keys of all policies."""
    keys = KeyFile(tmp_path / "keys.db")
    _, whole = keys.create("whole")
    _, part = keys.create("part", policies=["default"])
    running = serve(POLICIES.format(url=upstream.base_url), key_store=keys)
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert httpx2.get(running.url + path).status_code == 200
    for path in ("/metrics", "/dashboard/runs/" + "0" * 32, "/dashboard/events"):
        assert httpx2.get(running.url + path).status_code == 401
        assert httpx2.get(running.url + path, headers={"x-api-key": part}).status_code == 403
    assert httpx2.get(f"{running.url}/metrics", headers={"x-api-key": whole}).status_code == 200


def test_the_document_tells_the_truth(running: Running, upstream: WireServer) -> None:
    """What comes back obeys the schemas that it gives; every path that it names is there."""
    upstream.reply = by_model(logged("50?", -3.0), chat("51"))
    message = httpx2.get(f"{running.url}/openapi.json").json()
    assert message == document()
    Draft202012Validator.check_schema(message["components"]["schemas"]["Run"])

    def check(name: str, body: object) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": message["components"]}
        Draft202012Validator(schema).validate(body)

    check("Answer", running.post("/v1/route", {"prompt": "q"}).json())
    check("Run", running.post("/v1/gate", {"prompt": "q", "answer": "a"}).json())
    check("Error", running.post("/v1/route", {}).json())
    for path, operations in message["paths"].items():
        for method in operations:
            status = (
                httpx2.request(method, running.url + path.replace("{run_id}", "x"), timeout=0.5)
                if "events" not in path
                else None
            )
            if status is not None:
                assert status.status_code != 405
                assert "see /openapi.json" not in status.text
