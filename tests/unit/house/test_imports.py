"""Imports run downward only, and the expensive ones only where they are needed."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import argus

ROOT = Path(argus.__file__).parent
LEAVES = {"types", "errors", "clock", "histogram", "priority"}
"""Modules every room may use."""
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "clock": set(),
    "histogram": set(),
    "priority": set(),
    "v1": {"v1"},
    "config": LEAVES,
    "auth": LEAVES | {"auth"},
    "cache": LEAVES | {"config", "cache"},
    "control": LEAVES | {"control"},
    "diffusion": LEAVES | {"diffusion"},
    "engine": LEAVES | {"engine", "diffusion", "kernels"},
    "rpc": LEAVES | {"auth", "config", "rpc", "v1"},
    "tracing": LEAVES | {"config", "tracing"},
    "client": LEAVES | {"client", "rpc", "tracing", "v1"},
    "sim": LEAVES | {"control", "engine", "sim"},
    "web": LEAVES | {"rpc", "web"},
    "metrics": LEAVES | {"metrics", "rpc", "v1", "web"},
    "gateway": LEAVES
    | {"auth", "config", "client", "gateway", "metrics", "rpc", "tracing", "v1", "web"},
    "coordinator": LEAVES
    | {
        "auth",
        "config",
        "coordinator",
        "control",
        "cache",
        "metrics",
        "rpc",
        "tracing",
        "v1",
        "models",
        "quality",
    },
    "node": LEAVES
    | {"config", "node", "control", "cache", "engine", "diffusion", "rpc", "v1", "models"}
    | {"metrics", "tracing"},
    "ray": LEAVES | {"config", "node", "ray", "rpc"},
    "quality": LEAVES | {"config", "control", "cache", "client", "rpc", "v1", "models", "quality"},
    "doctor": LEAVES | {"client", "config", "coordinator", "diffusion", "doctor", "node", "rpc"},
    "cli": LEAVES
    | {"doctor", "tracing"}
    | {"auth", "config", "cli", "client", "rpc", "v1", "coordinator", "node", "models", "cache"}
    | {"control", "quality", "gateway", "ray", "web", "sim"},
}


def modules() -> list[Path]:
    return [p for p in sorted(ROOT.rglob("*.py")) if p.name != "__init__.py" or p.parent != ROOT]


def room_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return parts[0]


def imported_rooms(path: Path) -> set[str]:
    rooms: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "argus" and len(parts) > 1:
                rooms.add(parts[1])
    return rooms - {"__version__"}


@pytest.mark.parametrize("path", modules(), ids=lambda p: str(p.relative_to(ROOT)))
def test_arrows_point_down(path: Path) -> None:
    room = room_of(path)
    assert room in ALLOWED, f"a new room: say here what {room} may import"
    assert imported_rooms(path) <= ALLOWED[room]


def test_every_rule_names_a_room_that_exists() -> None:
    exist = {room_of(path) for path in modules()}
    assert set(ALLOWED) <= exist


@pytest.mark.parametrize(
    ("module", "forbidden"),
    [
        ("argus", {"torch", "grpc", "numpy"}),
        ("argus.client", {"opentelemetry", "torch", "diffusers", "cvxpy"}),
        ("argus.cache.embedders", {"torch", "transformers", "psycopg"}),
        ("argus.cache.index_embedded", {"torch", "psycopg"}),
        ("argus.control.aligner", {"torch", "numpy", "scipy"}),
        ("argus.control.demand", {"torch", "numpy", "scipy"}),
        ("argus.control.planner", {"torch", "grpc", "cvxpy", "highspy"}),
        ("argus.control.reuse", {"torch", "numpy"}),
        ("argus.control.strategy", {"torch", "numpy", "scipy"}),
        ("argus.control.router", {"torch", "grpc", "diffusers"}),
        ("argus.control.profile", {"torch", "grpc", "diffusers"}),
        ("argus.control.drift", {"torch", "grpc", "numpy"}),
        ("argus.coordinator.serving", {"opentelemetry", "torch", "diffusers", "psycopg"}),
        ("argus.kernels", {"torch", "triton", "numpy"}),
        ("argus.models", {"torch"}),
        ("argus.gateway.service", {"opentelemetry", "torch", "numpy", "diffusers", "PIL"}),
        ("argus.node.daemon", {"opentelemetry", "torch", "diffusers", "psycopg"}),
        ("argus.node.cache", {"torch", "psycopg"}),
        ("argus.ray.daemon", {"torch", "diffusers", "ray"}),
        ("argus.cli.main", {"opentelemetry", "torch", "diffusers", "cvxpy", "ray"}),
    ],
)
def test_importing_stays_cheap(module: str, forbidden: set[str]) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & {forbidden!r}))"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == ""


def test_kernels_is_not_importable_by_its_bare_name() -> None:
    code = "import importlib.util as u; print(u.find_spec('kernels'))"
    found = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT.parent,
    )
    assert found.stdout.strip() == "None"
