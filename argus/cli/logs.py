"""Logging of the processes: one line for each record, on stderr. Prompts are never logged."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from argus.config import LogConfig
from argus.errors import ArgusError

FORMAT = "%(asctime)s %(levelname)-7s {component} %(name)s: %(message)s"
FIELDS = ("request_id", "attempt", "node")
"""What a call of a logger may say in `extra`, beside what its message says to people."""


class OneLineFormatter(logging.Formatter):
    """Keeps a record on one line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text with line ends shown as ` | `."""
        return " | ".join(super().format(record).splitlines())


class JsonFormatter(logging.Formatter):
    """Makes each record one JSON object on one line.

    Keys: time (RFC 3339, UTC), level, component, logger, message; request_id, attempt and node
    where they are known; exception with type, message and traceback where there was one.

    Args:
        component: who logs.
    """

    def __init__(self, component: str) -> None:
        super().__init__()
        self._component = component

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        time = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        said: dict[str, Any] = {
            "time": time.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "component": self._component,
            "logger": record.name,
            "message": record.getMessage(),
        }
        said |= {name: record.__dict__[name] for name in FIELDS if name in record.__dict__}
        if record.exc_info and record.exc_info[1] is not None:
            error = record.exc_info[1]
            said["exception"] = {
                "type": type(error).__name__,
                "message": str(error),
                "traceback": "".join(traceback.format_exception(error)),
            }
        # What JSON does not have, such as a path, is shown as text.
        return json.dumps(said, ensure_ascii=False, default=str)


def setup_logging(config: LogConfig, component: str) -> None:
    """Log everything from the level of `config` up to stderr, in its format.

    Args:
        config: level and format.
        component: who logs, such as `coordinator` or the name of a node.
    """
    handler = logging.StreamHandler()
    if config.format == "json":
        handler.setFormatter(JsonFormatter(component))
    else:
        name = component.replace("%", "%%")
        handler.setFormatter(OneLineFormatter(FORMAT.format(component=name)))
    # Python's own warnings would stand between the objects as text.
    logging.captureWarnings(config.format == "json")
    logging.basicConfig(level=config.level.upper(), handlers=[handler], force=True)
    # Other libraries speak at debug or info level about things nobody here can act on.
    for library in ("asyncio", "grpc", "PIL", "urllib3", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)


def last_word(message: str) -> None:
    """Say on stderr, in one line, why the process ends; as JSON where it logs JSON."""
    line = " ".join(message.split())
    if any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers):
        logging.getLogger("argus").critical("%s", line)
    else:
        print(f"argus: {line}", file=sys.stderr)


@contextmanager
def log_bugs() -> Iterator[None]:
    """Log an exception that nobody foresaw with its traceback; it goes on up all the same."""
    try:
        yield
    except ArgusError:
        raise
    except Exception:
        logging.getLogger(__name__).exception("a bug ended the process")
        raise
