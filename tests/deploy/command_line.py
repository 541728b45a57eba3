"""Whether the command line takes what a file of deploy/ passes to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from argus.cli.main import app

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UsageError = typer.BadParameter.__base__
"""What all errors in arguments are; typer does not export it."""


def parsed(arguments: Sequence[str]) -> tuple[str, Mapping[str, Any]]:
    """Return the command of `argus ARGUMENTS…` and its options by name, without running it.

    Raises:
        UsageError: there is no such command or option, or a value does not fit.
    """
    group: Any = typer.main.get_command(app)
    with group.make_context("argus", list(arguments), resilient_parsing=True) as context:
        name, command, rest = group.resolve_command(context, list(arguments))
        if command is None:
            raise UsageError(f"no such command: {arguments[0]}")
        with command.make_context(name, list(rest), parent=context) as inner:
            return name, dict(inner.params)
