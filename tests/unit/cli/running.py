"""Runs the command as a user would, or in this process."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from dataclasses import dataclass
from pathlib import Path

import pytest

from argus.cli.main import main


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    stdout: bytes
    stderr: str


async def argus(*arguments: str, cwd: Path | None = None) -> Outcome:
    """Run the command in a process of its own."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "argus.cli.main", *arguments),
        stdout=PIPE,
        stderr=PIPE,
        cwd=cwd,
    )
    output, errors = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode is not None
    assert b"Traceback" not in errors
    return Outcome(process.returncode, output, errors.decode())


async def argus_here(
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    *arguments: str,
) -> Outcome:
    """Run the command in a thread of this process, as `main` runs it."""
    monkeypatch.setattr(sys, "argv", ["argus", *arguments])

    def run() -> int:
        with pytest.raises(SystemExit) as ended:
            main()
        return int(ended.value.code or 0)

    code = await asyncio.to_thread(run)
    captured = capfdbinary.readouterr()
    return Outcome(code, captured.out, captured.err.decode())


class Here:
    """Runs commands in this process."""

    def __init__(
        self, capfd: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self._tools = (capfd, monkeypatch)

    async def __call__(self, *arguments: str) -> Outcome:
        return await argus_here(*self._tools, *arguments)
