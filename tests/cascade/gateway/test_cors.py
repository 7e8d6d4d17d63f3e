"""Browsers: which pages may call the gateway, and where its address leads."""

import httpx2
import pytest

from cascade.errors import PolicyError
from cascade.policy import load
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.wire_server import Reply, WireServer, chat, chat_events

PAGE = "https://app.example.com"
CORS = "cors: {{allow_origins: ['https://app.example.com', 'http://localhost:3000'], allow_credentials: true}}\n"
HEADERS = "authorization,content-type,x-stainless-os"
WANTS = {"access-control-request-method": "POST", "access-control-request-headers": HEADERS}


def test_a_page_of_the_list_may_call(serve: Serve, upstream: WireServer) -> None:
    """Its preflight request is answered, and so are the request itself, an error and a stream."""
    gateway = serve((CORS + POLICIES).format(url=upstream.base_url))
    page = {"origin": PAGE, "sec-fetch-site": "cross-site"}
    preflight = httpx2.options(f"{gateway.url}/v1/chat/completions", headers={**page, **WANTS})
    assert preflight.status_code == 204
    assert preflight.headers["access-control-allow-origin"] == PAGE
    assert preflight.headers["access-control-allow-headers"] == HEADERS
    assert preflight.headers["access-control-allow-credentials"] == "true"
    assert "POST" in preflight.headers["access-control-allow-methods"]
    assert preflight.headers["access-control-max-age"] == "600"
    body = {"model": "default/premium", "messages": [{"role": "user", "content": "Hi"}]}
    upstream.reply = Reply(chat("51"))
    whole = gateway.post("/v1/chat/completions", body, headers=page)
    upstream.reply = Reply(events=chat_events(chat("51")))
    streamed = gateway.post("/v1/chat/completions", {**body, "stream": True}, headers=page)
    wrong = gateway.post("/v1/chat/completions", {**body, "n": 99}, headers=page)
    assert (whole.status_code, streamed.status_code, wrong.status_code) == (200, 200, 400)
    for response in (whole, streamed, wrong):
        assert response.headers["access-control-allow-origin"] == PAGE
        assert response.headers["vary"] == "Origin"
        assert "x-cascade-run-id" in response.headers["access-control-expose-headers"]


def test_another_page_may_not(running: Running, serve: Serve, upstream: WireServer) -> None:
    """Neither where it is not on the list nor where there is no list."""
    for gateway in (serve((CORS + POLICIES).format(url=upstream.base_url)), running):
        other = {"origin": "https://evil.example.com", "sec-fetch-site": "cross-site"}
        preflight = httpx2.options(f"{gateway.url}/v1/chat/completions", headers={**other, **WANTS})
        assert preflight.status_code == 405
        refused = gateway.post("/v1/chat/completions", {}, headers=other)
        assert refused.status_code == 403
        assert not any(name.startswith("access-control") for name in {*preflight.headers, *refused.headers})


def test_any_page_may_where_the_policy_file_says_so(serve: Serve, upstream: WireServer) -> None:
    """Without cookies: a browser refuses them for '*'."""
    gateway = serve(("cors: {{allow_origins: ['*']}}\n" + POLICIES).format(url=upstream.base_url))
    upstream.reply = Reply(chat("51"))
    body = {"model": "default/premium", "messages": [{"role": "user", "content": "Hi"}]}
    done = gateway.post("/v1/chat/completions", body, headers={"origin": "https://any.example.com"})
    assert (done.status_code, done.headers["access-control-allow-origin"]) == (200, "*")
    assert "access-control-allow-credentials" not in done.headers


@pytest.mark.parametrize(
    "cors", ["allow_origins: []", "allow_origins: [app.example.com]", "allow_origins: ['*'], allow_credentials: true",
             "allow_origins: ['https://a.example.com/path']"]
)  # fmt: skip
def test_an_allow_list_that_cannot_work_is_an_error(cors: str) -> None:
    """Where the file is read."""
    with pytest.raises(PolicyError, match="cors"):
        load.parse(f"cors: {{{cors}}}\n" + POLICIES.format(url="http://127.0.0.1:1"))


def test_the_address_leads_to_the_dashboard(running: Running) -> None:
    """Browsers are redirected; a client that asks for JSON gets a list of the routes."""
    opened = httpx2.get(running.url, headers={"accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
    assert (opened.status_code, opened.headers["location"]) == (307, "/dashboard")
    assert httpx2.get(running.url, follow_redirects=True).headers["content-type"].startswith("text/html")
    assert httpx2.head(running.url).status_code == 307
    slash = httpx2.get(f"{running.url}/dashboard/", follow_redirects=True)
    assert (slash.status_code, slash.url.path) == (200, "/dashboard")
    asked_for_json = httpx2.get(running.url, headers={"accept": "application/json"}).json()
    assert (asked_for_json["dashboard"], asked_for_json["openapi"]) == ("/dashboard", "/openapi.json")
