"""The gateway's log: one format, text or JSON, for its own lines and uvicorn's."""

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from cascade.errors import CascadeError
from cascade.util.log_events import Event
from cascade.util.redaction import mask_keys

FORMATS = ("text", "json")
LEVELS = ("debug", "info", "warning", "error")
_OURS = ("cascade", "uvicorn")
_CONTROLS = {i: rf"\x{i:02x}" for i in (*range(9), *range(11, 32), *range(127, 160))} | {10: r"\n", 0x2028: r"\u2028"}


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _message(record: logging.LogRecord) -> str:
    """The record's message; another library's may quote a key."""
    message = record.getMessage()
    return message if record.name.partition(".")[0] in _OURS else mask_keys(message)


class TextFormatter(logging.Formatter):
    """``2026-01-31T12:00:00.000Z WARNING cascade.gateway message``, in one line except for a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        lines = [f"{_time(record)} {record.levelname} {record.name} {_message(record).translate(_CONTROLS)}"]
        if record.exc_info:
            lines.append(self.formatException(record.exc_info))
        return "\n".join(lines)

    def formatException(self, ei: object) -> str:
        """The exception's class and place; its message may quote a prompt."""
        return _exception(ei)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``time``, ``level``, ``logger``, ``message``, ``pid``, and an event's own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """See logging."""
        line: dict[str, object] = {"time": _time(record), "level": record.levelname, "logger": record.name}
        if isinstance(record.msg, Event):
            line |= {"message": record.msg.message, **record.msg.fields}
        else:
            line["message"] = _message(record)
        line["pid"] = record.process
        if record.exc_info:
            line["exception"] = _exception(record.exc_info)
        return json.dumps(line, default=str)


def _exception(info: object) -> str:
    error = info[1] if isinstance(info, tuple) else None
    if not isinstance(error, BaseException):
        return ""
    return f"{type(error).__name__}:\n{''.join(traceback.format_tb(error.__traceback__))}".rstrip()


def add_to(parser: argparse.ArgumentParser) -> None:
    """Adds the options of the log to the parser of ``cascade serve``."""
    parser.add_argument("--log-format", choices=FORMATS, help="default: CASCADE_LOG_FORMAT, else text")
    parser.add_argument(
        "--log-level",
        choices=LEVELS,
        help="info adds a line for each request and each run (default: CASCADE_LOG_LEVEL, else warning)",
    )
    parser.add_argument("--no-access-log", action="store_true", help="no line for each request at level info")


@contextmanager
def process_log(args: argparse.Namespace) -> Iterator["Log"]:
    """Sets up the log of this process while it serves; the previous set-up is restored afterwards.

    Args:
        args: The options that ``add_to`` added.

    Yields:
        The log in which the command writes its own lines.

    Raises:
        CascadeError: An environment variable has a value that the option would not take.
    """
    format = args.log_format or _choice("CASCADE_LOG_FORMAT", FORMATS) or "text"
    level = args.log_level or _choice("CASCADE_LOG_LEVEL", LEVELS) or "warning"
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root, access = logging.getLogger(), logging.getLogger("cascade.access")
    loggers = [root, access, *map(logging.getLogger, _OURS)]
    previous = [(logger, logger.level) for logger in loggers]
    handlers, root.handlers = root.handlers, [handler]
    # Other libraries' lines at info say where requests go, and with which query.
    root.setLevel(logging.WARNING)
    for name in _OURS:
        logging.getLogger(name).setLevel(level.upper())
    if args.no_access_log:
        access.setLevel(logging.WARNING)
    try:
        yield Log(handler, json_lines=format == "json")
    finally:
        root.handlers = handlers
        for logger, number in previous:
            logger.setLevel(number)


class Log:
    """Writes the command's own messages at any log level: as they are in text, as an object in JSON.

    Attributes:
        json_lines: Whether every line is JSON.
    """

    def __init__(self, handler: logging.Handler, *, json_lines: bool) -> None:
        self._handler, self.json_lines = handler, json_lines

    def say(self, message: str, level: int = logging.INFO) -> None:
        """Writes a line."""
        if self.json_lines:
            fields = {"name": "cascade.gateway", "levelno": level, "levelname": logging.getLevelName(level), "msg": message}
            self._handler.handle(logging.makeLogRecord(fields))
        else:
            print(f"cascade: {message}", file=sys.stderr, flush=True)


def _choice(variable: str, choices: tuple[str, ...]) -> str | None:
    value = os.environ.get(variable) or None
    if value is not None and value not in choices:
        raise CascadeError(f"{variable}={value}: must be one of {', '.join(choices)}")
    return value
