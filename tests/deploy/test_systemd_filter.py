"""The processes can do their work under the system-call filters of their units."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.deploy import filtered
from tests.deploy.test_systemd import FILES, UNITS, command

ARGUS = (sys.executable, "-P", "-m", "argus.cli.main")
SETTINGS = """
[coordinator]
bind = "127.0.0.1:{port}"
metrics = "127.0.0.1:0"
drain_grace_s = 5
[gateway]
bind = "127.0.0.1:0"
coordinator = "127.0.0.1:{port}"
drain_grace_s = 5
[node]
coordinator = "127.0.0.1:{port}"
models = ["{model}"]
threads = 1
max_lanes = 2
slots = 2
[cache]
folder = "{folder}/cache"
"""
SECONDS = 180


def under(role: str, *arguments: str) -> list[str]:
    """Return the command that runs argus under the filter of a role's unit."""
    unit = UNITS / f"{FILES[role]}.service"
    return [sys.executable, "-P", filtered.__file__, str(unit), *ARGUS, *arguments]


def test_the_filter_refuses_what_it_should() -> None:
    try_it = "import os; os.chroot('/')"
    unit = UNITS / "argus-coordinator.service"
    said = subprocess.run(
        [sys.executable, "-P", filtered.__file__, str(unit), sys.executable, "-c", try_it],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "PermissionError" in said.stderr
    if os.geteuid() == 0:
        subprocess.run([sys.executable, "-c", try_it], check=True)


def test_a_picture_is_made_by_processes_under_their_filters(
    tmp_path: Path, tiny_folders: dict[str, Path]
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = tmp_path / "argus.toml"
    model = tiny_folders["tiny-eps"]
    settings.write_text(SETTINGS.format(port=port, model=model, folder=tmp_path))
    server = ("--server", f"127.0.0.1:{port}")
    with ExitStack() as stack:
        processes = {}
        for role in ("coordinator", "gateway", "node"):
            words = " ".join(command(role)[1:]).replace("cuda", "cpu")
            log = stack.enter_context(open(tmp_path / f"{role}.log", "wb"))
            arguments = words.replace("/etc/argus/argus.toml", str(settings)).split()
            processes[role] = subprocess.Popen(under(role, *arguments), stdout=log, stderr=log)
            stack.callback(processes[role].wait)
            stack.callback(processes[role].kill)
        logs = lambda: "\n".join(f.read_text() for f in tmp_path.glob("*.log"))  # noqa: E731
        for _ in range(SECONDS):
            if subprocess.run([*ARGUS, "health", *server], capture_output=True).returncode == 0:
                break
            assert all(p.poll() is None for p in processes.values()), logs()
        else:
            pytest.fail(logs())
        made = subprocess.run(
            [*ARGUS, "generate", "a red circle", *server, "--steps", "3", "-o", "a.png"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert made.returncode == 0, made.stderr + logs()
        assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
        for role in ("node", "gateway", "coordinator"):
            processes[role].send_signal(signal.SIGTERM)
            assert processes[role].wait(60) == 0, logs()
