"""The gateway's log: text or JSON, levels, an access log."""

import json
import logging
import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx2
import pytest

from cascade.cli import main
from cascade.gateway.serve.log_format import JsonFormatter, TextFormatter
from cascade.util.log_events import Event
from tests.cascade.gateway.conftest import Running
from tests.cascade.gateway.serve.test_server import FILE, process

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"
QUESTION = {"prompt": "the prompt's own words"}


def record(message: object, logger: str = "cascade.gateway", error: BaseException | None = None) -> logging.LogRecord:
    """A warning."""
    info = None if error is None else (type(error), error, error.__traceback__)
    return logging.LogRecord(logger, logging.WARNING, __file__, 1, message, args=None, exc_info=info)


def test_a_text_line_has_time_level_and_logger() -> None:
    """And is one line, whatever a name in it holds."""
    line = TextFormatter().format(record("policy 'a\nb\x1b[31m\x9b'"))
    assert re.fullmatch(TIME + r" WARNING cascade\.gateway policy 'a\\nb\\x1b\[31m\\x9b'", line)


def test_a_json_line_has_an_events_fields() -> None:
    """Numbers stay numbers, unknown is null."""
    line = json.loads(JsonFormatter().format(record(Event("a provider fails", model="m", failures=3, cost_usd=None))))
    assert re.fullmatch(TIME, line.pop("time"))
    assert line.pop("pid") > 0
    assert line == {
        "level": "WARNING",
        "logger": "cascade.gateway",
        "message": "a provider fails",
        "model": "m",
        "failures": 3,
        "cost_usd": None,
    }


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_an_exceptions_message_and_others_keys_are_not_logged(formatter: logging.Formatter) -> None:
    """An exception may quote a prompt, another library a header."""
    try:
        raise ValueError(QUESTION["prompt"])
    except ValueError as error:
        line = formatter.format(record("it failed: sk-abcdef123456", "httpx", error))
    assert "ValueError" in line
    assert "test_log_format.py" in line
    assert "own words" not in line
    assert "abcdef" not in line


def test_every_line_is_json(tmp_path: Path) -> None:
    """Also uvicorn's, and those that the command writes itself; at info each request and each run has its line."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    options = ("--log-format", "json", "--log-level", "info")
    with process("--policy-file", str(path), *options, CASCADE_LOG_FORMAT="text") as (running, _, output):
        url = re.findall(r"http://[^/]+", output)[-1]
        run_id = httpx2.post(f"{url}/v1/route", json=QUESTION).json()["run_id"]
        assert httpx2.get(f"{url}/nowhere?sk-secret-word").status_code == 404
        running.send_signal(signal.SIGTERM)
        _, rest = running.communicate(timeout=20)
    lines = [json.loads(line) for line in (output + rest).splitlines()]
    assert {"uvicorn.error", "cascade.gateway"} <= {line["logger"] for line in lines}
    (run,) = [line for line in lines if line["logger"] == "cascade.run"]
    assert (run["run_id"], run["policy"], run["calls"]) == (run_id, "default", 1)
    requests = [line for line in lines if line["logger"] == "cascade.access"]
    assert [(r["method"], r["route"], r["status"]) for r in requests] == [("POST", "/v1/route", 200), ("GET", "none", 404)]
    assert "own words" not in output + rest
    assert "secret" not in output + rest


def test_the_environment_sets_format_and_level(tmp_path: Path) -> None:
    """Where no option does; a request's line can be left out."""
    path = tmp_path / "policies.yaml"
    path.write_text(FILE)
    environment = {"CASCADE_LOG_FORMAT": "json", "CASCADE_LOG_LEVEL": "info"}
    with process("--policy-file", str(path), "--no-access-log", **environment) as (running, _, output):
        url = re.findall(r"http://[^/]+", output)[-1]
        assert httpx2.post(f"{url}/v1/route", json=QUESTION).status_code == 200
        running.send_signal(signal.SIGTERM)
        _, rest = running.communicate(timeout=20)
    loggers = [json.loads(line)["logger"] for line in (output + rest).splitlines()]
    assert loggers.count("cascade.run") == 1
    assert "cascade.access" not in loggers


def test_a_wrong_level_is_an_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It names the variable and what it may be."""
    monkeypatch.setenv("CASCADE_LOG_LEVEL", "loud")
    assert main(["serve", "--port", "0"]) == 2
    assert capsys.readouterr().err == "cascade: CASCADE_LOG_LEVEL=loud: must be one of debug, info, warning, error\n"


def test_an_error_at_the_start_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """Who collects the lines can parse all of them."""
    assert main(["serve", "--policy-file", "nowhere.yaml", "--port", "0", "--log-format", "json"]) == 2
    line = json.loads(capsys.readouterr().err)
    assert line["level"] == "ERROR"
    assert "nowhere.yaml" in line["message"]


def test_a_requests_line_names_the_key_and_never_its_text(
    serve: Callable[..., Running], caplog: pytest.LogCaptureFixture
) -> None:
    """A refused request has its line, too."""
    gateway = serve(FILE.replace("journal: {url: sqlite:///j.db}", ""))
    caplog.set_level(logging.INFO, "cascade.access")
    assert gateway.chat().status_code == 200
    assert gateway.chat(model="nosuch").status_code == 404
    for _ in range(100):  # the line is written after the response
        lines = [r.msg.fields for r in caplog.records if r.name == "cascade.access" and isinstance(r.msg, Event)]
        if len(lines) == 2:
            break
        time.sleep(0.02)
    assert [(line["route"], line["status"], line["client"]) for line in lines] == [
        ("/v1/chat/completions", 200, "127.0.0.1"),
        ("/v1/chat/completions", 404, "127.0.0.1"),
    ]
    assert all(0 < line["ms"] < 60_000 for line in lines)
