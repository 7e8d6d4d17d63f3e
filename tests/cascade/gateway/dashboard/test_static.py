"""The dashboard's own files."""

import re
from pathlib import Path

import httpx2
import pytest

from cascade.gateway.dashboard import static
from tests.cascade.gateway.conftest import Running

PAGE = Path(static.__file__).parent / "page"


def test_everything_that_the_page_names_is_served(running: Running) -> None:
    """Styles, scripts and pictures, with types that a browser takes, from here alone."""
    index = httpx2.get(f"{running.url}/dashboard")
    assert index.headers["content-type"].startswith("text/html")
    assert "default-src 'self'" in index.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="(dashboard/[^"]+)"', index.text)
    assert len(named) >= 5
    for script in PAGE.glob("*.js"):
        named += [f"dashboard/{name}" for name in re.findall(r'from "\./([^"]+)"', script.read_text())]
    for address in named:
        response = httpx2.get(f"{running.url}/{address}")
        assert response.status_code == 200, address
        assert response.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"https?://(?!www\.w3\.org)", index.text)


@pytest.mark.parametrize(
    "name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "page_files.py", "uplot", "nothing.js", "/etc/passwd"]
)
def test_nothing_else_is(running: Running, name: str) -> None:
    """What is not a file of the page is not read, however it is written."""
    assert httpx2.get(f"{running.url}/dashboard/{name}").status_code in {404, 405}


def test_no_script_reads_text_as_markup() -> None:
    """What models and clients say is shown as text: the page's own scripts never write markup."""
    for script in PAGE.glob("*.js"):
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script.read_text()), (
            script.name
        )
