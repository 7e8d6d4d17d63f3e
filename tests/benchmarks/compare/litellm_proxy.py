"""This gateway beside LiteLLM's proxy, before the same upstream: requests a second of one core; prints JSON.

``make compare-litellm`` installs the proxy in an environment of its own and runs this. Both are started as their
documentation says, with one worker, no keys, no database, and no log of requests. Requests are counted by the processor
time of the server, so that what else the machine does does not count.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import cascade
from tests.benchmarks.bench_gateway import PROVIDER, UPSTREAM, gateway, process, throughput

TARGET = 6.0
ROUNDS, REQUESTS = 3, 640
CONFIG = """
model_list:
  - model_name: default
    litellm_params: {{model: openai/m, api_base: "{url}/v1", api_key: none}}
litellm_settings: {{num_retries: 0}}
"""


@contextmanager
def litellm(url: str, python: str) -> Iterator[tuple[int, int]]:
    """The proxy of the environment of ``python``: its port and its process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, "config.yaml")
        config.write_text(CONFIG.format(url=url))
        command = [str(Path(python).parent / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        environment = os.environ | {
            "LITELLM_LOG": "ERROR",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
            "LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY": "true",  # no keys on either side
        }
        with open(os.devnull, "w") as quiet:
            running = subprocess.Popen([*command, "--telemetry", "False"], env=environment, stdout=quiet, stderr=quiet)
        try:
            until = monotonic() + 120
            while not _alive(port):
                if running.poll() is not None or monotonic() > until:
                    raise RuntimeError(f"LiteLLM's proxy did not start: try {' '.join(command)}")
                sleep(0.5)
            yield port, running.pid
        finally:
            running.terminate()
            running.wait(30)


def _alive(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/liveliness", timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def version(python: str) -> str:
    """Of the proxy."""
    code = "from importlib.metadata import version; print(version('litellm'))"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def main(python: str) -> int:
    """Interleaved rounds; 1 where the ratio misses its target.

    Args:
        python: The interpreter of an environment in which ``litellm[proxy]`` is installed.
    """
    figures: dict[str, dict[str, list[float]]] = {}
    failed = 0
    with process("-c", PROVIDER) as (provider, _):
        url = f"http://127.0.0.1:{provider}"
        with gateway(UPSTREAM.format(url=url)) as ours, litellm(url, python) as theirs:
            for connections in (1, 16, 64):
                for name, (port, pid) in (("cascade", ours), ("litellm", theirs)):
                    asyncio.run(throughput(port, pid, 2 * connections + 50, connections))  # a warm start
                    lines = [asyncio.run(throughput(port, pid, REQUESTS, connections)) for _ in range(ROUNDS)]
                    failed += sum(line[2] for line in lines)
                    figures.setdefault(f"at_{connections}", {})[name] = [line[0] for line in lines]
    report: dict[str, object] = {}
    for at, each in figures.items():
        per_s = {name: round(statistics.median(values), 1) for name, values in each.items()}
        report[at] = per_s | {"ratio": round(per_s["cascade"] / per_s["litellm"], 2)}
    ratios = [line["ratio"] for line in report.values() if isinstance(line, dict)]
    ok = failed == 0 and min(ratios) >= TARGET
    versions = {"cascade": cascade.__version__, "litellm": version(python), "python": sys.version.split()[0]}
    print(json.dumps({"litellm_proxy": report, "per": "core and second", "failed": failed, "target": TARGET,
                      "n": ROUNDS * REQUESTS, "versions": versions, "ok": ok}))  # fmt: skip
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
