"""The dashboard in a real browser, during traffic: its figures change, and are those of /metrics and of the journal."""

import json
import os
import re
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from cascade.data import STARTER_RECORDING
from cascade.journal.open_store import open_store
from evals.demo.traffic import body_of
from evals.recording import read
from tests.cascade.gateway.conftest import Running, Serve
from tests.clients.browser import SIZES
from tests.evals.audit.journals import SPEC, fill

pytestmark = pytest.mark.clients

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-clients")

# Two models that are always there, so that what runs cost, save and escalate is known: half of the answers are unsure.
POLICIES = """
journal: {{url: "sqlite:///{folder}/journal.db", durability: full}}
models:
  small: {{provider: recorded, recording: starter, model: smollm2-135m-instruct}}
  large: {{provider: recorded, recording: starter, model: qwen2.5-coder-1.5b-instruct}}
policies:
  default:
    budget_usd_per_day: 1.0
    tiers:
      - {{name: cheap, model: small, accept_at: 0.8, judges: [schema, rules, logprob]}}
      - {{name: premium, model: large, accept_at: 0.0, judges: [schema, rules]}}
"""
PRICE = {"input_per_mtok": 1, "output_per_mtok": 1}


@pytest.fixture
def gateway(serve: Serve, tmp_path: Path) -> Running:
    """A gateway over the shipped recording, with a journal and a daily budget."""
    return serve(POLICIES.format(folder=tmp_path))


def ask(gateway: Running, count: int, *, feedback: bool = False) -> None:
    """So many of the shipped questions, one after another, some answers with feedback."""
    examples = list(read(STARTER_RECORDING))
    with httpx2.Client(base_url=gateway.url, timeout=20) as client:
        for example in examples[:count]:
            outcome = (
                client.post("/v1/chat/completions", json=body_of(example, "default")).raise_for_status().json()["cascade"]
            )
            if feedback:
                client.post("/v1/feedback", json={"run_id": outcome["run_id"], "quality": 1.0}).raise_for_status()


def opened(browser: Any, gateway: Running, size: str = "desktop", scheme: str = "light") -> Any:
    """The dashboard in a new window; whatever the browser complains of fails the test."""
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    page.complaints = []
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
    page.on("request", lambda request: None if request.url.startswith(gateway.url) else page.complaints.append(request.url))
    page.goto(f"{gateway.url}/dashboard")
    return page


