"""The review page in a real browser: by the keyboard alone, on every screen, and markup in answers stays text."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cascade.journal.open_store import open_store
from cascade.journal.store import Filter
from tests.cascade.gateway.conftest import Serve
from tests.clients.browser import SIZES
from tests.evals.audit.journals import SPEC, fill

pytestmark = pytest.mark.clients
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-clients")
MARKUP = "<img src=x onerror=alert(1)>"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_runs_are_reviewed_by_the_keyboard(browser: Any, serve: Serve, tmp_path: Path, size: str, scheme: str) -> None:
    """A key for each verdict, the next run follows by itself; nothing is wider than the window."""
    url = f"sqlite:///{tmp_path / 'journal.db'}"
    fill(url, np.random.default_rng(0), n=40, now=time.time(), loss=0.6)
    store = open_store(url)
    store.execute("UPDATE cascade_shadows SET agrees = 1 WHERE answer = ?", (json.dumps({"text": "a"}),))
    store.execute("UPDATE cascade_shadows SET answer = ? WHERE agrees IS NULL", (json.dumps({"text": f"{MARKUP} " * 40}),))
    models = {name: {"provider": "scripted", "answers": ["a"]} for name in ("small", "large")}
    gateway = serve(json.dumps({"journal": {"url": url}, "models": models, "policies": {"default": SPEC}}))
    width, height = SIZES[size]
    page = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme).new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.goto(f"{gateway.url}/dashboard/review.html")
    playwright.expect(page.locator("#case")).to_be_visible()
    assert page.locator("img[src=x]").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.screenshot(path=os.environ.get("CASCADE_PICTURES", str(tmp_path)) + f"/review-{size}-{scheme}.png", full_page=True)
    waiting = int(page.locator("#waiting").inner_text().split()[0])
    prompt = page.locator("#prompt").text_content()  # inner_text has line breaks in addition
    page.keyboard.press("s")
    playwright.expect(page.locator("#prompt")).not_to_have_text(prompt)
    for i, key in enumerate("abxn"):
        page.keyboard.press(key)
        rest = waiting - i - 1
        playwright.expect(page.locator("#waiting")).to_have_text(re.compile(rf"^{rest} runs? ") if rest else "")
    page.get_by_text("By chance").click()
    playwright.expect(page.locator("#waiting")).to_contain_text("by chance, the uncertain ones more often")
    page.keyboard.press("a")
    playwright.expect(page.locator("#waiting")).to_have_text(re.compile(rf"^{waiting - 5} runs? "))
    records = list(store.read(Filter(graded=True)))
    store.close()
    assert len(records) == 5
    assert sum("chosen at random" in record.feedback[-1]["note"] for record in records) == 1
    assert {record.feedback[-1]["note"] for record in records} >= {
        "review: returned 1, premium 1",
        "review: returned 0, premium 0",
    }
    assert complaints == []
