"""Attacks on the routes, names, keys, tags and logs of a gateway, each by one who may send any request."""

import asyncio
import json
import logging
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx2
import pytest

from cascade.gateway.auth.key_file import KeyFile
from cascade.gateway.serve.log_format import JsonFormatter, TextFormatter
from tests.cascade.gateway.conftest import Running, Serve
from tests.wire_server import WireServer

POLICIES = """
journal: {{url: "sqlite:///{folder}/j.db", durability: full}}
tag_budgets:
  team: {{usd_per_day: 0.01, usd_per_month: 0.05}}
models:
  small: {{provider: openai, model: small-1, base_url: "{url}/small/v1", retry: {{attempts: 1}},
    price: {{input_per_mtok: 10, output_per_mtok: 10}}, max_tokens: 100}}
policies:
  default:
    budget_usd_per_month: 0.05
    tiers: [{{name: cheap, model: small, accept_at: 0.0, judges: [schema, rules]}}]
  secret:
    tiers: [{{name: dear, model: small, accept_at: 0.0, judges: [schema, rules]}}]
aliases: {{gpt-4o: secret, "default/x": secret}}
unknown_model: secret
"""
FORGED = "2026-01-01T00:00:00.000Z ERROR cascade.gateway the gateway is forged"
NASTY = ("\n" + FORGED, "\r\n" + FORGED, "\x1b[2J" + FORGED, "\u2028" + FORGED, "\x00", "\u202e", '"}\n{"level": "ERROR"}')


@pytest.fixture
def attacked(serve: Serve, upstream: WireServer, tmp_path: Path) -> Running:
    """A gateway with aliases, budgets by month and tag, and a journal."""
    return serve(POLICIES.format(url=upstream.base_url, folder=tmp_path))


@pytest.fixture
def limited(serve: Serve, upstream: WireServer, tmp_path: Path) -> tuple[Running, str]:
    """The same, and a key for the policy `default` alone."""
    keys = KeyFile(tmp_path / "k.db")
    _, secret = keys.create("ana", policies=["default"])
    return serve(POLICIES.format(url=upstream.base_url, folder=tmp_path), key_store=keys), secret


class Lines(logging.Handler):
    """The log as both formats write it."""

    def __init__(self) -> None:
        super().__init__()
        self.text: list[str] = []
        self.json: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps the record in both formats."""
        self.text.append(TextFormatter().format(record))
        self.json.append(JsonFormatter().format(record))


@pytest.mark.parametrize("model", ["gpt-4o", "default/x", "secret", "secret/dear", "no such model", "default/../secret"])
def test_another_name_of_a_policy_is_no_way_around_a_key(limited: tuple[Running, str], model: str) -> None:
    """Neither an alias nor an unknown name leads a key to a policy that it may not use, on any route."""
    running, secret = limited
    headers = {"authorization": f"Bearer {secret}"}
    ask = [{"role": "user", "content": "hi"}]
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", {"model": model, "messages": ask}),
        ("/v1/chat/completions", {"model": model, "messages": ask, "stream": True}),
        ("/v1/messages", {"model": model, "messages": ask, "max_tokens": 5}),
        ("/v1/responses", {"model": model, "input": "hi"}),
        ("/v1/route", {"policy": model, "prompt": "hi"}),
        ("/v1/gate", {"policy": model, "prompt": "hi", "answer": "ho"}),
    ]
    for path, body in bodies:
        assert running.post(path, body, headers=headers).status_code in (403, 404), path
    assert running.post("/v1/chat/completions", {"model": "default", "messages": ask}, headers=headers).status_code == 200


@pytest.mark.parametrize("text", NASTY, ids=ascii)
def test_no_request_writes_a_line_of_its_own_into_the_log(attacked: Running, text: str) -> None:
    """Names, tags, notes and paths with line breaks and control characters: a log line is one line, and JSON is JSON."""
    lines = Lines()
    loggers = [logging.getLogger("cascade"), logging.getLogger("uvicorn")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(lines)
        logger.setLevel(logging.INFO)
    try:
        ask = [{"role": "user", "content": text}]
        chat = {"model": "default", "messages": ask}
        for path, body in (
            ("/v1/chat/completions", {**chat, "model": text}),
            ("/v1/chat/completions", {**chat, "user": text}),
            ("/v1/chat/completions", {**chat, "metadata": {"team": text}}),
            ("/v1/chat/completions", {**chat, "metadata": {text: "a"}}),
            ("/v1/chat/completions", {**chat, text: 1}),
            ("/v1/chat/completions", chat),
            ("/v1/responses", {"model": "default", "input": text, "metadata": {text: text}}),
            ("/v1/route", {"prompt": text, "policy": text, "tags": {text: text}}),
            ("/v1/gate", {"prompt": text, "answer": text, "tier": text, "finish_reason": text[:60]}),
            ("/v1/feedback", {"run_id": text[:60], "quality": 1, "note": text}),
        ):
            assert attacked.post(path, body).status_code < 500, (path, body)
        attacked.post("/v1/messages", {**chat, "max_tokens": 5}, headers={"anthropic-beta": ascii(text)})
        httpx2.get(f"{attacked.url}/dashboard/runs/{quote(text)}")
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(lines)
            logger.setLevel(level)
    assert lines.text
    for line in lines.text:
        assert not any(mark in line for mark in ("\n", "\r", "\x1b", "\u2028", "\x00")), line
        assert not line.startswith(FORGED)
    for line in lines.json:
        assert "\n" not in line
        assert json.loads(line)["level"] != "ERROR" or "forged" not in json.loads(line)["message"]


def test_budgets_of_a_tag_and_of_a_month_are_not_passed_by_many_at_once(attacked: Running, upstream: WireServer) -> None:
    """Also where the tag's value has the form of another scope, or a number the form of a text."""

    async def go(team: Any, n: int = 60) -> list[httpx2.Response]:
        async with httpx2.AsyncClient(base_url=attacked.url, timeout=60) as client:
            body = {"prompt": "x" * 200, "tags": {"team": team}, "max_tokens": 100}
            return await asyncio.gather(*(client.post("/v1/route", json=body) for _ in range(n)))

    def usd(responses: list[httpx2.Response]) -> float:
        return sum(response.json()["cost_usd"] for response in responses if response.status_code == 200)

    total = 0.0
    for team in ("a", "all policies", "policy default", "2026-11 policy default", "month policy default", "a=b", 1, True):
        responses = asyncio.run(go(team))
        assert {response.status_code for response in responses} <= {200, 402, 429}
        total += usd(responses)
        assert usd(responses) <= 0.01
    assert total <= 0.05


