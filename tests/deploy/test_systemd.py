"""The systemd units: verified by systemd itself, and held against the command line."""

from __future__ import annotations

import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest

from argus.cli.coordinator import HARD_END_S
from argus.config import Config
from tests.deploy.command_line import DEPLOY, parsed

UNITS = DEPLOY / "systemd"
ROLES = ("coordinator", "node", "gateway")
PROGRAM = "/opt/argus/.venv/bin/argus"
FILES = {"coordinator": "argus-coordinator", "node": "argus-node@", "gateway": "argus-gateway"}
STARTED = {role: f"{file}{'3' if file.endswith('@') else ''}" for role, file in FILES.items()}
EXPOSURE = 20
"""Of 100, by `systemd-analyze security`; 0 is a service that can do nothing."""


def settings(role: str) -> dict[str, list[str]]:
    """Return what a unit sets, by name."""
    found: dict[str, list[str]] = defaultdict(list)
    for line in (UNITS / f"{FILES[role]}.service").read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found[name].append(value)
    return found


def command(role: str) -> list[str]:
    (line,) = settings(role)["ExecStart"]
    return shlex.split(line.replace("%l", "host").replace("%i", "3"))


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """Return a folder of the units, of a program that is there: systemd looks whether it is."""
    for unit in UNITS.iterdir():
        (tmp_path / unit.name).write_text(unit.read_text().replace(PROGRAM, "/bin/true"))
    return tmp_path


def analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def verify(folder: Path) -> str:
    """Return what systemd finds wrong."""
    names = [f"./{name}.service" for name in STARTED.values()]
    said = analyze(folder, "verify", "--man=no", *names, "./argus.target")
    return f"{said.stdout}{said.stderr}" if said.returncode or said.stderr else ""


def test_systemd_finds_nothing_wrong(units: Path) -> None:
    assert verify(units) == ""


def test_systemd_would_notice_a_setting_that_does_not_exist(units: Path) -> None:
    unit = units / "argus-node@.service"
    unit.write_text(unit.read_text().replace("LockPersonality=", "LockPersonalty="))
    assert "LockPersonalty" in verify(units)


@pytest.mark.parametrize("role", ROLES)
def test_little_is_open_to_the_processes(units: Path, role: str) -> None:
    arguments = ("security", "--offline=true", f"--threshold={EXPOSURE}")
    said = analyze(units, *arguments, f"./{STARTED[role]}.service")
    assert said.returncode == 0, said.stdout[-500:]


@pytest.mark.parametrize("role", ROLES)
def test_the_command_line_is_one_that_argus_takes(role: str) -> None:
    program, *arguments = command(role)
    assert program == PROGRAM
    name, options = parsed(arguments)
    assert name == role
    assert str(options["config"]) == "/etc/argus/argus.toml"
    if role == "node":
        assert (options["device"], options["name"]) == ("cuda", "host-gpu3")
        assert (
            "CUDA_VISIBLE_DEVICES=%i CUDA_DEVICE_ORDER=PCI_BUS_ID" in settings(role)["Environment"]
        )
    assert not any("ARGUS_" in value for value in settings(role)["Environment"])


@pytest.mark.parametrize("role", ROLES)
def test_processes_have_time_to_end_in_good_order(role: str) -> None:
    (limit_s,) = settings(role)["TimeoutStopSec"]
    assert float(limit_s) > getattr(Config(), role).drain_grace_s + HARD_END_S


def test_the_target_takes_all_of_them_down(units: Path) -> None:
    for role in ROLES:
        found = settings(role)
        assert found["PartOf"] == found["WantedBy"] == ["argus.target"]
        assert found["Restart"] == ["on-failure"], "a drained node stays away"


def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    said = subprocess.run(
        ["systemd-sysusers", f"--root={tmp_path}", str(UNITS / "argus.sysusers")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stderr
    (made,) = (tmp_path / "etc" / "passwd").read_text().splitlines()
    name, _, uid, _, _, home, shell = made.split(":")
    assert (name, home) == ("argus", "/var/lib/argus")
    assert 0 < int(uid) < 1000
    assert shell.endswith("nologin")
    assert all(settings(role)["User"] == ["argus"] for role in ROLES)
