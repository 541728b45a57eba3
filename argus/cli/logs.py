"""Logging of the processes: one line for each record, on stderr. Prompts are never logged."""

from __future__ import annotations

import logging

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
    # Other libraries speak at debug level about things nobody here can act on.
    for library in ("asyncio", "grpc", "PIL", "urllib3"):
        logging.getLogger(library).setLevel(logging.WARNING)
