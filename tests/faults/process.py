"""The fault server's other end: starts the process, gives it its plans, reads its ledger."""

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from tests.faults.replies import Plan
from tests.workers import warm_python

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Served:
    """One request as the server's ledger has it; ``arrived``: sent whole and readable."""

    model: str
    run: int
    fault: str | None
    usd: Decimal
    arrived: bool


@dataclass(frozen=True, slots=True)
class Ledger:
    """What was served, in the order of arrival, and the totals in USD by model."""

    entries: tuple[Served, ...]
    requests: Mapping[str, int]
    billed: Mapping[str, Decimal]
    arrived: Mapping[str, Decimal]


class FaultServer:
    """``with FaultServer() as server``: a process that shares no GIL with the client it serves."""

    def __init__(self) -> None:
        self.port = 0
        self._urls: dict[str, str] = {}

    def plan(self, models: Mapping[str, Plan], *, seed: int = 0, keep: bool = True) -> None:
        """Replaces all plans and empties the ledger; ``keep=False`` leaves only the totals in it."""
        setup = {"seed": seed, "keep": keep, "models": {name: asdict(plan) for name, plan in models.items()}}
        self._urls = self._control("plan", setup)

    def base_url(self, model: str, provider: str) -> str:
        """Where ``model`` is to be asked: OpenAI's SDK wants the version in the address, Anthropic's does not."""
        return self._urls[model] + ("/v1" if provider == "openai" else "")

    def ledger(self) -> Ledger:
        """What was served since the last plan."""
        reply = self._control("ledger", None)
        totals = ({m: Decimal(usd) for m, usd in reply[k].items()} for k in ("billed", "arrived"))
        entries = tuple(Served(m, run, fault, Decimal(usd), ok) for m, run, fault, usd, ok in reply["entries"])
        return Ledger(entries, reply["requests"], *totals)

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        return self._process.pid

    def _control(self, what: str, body: Any) -> Any:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", f"/control/{what}", json.dumps(body))
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def __enter__(self) -> "FaultServer":
        command = [sys.executable, "-m", "tests.faults.server"]
        self._process = warm_python.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate(timeout=10)
