"""The documentation site in a real browser: it loads nothing from elsewhere, fits every window, and its search finds."""

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.clients.browser import SIZES

pytestmark = pytest.mark.clients

pytest.importorskip("mkdocs", reason="mkdocs is not installed: make test-clients")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-clients")

ROOT = Path(__file__).parents[2]


class Quiet(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built as ``make docs`` builds it."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def address(site: Path) -> Iterator[str]:
    """Where the site is served."""
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_every_page_fits_and_loads_nothing_from_elsewhere(
    browser: Any, site: Path, address: str, size: str, scheme: str
) -> None:
    """All pages, on a desk and on a phone, by day and by night; the colours follow the system's setting."""
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda line: complaints.append(line.text) if line.type == "error" else None)
    page.on("request", lambda r: None if r.url.startswith((address, "data:", "blob:")) else complaints.append(r.url))
    for path in sorted(site.rglob("*.html")):
        name = str(path.relative_to(site))
        page.goto(f"{address}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
        expected = "default" if scheme == "light" else "slate"
        assert page.evaluate("document.body.dataset.mdColorScheme") == expected, name
        for image in page.locator("article img").all():
            assert image.evaluate("image => image.naturalWidth") > 0, name
    context.close()
    assert complaints == []


def test_the_search_finds_a_policy_key(browser: Any, address: str) -> None:
    """A key that somebody has read in a policy file leads to its reference."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(f"{address}/index.html")
    page.locator("input.md-search__input").click()
    page.keyboard.type("when_unsure")
    link = page.locator(".md-search-result__link").first
    playwright.expect(link).to_be_visible(timeout=10_000)
    assert any(
        "reference/policy.html" in str(a.get_attribute("href")) for a in page.locator(".md-search-result__link").all()
    )
    page.close()
