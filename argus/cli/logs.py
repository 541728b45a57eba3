"""Logging of the processes: one line for each record, on stderr. Prompts are never logged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from argus.errors import ArgusError

FORMAT = "%(asctime)s %(levelname)-7s {component} %(name)s: %(message)s"


class OneLineFormatter(logging.Formatter):
    """Keeps a record on one line, its traceback included."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text with line ends shown as ` | `."""
        return " | ".join(super().format(record).splitlines())


def setup_logging(level: str, component: str) -> None:
    """Log everything from `level` up to stderr.

    Args:
        level: debug, info, warning or error.
        component: who logs, such as `coordinator` or the name of a node.
    """
    handler = logging.StreamHandler()
    name = component.replace("%", "%%")
    handler.setFormatter(OneLineFormatter(FORMAT.format(component=name)))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # Other libraries speak at debug or info level about things nobody here can act on.
    for library in ("asyncio", "grpc", "PIL", "urllib3", "uvicorn"):
        logging.getLogger(library).setLevel(logging.WARNING)


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
