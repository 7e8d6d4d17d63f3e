"""The report of a replay in a real browser: it fits every window, its tables are not cut off, and its filter works."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.clients

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-clients")

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report on the shipped recording: three tiers with long names, seven tasks, thresholds by task."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    command = ["-m", "evals.replay", "--split", "recorded", "--max-loss", "0.1", "--by", "task", "--report", str(path)]
    subprocess.run([sys.executable, *command], cwd=Path(__file__).parents[2], check=True, capture_output=True, timeout=120)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", list(SIZES))
def test_no_table_is_cut_off_and_no_label_lies_on_another(browser: Any, report: Path, size: str, scheme: str) -> None:
    """Neither the page nor a table is wider than the window; the labels of the chart keep their distance."""
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    failures: list[str] = []
    page.on("pageerror", lambda error: failures.append(str(error)))
    page.goto(report.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    hidden = "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth + 1).map(e => e.ariaLabel)"
    assert page.evaluate(hidden) == []
    boxes = page.evaluate(
        """[...document.querySelectorAll('text.label')].map(e => e.getBoundingClientRect())
        .filter(b => b.width > 0).map(b => [b.left, b.right, b.top, b.bottom])"""
    )
    assert len(boxes) > 5
    cut = page.evaluate(
        """[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().width > 0).flatMap(svg => {
        const box = svg.getBoundingClientRect();
        return [...svg.querySelectorAll('text')].filter(e => { const b = e.getBoundingClientRect();
            return b.width > 0 && (b.left < box.left - 1 || b.right > box.right + 1); }).map(e => e.textContent) })"""
    )
    assert cut == []
    for i, (left, right, top, bottom) in enumerate(boxes):
        for other in boxes[i + 1 :]:
            apart = (other[0] >= right - 1, other[1] <= left + 1, other[2] >= bottom - 4, other[3] <= top + 4)
            assert any(apart), (boxes[i], other)
    assert failures == []
    page.close()


def test_mistakes_are_filtered_by_task(browser: Any, report: Path) -> None:
    """Only those of the chosen task stay in sight."""
    page = browser.new_page()
    page.goto(report.as_uri())
    details = page.locator("section:has(h2:text('Worst')) details:visible")
    every = details.count()
    select = page.locator("section:has(h2:text('Worst')) select")
    select.select_option(index=1)
    task = select.evaluate("e => e.value")
    assert 0 < details.count() < every
    assert all(f" {task} " in f" {text} " for text in details.locator("summary").all_inner_texts())
    page.close()
