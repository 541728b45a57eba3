"""Logs are one line a record, with the component's name."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from argus.cli.logs import setup_logging
from argus.config import LogConfig
from tests.unit.cli.running import argus


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, root.handlers[:]
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.captureWarnings(False)


def test_a_traceback_stays_on_the_line_of_its_record(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogConfig(), "node-7 100%")
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
    setup_logging(LogConfig(level="debug"), "up")
    logging.getLogger("asyncio").debug("noise")
    logging.getLogger("argus.test").debug("signal")
    (line,) = capsys.readouterr().err.splitlines()
    assert "signal" in line


def test_json_is_one_object_a_line_with_what_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogConfig(format="json"), "node-7")
    log = logging.getLogger("argus.test")
    began = datetime.now(UTC)
    log.info("two\nlines of %s", "ünïcode", extra={"request_id": "r-1", "attempt": 2})
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        log.exception("it failed", extra={"node": Path("n1"), "prompt": "a red circle"})
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    plain, error, warned = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    moment = datetime.fromisoformat(plain.pop("time"))
    assert 0 <= (moment - began).total_seconds() + 1e-3 < 60
    assert plain == {
        "level": "info",
        "component": "node-7",
        "logger": "argus.test",
        "message": "two\nlines of ünïcode",
        "request_id": "r-1",
        "attempt": 2,
    }
    assert (error["level"], error["node"], "prompt" in error) == ("error", "n1", False)
    assert (error["exception"]["type"], error["exception"]["message"]) == (
        "ValueError",
        "first\nsecond",
    )
    assert error["exception"]["traceback"].startswith("Traceback (most recent call last)")
    assert (warned["logger"], "old" in warned["message"]) == ("py.warnings", True)


def test_times_end_with_z(capsys: pytest.CaptureFixture[str]) -> None:
    setup_logging(LogConfig(format="json"), "up")
    logging.getLogger("argus.test").info("now")
    time = json.loads(capsys.readouterr().err)["time"]
    assert (time[10], time[-1], len(time)) == ("T", "Z", len("2026-01-01T00:00:00.000Z"))


async def test_the_last_word_of_a_daemon_that_logs_json_is_json() -> None:
    done = await argus("coordinator", "--bind", "192.0.2.1:1", "--insecure", "--log-format", "json")
    assert done.code == 1
    said = [json.loads(line) for line in done.stderr.splitlines()]
    assert said[-1]["level"] == "critical"
    assert said[-1]["message"].startswith("coordinator.bind: cannot listen on 192.0.2.1:1")
