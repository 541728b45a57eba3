"""Logs are one line a record, with the component's name."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from argus.cli.logs import setup_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers


def test_a_traceback_stays_on_the_line_of_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("info", "node-7 100%")
    log = logging.getLogger("argus.test")
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("it failed")
    log.debug("not shown")
    (line,) = capsys.readouterr().err.splitlines()
    assert "ERROR   node-7 100% argus.test: it failed | Traceback" in line
    assert line.endswith("ValueError: first | second")


def test_other_libraries_stay_quiet_at_debug(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging("debug", "up")
    logging.getLogger("asyncio").debug("noise")
    logging.getLogger("argus.test").debug("signal")
    (line,) = capsys.readouterr().err.splitlines()
    assert "signal" in line
