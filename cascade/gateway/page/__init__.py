"""The dashboard's page: HTML, CSS and JavaScript without any build, and uPlot 1.6.32 (MIT, see ``uplot.LICENSE``) as it is.

It asks no other address than the gateway's, and holds no figures itself: those need a key.
"""

from pathlib import Path

FILES = {
    "index.html": b"text/html; charset=utf-8",
    "page.css": b"text/css; charset=utf-8",
    "uplot.css": b"text/css; charset=utf-8",
    "page.js": b"text/javascript; charset=utf-8",
    "draw.js": b"text/javascript; charset=utf-8",
    "uplot.js": b"text/javascript; charset=utf-8",
}


def read(name: str) -> bytes:
    """One of FILES."""
    return Path(__file__).with_name(name).read_bytes()
