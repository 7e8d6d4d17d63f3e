"""Questions for a gateway."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from evals.demo.traffic import Counts, body_of, main, quality_of, send
from evals.recording import Example
from tests.workers import warm_python

EXAMPLE = Example(
    "a",
    "What is 1 + 1?",
    {"m": {"text": "2", "quality": 1.0, "samples": [{"text": "3", "quality": 0.0}, {"text": "4", "quality": None}]}},
    schema={"type": "object"},
    system="Be brief.",
)


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def command(*args: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """``python -m evals.demo.traffic`` in a process of its own."""
    return warm_python.Popen(
        [sys.executable, "-m", "evals.demo.traffic", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    )


def test_a_question_is_a_chat_completion() -> None:
    """System message, prompt and schema are where OpenAI's clients put them."""
    body = body_of(EXAMPLE, "default")
    assert body["model"] == "default"
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert body["response_format"]["json_schema"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("model", "text", "quality"),
    [("m", "2", 1.0), ("m", "3", 0.0), ("m", "4", None), ("m", "5", None), ("other", "2", None)],
)
def test_an_answers_quality_is_the_recorded_one(model: str, text: str, quality: float | None) -> None:
    """An answer or a sample with just this text; what was not recorded or graded is unknown."""
    assert quality_of(EXAMPLE, model, text) == quality


def test_a_gateway_of_its_own_answers_the_shipped_questions() -> None:
    """Every question is answered, some get feedback, and the gateway ends with the traffic."""
    port = free_port()
    with command("--serve", "--port", str(port), "--rate", "40", "--seconds", "3", "--feedback", "0.5") as process:
        out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    first, last = out.splitlines()
    assert first == f"dashboard: http://127.0.0.1:{port}/dashboard (Ctrl+C ends it)"
    total, answered = (int(part.split()[0].replace(",", "")) for part in last.split(", ")[:2])
    assert total == answered > 20
    assert "feedback on" in last
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_ctrl_c_ends_the_gateway_too() -> None:
    """The summary of what was sent is printed, and no process remains."""
    port = free_port()
    with command("--serve", "--port", str(port), "--rate", "40") as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("dashboard:")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert "questions" in out
    assert "Traceback" not in err
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def gone(port: int) -> bool:
    """Whether nobody listens on a port any more, or stops to within a few seconds."""
    for _ in range(100):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
        except ConnectionRefusedError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_no_signal_leaves_a_gateway_running(stop: signal.Signals, tmp_path: Path) -> None:
    """The gateway ends with the traffic; where a signal can be caught, the temporary folder is deleted, too."""
    port = free_port()
    with command("--serve", "--port", str(port), "--rate", "40", environment={"TMPDIR": str(tmp_path)}) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("dashboard:")
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(stop)
        assert process.wait(60) in (0, 1, -signal.SIGKILL)
        assert gone(port)
        if stop != signal.SIGKILL:
            assert not list(tmp_path.iterdir())


def test_a_taken_port_is_an_error() -> None:
    """The other program gets no connection, and its address is not printed as that of the dashboard."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with command("--serve", "--port", str(port), "--seconds", "1") as process:
            out, err = process.communicate(timeout=60)
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            other.accept()
    assert (process.returncode, out) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}" in err
    assert "--port" in err


def test_an_error_states_the_address_without_its_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither a user, a password nor a query of the address is printed."""
    url = f"http://user:hidden@127.0.0.1:{free_port()}/?key=hidden"
    assert main(["--url", url, "--seconds", "0.5", "--rate", "20"]) == 1
    out, err = capsys.readouterr()
    assert f"{url.partition('/?')[0].replace('user:hidden@', '')}: no question was answered" in err
    assert "hidden" not in out + err


def test_a_gateway_that_is_not_there_is_counted() -> None:
    """A lost connection ends no traffic."""
    counts = Counts()

    async def to_nobody() -> None:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{free_port()}") as client:
            await send(client, [EXAMPLE], counts, rate=50.0, seconds=0.3)

    asyncio.run(to_nobody())
    assert counts.ends["ConnectError"] == sum(counts.ends.values()) > 0
    assert "answered" in counts.words()


@pytest.mark.parametrize(
    "args", [("--serve", "--rate", "0"), ("--serve", "--feedback", "2"), ("--serve", "--url", "x"), ("--url", "x"), ()]
)
def test_wrong_settings_are_refused(capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    """argparse says which, with status 2."""
    with pytest.raises(SystemExit, match=r"^2$"):
        main(args)
    assert "usage:" in capsys.readouterr().err
