"""Processes run on uvloop and end on signals."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import pytest

from argus.rpc.loop import run


async def loop_module(stop: asyncio.Event) -> str:
    return type(asyncio.get_running_loop()).__module__


def test_uvloop_runs_the_program() -> None:
    assert run(loop_module).startswith("uvloop")


def test_without_uvloop_asyncio_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert run(loop_module).startswith("asyncio")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_asks_to_stop(number: signal.Signals) -> None:
    async def main(stop: asyncio.Event) -> str:
        os.kill(os.getpid(), number)
        await asyncio.wait_for(stop.wait(), 5)
        return "in good order"

    assert run(main) == "in good order"


def test_the_second_signal_cancels() -> None:
    async def main(stop: asyncio.Event) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        await stop.wait()
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(3600)

    with pytest.raises(asyncio.CancelledError):
        run(main)
