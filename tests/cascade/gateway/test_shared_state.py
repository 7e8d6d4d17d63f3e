"""What a gateway answers and shows while the store of shared budgets and key rates is unavailable."""

import asyncio
from typing import Any

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from cascade.gateway.app import make_app
from cascade.gateway.auth.key import Key
from cascade.gateway.dashboard.alarms import alarms
from cascade.gateway.dashboard.snapshot import snapshot
from cascade.gateway.state import Gateway
from cascade.policy.schema import PolicyFile

PRICE = {"input_per_mtok": 1, "output_per_mtok": 1}
KEYS = [Key(id="aaaa", name="free", sha256="0" * 64), Key(id="bbbb", name="paced", sha256="0" * 64, per_minute=60.0)]


def gateway(rule: str) -> Gateway:
    """One with a policy under a budget, one without, and a shared state at a port where nothing listens."""
    tier = {"tiers": [{"model": "m", "accept_at": 0.0}]}
    file = PolicyFile.model_validate(
        {
            "models": {"m": {"provider": "scripted", "answers": ["51"], "price": PRICE}},
            "policies": {"default": tier, "bounded": {**tier, "budget_usd_per_day": 1.0}},
            "state": {"url": "redis://127.0.0.1:1", "fail": rule},
        }
    )
    return Gateway(file, registry=CollectorRegistry())


async def ask(one: Gateway, policy: str) -> httpx2.Response:
    """A request to a policy."""
    transport = httpx2.ASGITransport(make_app(one))
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
        return await http.post("/v1/route", json={"prompt": "What is 17 * 3?", "policy": policy})


@pytest.mark.parametrize("rule", ["closed", "open"])
def test_requests_under_shared_limits_follow_the_rule(rule: str, caplog: pytest.LogCaptureFixture) -> None:
    """The others are answered; log, readiness, metrics and dashboard say that the store is unavailable."""
    pytest.importorskip("redis")
    one = gateway(rule)

    async def check() -> tuple[Any, ...]:
        responses = [await ask(one, policy) for policy in ("default", "bounded", "bounded")]
        transport = httpx2.ASGITransport(make_app(one))
        async with httpx2.AsyncClient(transport=transport, base_url="http://localhost") as http:
            ready = (await http.get("/readyz")).json()
        snapshots = await snapshot(one)
        one.keys.replace(KEYS)
        outcomes = []
        for _ in range(2):
            try:
                paced = one.keys._by_id["bbbb"][1]
                await one.keys.check_rate(paced, 60.0, one.rates)
                outcomes.append(200)
            except Exception as error:
                outcomes.append(getattr(error, "status", 0))
        one.update_load_metrics()
        status_line = alarms(one, (), (), None, ())
        await one.aclose()
        return responses, ready, snapshots, outcomes, status_line

    responses, ready, snapshots, outcomes, status_line = asyncio.run(check())
    expected = 503 if rule == "closed" else 200
    assert [response.status_code for response in responses] == [200, expected, expected]
    assert outcomes == [expected, expected]
    if rule == "closed":
        error = responses[1].json()["error"]
        assert error["code"] == "state_unavailable"
        assert "the store of shared state is unavailable" in error["message"]
        assert responses[1].headers["retry-after"] == "1"
    assert (ready["status"], ready["state"], ready["state_fail"]) == ("ready", "away", rule)
    assert [(b["scope"], b["spent_usd"], b["left_usd"]) for b in snapshots["budgets"]] == [("policy bounded", None, None)]
    assert "store of shared budgets" in str(status_line)
    text = generate_latest(one.registry).decode()
    assert "cascade_state_available 0.0" in text
    assert f'cascade_state_unavailable_requests_total{{rule="{rule}"}} 4.0' in text
    assert len([m for m in caplog.messages if "shared state is unavailable" in m]) == 1
