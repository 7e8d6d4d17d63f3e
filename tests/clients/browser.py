"""A real browser: Debian's Chromium, or another one that the environment variable CHROMIUM names."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
_QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
_QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]


@contextmanager
def launched() -> Iterator[Any]:
    """The browser; tests that need it are skipped where it or its driver is not installed."""
    driver_module = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: make test-clients")
    program = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("Chromium is not installed")
    with driver_module.sync_playwright() as driver:
        window = driver.chromium.launch(executable_path=program, args=_QUIET)
        yield window
        window.close()
