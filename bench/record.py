"""Measured results as files: every table stands with its command, hardware, versions and date."""

from __future__ import annotations

import datetime
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from argus.node.device import processor_name

PACKAGES = ("argus-serve", "torch", "diffusers", "numpy", "grpcio", "usearch", "psycopg")


def circumstances() -> dict[str, Any]:
    """Return what a reader needs to know to judge the numbers."""
    device = f"{processor_name()}, {os.cpu_count()} cores"
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name(0)
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d"),
        "command": " ".join(["python", *map(_anywhere, sys.argv)]),
        "device": device,
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {name: version(name) for name in PACKAGES},
    }


def _anywhere(argument: str) -> str:
    """Return an argument as it reads on another machine: paths from where the command was run."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else path.name


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows with the same keys as a Markdown table."""
    keys = list(rows[0])
    cells = [[_shown(row[key]) for key in keys] for row in rows]
    lines = [" | ".join(keys), " | ".join("---" for _ in keys)]
    return "\n".join(f"| {line} |" for line in lines + [" | ".join(c) for c in cells])


def _shown(value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def write(
    out: Path,
    name: str,
    tables: Mapping[str, Sequence[Mapping[str, Any]]],
    facts: Mapping[str, Any] | None = None,
) -> str:
    """Write NAME.json and NAME.md below `out` and return the Markdown.

    Args:
        out: folder, made if needed.
        name: of the measurement.
        tables: rows by heading.
        facts: circumstances of an earlier run whose tables are written anew; None: those of now.
    """
    out.mkdir(parents=True, exist_ok=True)
    facts = circumstances() if facts is None else facts
    data = {"circumstances": facts, "tables": tables}
    (out / f"{name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    parts = [f"# {name}", ""]
    parts += [f"- {key}: {value}" for key, value in facts.items() if key != "versions"]
    parts += ["- versions: " + ", ".join(f"{k} {v}" for k, v in facts["versions"].items()), ""]
    for heading, rows in tables.items():
        parts += [f"## {heading}", "", table(rows), ""]
    text = "\n".join(parts)
    (out / f"{name}.md").write_text(text, encoding="utf-8")
    return text
