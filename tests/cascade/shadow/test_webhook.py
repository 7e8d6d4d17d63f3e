"""A webhook goes where the operator says, and nowhere else; its URL, which may be a secret, is in no log."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import ClassVar

import pytest

from cascade.shadow.webhook import post

SECRET = "SECRETWORD"


class Elsewhere(BaseHTTPRequestHandler):
    """Redirects a post to another address of this machine."""

    status = 302
    paths: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        """Redirects."""
        self.rfile.read(int(self.headers["content-length"]))
        self.paths.append(self.path)
        self.send_response(self.status)
        self.send_header("location", "/internal")
        self.end_headers()

    def do_GET(self) -> None:
        """What a redirect would lead to."""
        self.paths.append(self.path)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def redirecting() -> Iterator[str]:
    """The address of a server that redirects."""
    server = HTTPServer(("127.0.0.1", 0), Elsewhere)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(redirecting: str, status: int) -> None:
    """It may lead to an internal address."""
    Elsewhere.status, Elsewhere.paths = status, []
    assert not post(f"{redirecting}/hook", {"policy": "default"}, pause_s=0.001)
    assert Elsewhere.paths == ["/hook"]


@pytest.mark.parametrize(
    "url",
    [
        f"http://{SECRET}:x@127.0.0.1:1/",
        f"http://127.0.0.1:1/{SECRET}\nx",
        f"http://127.0.0.1:{SECRET}/",
        f"http://[{SECRET}/",
        f"file:///{SECRET}",
        f"http://127.0.0.1:1/{SECRET}\udc80",
    ],
)
def test_a_wrong_url_is_an_error_without_it(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is wrong with it: an exception in the thread would print it."""
    assert not post(url, {"policy": "default"}, pause_s=0.001)
    assert caplog.text
    assert SECRET not in caplog.text


def test_a_server_that_talks_nonsense(caplog: pytest.LogCaptureFixture) -> None:
    """Its answer is a fault like any other."""

    class Nonsense(Elsewhere):
        def do_POST(self) -> None:
            self.wfile.write(b"SSH-2.0-x\r\n")

    server = HTTPServer(("127.0.0.1", 0), Nonsense)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    assert not post(f"http://127.0.0.1:{server.server_port}/{SECRET}", {"policy": "default"}, pause_s=0.001)
    server.shutdown()
    thread.join()
    server.server_close()
    assert SECRET not in caplog.text
