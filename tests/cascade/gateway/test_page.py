"""The dashboard's page: what it loads, and what a real browser shows of real traffic."""

import asyncio
import re
from pathlib import Path

import httpx2
import pytest

from cascade.gateway.key_file import KeyFile
from cascade.gateway.page import FILES, read
from tests.cascade.gateway.browser import CHROMIUM, browser
from tests.cascade.gateway.conftest import POLICIES, Running, Serve
from tests.cascade.gateway.test_chat import by_model, logged
from tests.cascade.gateway.test_health import value
from tests.wire_server import WireServer, chat

needs_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
LOOKS = [(1280, 900, "light"), (1280, 900, "dark"), (390, 844, "light"), (390, 844, "dark")]


def text(id: str) -> str:
    """JavaScript for an element's text."""
    return f"document.getElementById('{id}')?.textContent"


def test_the_page_and_what_it_loads(running: Running) -> None:
    """Everything comes from the gateway, under a policy that lets nothing else in; what is not ours has its licence."""
    page = httpx2.get(f"{running.url}/dashboard")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    named = set(re.findall(r'(?:src|href)="([^"#]+)"', page.text)) - {"data:,"}
    assert named == {f"/dashboard/static/{name}" for name in FILES if name != "index.html"}
    for path in named:
        reply = httpx2.get(running.url + path)
        assert reply.status_code == 200
        assert reply.headers["x-content-type-options"] == "nosniff"
    for name in ("nonsense", "__init__.py", "..%2Fapp.py", "uplot.LICENSE"):
        assert httpx2.get(f"{running.url}/dashboard/static/{name}").status_code == 404
    ours = b"".join(read(name) for name in ("page.js", "draw.js", "page.css"))
    assert set(re.findall(rb"https?://[^\s\"'`)]+", ours)) == {b"http://www.w3.org/2000/svg"}
    assert b"innerHTML" not in ours
    assert "MIT" in (Path(__file__).parents[3] / "cascade/gateway/page/uplot.LICENSE").read_text()


@needs_a_browser
@pytest.mark.parametrize(("width", "height", "scheme"), LOOKS)
def test_a_browser_shows_what_is_going_on(serve: Serve, upstream: WireServer, width: int, height: int, scheme: str) -> None:
    """Empty at first, then live; the figures agree with the metrics; a run opens and closes by the keyboard."""
    running = serve("journal: {url: sqlite:///j.db, durability: full}" + POLICIES.format(url=upstream.base_url))

    async def look() -> None:
        async with browser() as page:
            await page.look(width, height, scheme)
            await page.open(f"{running.url}/dashboard")
            await page.until(f"document.body && {text('link')} === 'live'")
            assert "No runs yet" in await page.value(text("latest"))
            await asyncio.to_thread(ask, 3, -0.01)
            await page.until(f"{text('runs')} === 'of 3 runs, 3 answered'")
            await asyncio.to_thread(ask, 2, -3.0)
            await page.until(f"{text('runs')} === 'of 5 runs, 5 answered'")
            assert (await page.value(text("tiers"))) == "cheap60 % · 3premium40 % · 2"
            assert "cheap: unsure2" in await page.value(text("why"))
            metrics = httpx2.get(f"{running.url}/metrics").text
            usd = value(metrics, "cascade_run_cost_usd_total", 'policy="default"')
            assert await page.value(text("usd")) == f"${usd:.6f}"
            assert await page.value("document.documentElement.scrollWidth <= innerWidth")
            dark = await page.value("getComputedStyle(document.body).backgroundColor")
            assert (dark == "rgb(15, 20, 26)") == (scheme == "dark")
            await page.value("document.querySelector('[data-run]').focus()")
            await page.key("Enter", "\r")
            await page.until("document.querySelectorAll('#run[open] .step').length === 2")
            assert "the journal" in await page.value(text("run-body"))
            await page.key("Escape")
            await page.until("!document.querySelector('#run[open]')")
            assert page.said == []
            assert all(url.startswith((running.url, "data:")) for url in page.asked)

    def ask(times: int, logprob: float) -> None:
        upstream.reply = by_model(logged("51", logprob), chat("51"))
        for _ in range(times):
            running.chat()

    asyncio.run(look())


@needs_a_browser
def test_a_browser_is_asked_for_a_key(serve: Serve, upstream: WireServer, tmp_path: Path) -> None:
    """A wrong one is said, a right one shows the figures; when the gateway stops, the page says so."""
    keys = KeyFile(tmp_path / "keys.db")
    _, good = keys.create("ana")
    running = serve(POLICIES.format(url=upstream.base_url), key_file=keys)

    async def look() -> None:
        async with browser() as page:
            await page.open(f"{running.url}/dashboard")
            for given, then in (
                ("sk-cg-wrong", "document.querySelector('#ask[open]')"),
                (good, f"{text('link')} === 'live'"),
            ):
                await page.until("document.querySelector('#ask[open]') !== null")
                await page.value(f"document.getElementById('key').value = '{given}'")
                await page.value("document.getElementById('ask-form').requestSubmit()")
                await page.until(f"!!({then})")
                if given != good:
                    await page.until(f"{text('ask-why')}?.includes('not valid')")
            assert good not in await page.value("document.documentElement.outerHTML")
            await asyncio.to_thread(running.stop)
            await page.until(f"{text('link')}?.startsWith('not connected')")

    asyncio.run(look())