def runs_shown(page: Any, count: int) -> None:
    """Waits until the page counts so many runs."""
    playwright.expect(page.locator("#rate")).to_have_text(f"{count:,}", timeout=15_000)


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels."""
    total = 0.0
    for match in re.finditer(rf"^{name}(?:\{{(.*?)\}})? (\S+)$", text, re.MULTILINE):
        if all(f'{label}="{value}"' in (match[1] or "") for label, value in labels.items()):
            total += float(match[2])
    return total


def usd(text: str) -> float:
    """The amount that a text begins with."""
    match = re.search(r"\$([\d.,]+)", text)
    assert match is not None, text
    return float(match[1].replace(",", ""))


def test_the_figures_are_those_of_the_metrics_and_the_journal(browser: Any, gateway: Running, tmp_path: Path) -> None:
    """An empty page fills itself, and counts what was really asked, spent and escalated."""
    page = opened(browser, gateway)
    playwright.expect(page.locator("#empty")).to_be_visible()
    playwright.expect(page.locator("#example")).to_contain_text(f"{gateway.url}/v1/route")
    ask(gateway, 20, feedback=True)
    runs_shown(page, 20)
    playwright.expect(page.locator("#empty")).to_be_hidden()
    traffic = threading.Thread(target=ask, args=(gateway, 40))
    traffic.start()
    runs_shown(page, 60)
    traffic.join()

    metrics = httpx2.get(f"{gateway.url}/metrics").text
    assert metric(metrics, "cascade_runs_total", kind="run") == 60
    spent, premium = metric(metrics, "cascade_run_cost_usd_total"), metric(metrics, "cascade_run_premium_usd_total")
    note = page.locator("#saved-note").inner_text()
    assert usd(note) == pytest.approx(spent, rel=0.06)
    assert usd(note.partition(" of ")[2]) == pytest.approx(premium, rel=0.06)
    escalated = metric(metrics, "cascade_escalations_total")
    assert 0 < escalated <= 60
    assert page.locator("#escalations-note").inner_text() == f"{escalated:.0f} in total"
    assert page.locator("#drift-note").inner_text().startswith("20 runs with feedback")

    store = open_store(f"sqlite:///{tmp_path}/journal.db")
    records = [record for _, record in store.last(1000)]
    store.close()
    assert len(records) == 60
    assert sum(record.cost_usd or 0.0 for record in records) == pytest.approx(spent)
    assert page.locator("#latest tbody tr").count() == 50
    assert page.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_it_fits_every_screen(browser: Any, gateway: Running, size: str, scheme: str, tmp_path: Path) -> None:
    """Nothing is wider than the window, the charts are drawn, text and ground differ; a picture is kept to look at."""
    ask(gateway, 30, feedback=True)
    page = opened(browser, gateway, size, scheme)
    runs_shown(page, 30)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert page.locator("#live .plot canvas").count() == 3
    playwright.expect(page.locator("#verdict-title")).to_have_text("Quality is not measured")
    assert page.locator("#quality .plot canvas").count() == 2
    playwright.expect(page.locator("#good")).to_contain_text("%")
    ground, ink = page.evaluate("[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]")
    light = sum(map(int, re.findall(r"\d+", ground)[:3])) / 3
    assert (light > 127) == (scheme == "light")
    assert ground != ink
    page.screenshot(path=os.environ.get("CASCADE_PICTURES", str(tmp_path)) + f"/{size}-{scheme}.png", full_page=True)
    assert page.complaints == []


def test_a_run_opens_by_the_keyboard(browser: Any, gateway: Running) -> None:
    """Enter on a run shows its attempts and verdicts, Escape closes it, and the focus is where it was."""
    ask(gateway, 5)
    page = opened(browser, gateway)
    runs_shown(page, 5)
    page.locator("#latest button").first.focus()
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#run .attempt").first).to_be_visible()
    playwright.expect(page.locator("#run")).to_contain_text("schema")
    page.keyboard.press("Escape")
    playwright.expect(page.locator("#run")).to_be_hidden()
    page.wait_for_function("document.activeElement.dataset.run !== undefined")
    page.get_by_role("button", name="Pause").press("Enter")
    ask(gateway, 5)
    page.wait_for_timeout(2500)
    runs_shown(page, 5)
    page.get_by_role("button", name="Resume").press("Enter")
    runs_shown(page, 10)
    assert page.complaints == []


def test_a_gateway_that_went_away_is_told(browser: Any, gateway: Running) -> None:
    """What was last seen stays, and the page says that it is not live."""
    ask(gateway, 3)
    page = opened(browser, gateway)
    runs_shown(page, 3)
    gateway.stop()
    playwright.expect(page.locator("#state")).to_have_text(re.compile("no connection|reconnecting"), timeout=15_000)
    assert page.locator("#latest tbody tr").count() == 3


MARKUP = [
    '<img src=x onerror="window.pwned=1">',
    "<script>window.pwned=1</script>",
    '"><svg onload=window.pwned=1>',
    "javascript:window.pwned=1",
    "{{constructor.constructor('window.pwned=1')()}}",
    "</script><script>window.pwned=1</script>",
    '\u2028data: {"x":1}\n\nevent: run\ndata: <b>pwned</b>',
]


def test_markup_is_shown_as_text(browser: Any, serve: Serve, tmp_path: Path) -> None:
    """In names of policies, tiers and models, in tags, prompts, answers and errors: nothing of it runs."""
    image, script, svg = MARKUP[:3]
    spec = {
        "journal": {"url": f"sqlite:///{tmp_path}/journal.db", "durability": "full"},
        "models": {
            image: {"provider": "scripted", "answers": ["\n".join(MARKUP)]},
            svg: {"provider": "recorded", "recording": f"{tmp_path}/none.jsonl", "model": script},
        },
        "policies": {
            script: {
                "journal_text": True,
                "tiers": [
                    {"name": svg, "model": image, "accept_at": 0.9, "judges": ["schema", "rules"]},
                    {"name": image, "model": image, "accept_at": 0.0, "judges": ["schema", "rules"]},
                ],
            },
            "broken": {"tiers": [{"name": script, "model": svg, "accept_at": 0.0}]},
        },
    }
    gateway = serve(json.dumps(spec))
    with httpx2.Client(base_url=gateway.url, timeout=20) as client:
        for text in MARKUP:
            tag = text if text.isprintable() else "<b>printable</b>"  # others are rejected
            body = {"prompt": text, "policy": script, "tags": {"<b>tag</b>": tag, tag[:40]: "x"}}
            response = client.post("/v1/route", json=body)
            assert response.status_code == 200, response.text
        client.post("/v1/route", json={"prompt": image, "policy": "broken"})
        client.post("/v1/route", json={"prompt": image, "policy": image})
    page = opened(browser, gateway)
    runs_shown(page, len(MARKUP))
    for row in range(3):
        page.locator("#latest button").nth(row).focus()
        page.keyboard.press("Enter")
        playwright.expect(page.locator("#run .attempt").first).to_be_visible()
        assert page.evaluate("document.querySelectorAll('#run img, #run svg[onload], #run script, #run b').length") == 0
        page.keyboard.press("Escape")
    page.wait_for_timeout(500)
    assert page.evaluate("window.pwned") is None
    assert page.locator("body").inner_text().count("onerror") > 0  # it is there, as text
    elements = "[...document.querySelectorAll('main img, [onerror], [onload]')].map(element => element.outerHTML)"
    assert page.evaluate(elements) == []
    assert [complaint for complaint in page.complaints if "Content Security Policy" in complaint] == []
    assert page.complaints == []


@pytest.mark.parametrize("size", list(SIZES))
def test_quality_comes_first_and_leads_to_its_runs(browser: Any, serve: Serve, tmp_path: Path, size: str) -> None:
    """A broken promise is red; quality and savings have intervals; a figure opens its runs, and a run its attempts."""
    url = f"sqlite:///{tmp_path / 'j.db'}"
    fill(url, np.random.default_rng(1), now=time.time() - 60.0, loss=0.3, stopped=0.15)
    models = {name: {"provider": "scripted", "answers": ["a"], "price": PRICE} for name in ("small", "large")}
    gateway = serve(json.dumps({"journal": {"url": url}, "models": models, "policies": {"default": SPEC}}))
    page = opened(browser, gateway, size)
    playwright.expect(page.locator("#verdict-title")).to_have_text("A promise is broken")
    assert "red" in page.locator("#verdict").get_attribute("class")
    playwright.expect(page.locator("#loss-note")).to_contain_text("95 % interval")
    playwright.expect(page.locator("#kept-note")).to_contain_text("95 % interval")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.locator("#outcomes button", has_text="stopped by a budget").press("Enter")
    playwright.expect(page.locator("#some tbody tr").first).to_contain_text("budget")
    page.keyboard.press("Escape")
    page.locator("#loss button").click()
    page.locator("#some tbody button").first.press("Enter")
    playwright.expect(page.locator("#run .attempt").first).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("Escape")
    page.locator("#money").focus()
    page.keyboard.press("End")
    playwright.expect(page.locator("#money .spoken")).to_contain_text("spent $")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    playwright.expect(page.locator("#some")).to_be_visible()
    playwright.expect(page.locator("#some-title")).to_contain_text("Runs of")
    page.keyboard.press("Escape")
    page.select_option("#task", "chat")
    playwright.expect(page.locator("#success-note")).not_to_contain_text("400 runs")
    assert page.complaints == []
