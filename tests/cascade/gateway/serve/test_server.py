"""``python -m cascade serve`` as a process: what it says, how it stops."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from cascade.cli import main
from cascade.gateway.auth.key_file import KeyFile
from tests.cascade.gateway.test_health import value
from tests.workers import warm_python

ROOT = Path(__file__).parents[4]
FILE = """
journal: {url: sqlite:///j.db}
models: {m: {provider: scripted, answers: ["51"]}}
policies: {default: {tiers: [{model: m, accept_at: 0.0}]}}
"""


@contextmanager
def process(*arguments: str, scheme: str = "http", **environment: str) -> Iterator[tuple[subprocess.Popen[str], str, str]]:
    """The command, once it listens: the process, its address, and what it said until then."""
    command = [sys.executable, "-m", "cascade", "serve", "--port", "0", "--stop-on-eof", *arguments]
    keyless = {name: value for name, value in os.environ.items() if not name.endswith("_API_KEY")} | environment
    pipe = subprocess.PIPE  # standard input ends with this process: no stopped test leaves a gateway running
    running = warm_python.Popen(command, stdin=pipe, stderr=pipe, text=True, cwd=ROOT, env=keyless)
    output = ""
    try:
        assert running.stderr is not None
        for line in running.stderr:
            output += line
            if f"{scheme}://" in line:
                yield running, line.split()[1].removesuffix("/v1"), output
                return
        raise AssertionError(output)
    finally:
        running.kill()
        running.wait()
        for stream in (running.stdin, running.stderr):
            assert stream is not None
            stream.close()


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_the_command_serves_and_stops(tmp_path: Path, stop: signal.Signals) -> None:
    """It says where and who is served; a signal ends it with 0, without a traceback, its journal written."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    with process("--policy-file", str(path)) as (running, url, output):
        assert "only this machine is served" in output
        body = {"model": "default", "messages": [{"role": "user", "content": "What is 17 * 3?"}]}
        run_id = httpx2.post(f"{url}/v1/chat/completions", json=body).json()["cascade"]["run_id"]
        running.send_signal(stop)
        _, err = running.communicate(timeout=20)
        assert (running.returncode, err) == (0, "")
    done = warm_python.run(
        [sys.executable, "-m", "cascade", "journal", "show", run_id, "--policy-file", str(path)],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "accepted" in done.stdout


@contextmanager
def policy_file(folder: Path) -> Iterator[Path]:
    """The policies in a file."""
    path = folder / "policies.yaml"
    path.write_text(FILE)
    yield path


def test_a_taken_port_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the address and what to do, in one line; the gateway does not start."""
    with policy_file(tmp_path) as path, socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--policy-file", str(path), "--port", str(port)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"cascade: cannot listen on 127.0.0.1:{port}: another program listens there")


def test_an_address_of_another_machine_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """192.0.2.1 is reserved for documentation, so that no machine has it."""
    KeyFile(tmp_path / "keys.db").create("ana")
    assert main(["serve", "--host", "192.0.2.1", "--port", "0", "--keys", str(tmp_path / "keys.db")]) == 2
    assert "this machine has no such address" in capsys.readouterr().err


def test_a_gateway_serves_on_the_socket_of_its_parent_and_ends_with_it(tmp_path: Path) -> None:
    """``--fd`` and ``--stop-on-eof``: the parent need not live for the gateway to stop."""
    with policy_file(tmp_path) as path, socket.create_server(("127.0.0.1", 0)) as listener:
        number = listener.fileno()
        command = [
            sys.executable,
            "-m",
            "cascade",
            "serve",
            "--policy-file",
            str(path),
            "--fd",
            str(number),
            "--stop-on-eof",
        ]
        with warm_python.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, pass_fds=(number,)
        ) as running:
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert httpx2.get(f"{url}/healthz", timeout=20).json() == {"status": "ok"}
            _, err = running.communicate(timeout=20)  # which closes its standard input
    assert running.returncode == 0
    assert f"{url}/v1 serves" in err


def test_a_descriptor_that_is_no_listening_socket_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    """A file, and a number that is not open."""
    with open(os.devnull) as file:
        for number in (file.fileno(), 9999):
            assert main(["serve", "--fd", str(number)]) == 2
            assert f"--fd {number}: " in capsys.readouterr().err


def test_localhost_is_every_loopback_address(tmp_path: Path) -> None:
    """IPv4 and, where the machine has it, IPv6, on the same port."""
    with policy_file(tmp_path) as path, process("--policy-file", str(path), "--host", "localhost") as (_, url, _):
        port = int(url.rpartition(":")[2])
        for _, _, _, _, place in socket.getaddrinfo("localhost", port, type=socket.SOCK_STREAM):
            host = f"[{place[0]}]" if ":" in str(place[0]) else str(place[0])
            assert httpx2.get(f"http://{host}:{port}/healthz").status_code == 200


def test_the_shipped_recording_needs_no_key(tmp_path: Path) -> None:
    """The packaged policies are served; those without a key are named, the others answer."""
    with process("--policy-file", str(ROOT / "policies.yaml"), "--keys", str(tmp_path / "k.db")) as (_, url, output):
        assert "policy 'openai' cannot run: model 'gpt-balanced': set the environment variable OPENAI_API_KEY" in output
        prompt = "What is the capital of France? Reply with the answer only."
        assert "Paris" in httpx2.post(f"{url}/v1/route", json={"prompt": prompt}, timeout=20).json()["answer"]
        names = [m["id"] for m in httpx2.get(f"{url}/v1/models").json()["data"]]
        assert "default" in names
        assert "openai" not in names


def test_the_metrics_of_several_processes(tmp_path: Path) -> None:
    """With a shared folder, each process reports the sum of all."""
    (tmp_path / "metrics").mkdir()
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    shared = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    body = {"prompt": "What is 17 * 3?"}
    with (
        process("--policy-file", str(path), **shared) as (_, one, _),
        process("--policy-file", str(path), **shared) as (_, two, _),
    ):
        for url in (one, one, two):
            assert httpx2.post(f"{url}/v1/route", json=body).status_code == 200
        requests = ("cascade_http_requests_total", 'route="/v1/route"', 'status="200"')
        ends = time.monotonic() + 20
        for url in (one, two):
            while value(message := httpx2.get(f"{url}/metrics").text, *requests) < 3:  # counted once the response is sent
                assert time.monotonic() < ends, message
            assert value(message, *requests) == 3
            assert value(message, "cascade_runs_total", 'policy="default"') == 3