def test_feedback_for_anything_but_a_run(limited: tuple[Running, str]) -> None:
    """Identifiers of any form, numbers that are none, and runs of policies that the key may not use."""
    running, secret = limited
    headers = {"authorization": f"Bearer {secret}"}
    for run_id in ("\x00", "' OR 1=1 --", "../../j.db", "0" * 64, "0" * 32, "%s%s%n", "\u202e", "é" * 64):
        response = running.post("/v1/feedback", {"run_id": run_id, "quality": 1}, headers=headers)
        assert response.status_code in (400, 404), run_id
        assert "Traceback" not in response.text
    for quality in (True, "1", -0.1, 1.1, None, [], 1e400):
        body = json.dumps({"run_id": "0" * 32, "quality": quality}).replace("Infinity", "1e400")
        response = httpx2.post(
            f"{running.url}/v1/feedback", content=body, headers={**headers, "content-type": "application/json"}
        )
        assert response.status_code == 400, quality


@pytest.mark.parametrize(
    "budget", ["nan", "inf", "-1", "1e309", "9" * 500_000, "0x10", "", " ", [], {}, True, "1_0", " 1", "\u0661"]
)
def test_odd_money(attacked: Running, budget: Any) -> None:
    """What is no amount of money is refused at once."""
    response = attacked.post("/v1/route", {"prompt": "hi", "budget": budget})
    assert response.status_code == 400, response.text
    assert len(response.text) < 1000


def test_unknown_names_make_no_new_series(attacked: Running) -> None:
    """A client that invents names fills neither the metrics nor the statistics."""
    for i in range(30):
        attacked.post("/v1/chat/completions", {"model": f"invented-{i}", "messages": [{"role": "user", "content": "hi"}]})
    for path in ("/metrics", "/v1/models"):
        assert "invented" not in httpx2.get(attacked.url + path).text
    assert not [key for key in attacked.gateway.stats.tiers if "invented" in str(key)]


def test_the_dashboard_is_closed_to_a_key_for_some_policies(limited: tuple[Running, str]) -> None:
    """Its statistics and runs are those of all policies; its files hold none."""
    running, secret = limited
    headers = {"authorization": f"Bearer {secret}"}
    for path in ("/dashboard/events", "/dashboard/runs/" + "0" * 32):
        assert httpx2.get(running.url + path).status_code == 401
        assert httpx2.get(running.url + path, headers=headers).status_code == 403
    for path in ("/dashboard/../policies.yaml", "/dashboard/%2e%2e/j.db", "/dashboard/..%2f..%2fk.db", "/dashboard/%00"):
        assert httpx2.get(running.url + path, headers=headers).status_code in (400, 403, 404), path
