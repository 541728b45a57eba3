"""Niceness, in processes of their own: what is given up cannot be taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from argus import priority
from argus.cli.up import UP_NICE, node_arguments
from argus.config import Config, NodeConfig
from argus.priority import AUTOGROUP

SHOW = """
import os
from argus.priority import AUTOGROUP, give_way
give_way(4)
print(os.nice(0), AUTOGROUP.read_text() if AUTOGROUP.exists() else "")
"""


def shown(*, own_session: bool) -> tuple[int, str]:
    """Return the niceness of a process that gave way, and what its session is said to have."""
    found = subprocess.run(
        [sys.executable, "-c", SHOW],
        capture_output=True,
        text=True,
        check=True,
        start_new_session=own_session,
    )
    own, _, group = found.stdout.strip().partition(" ")
    return int(own), group


def test_a_process_gives_way_and_so_does_a_session_of_its_own() -> None:
    before = os.nice(0)
    own, group = shown(own_session=True)
    assert own == min(19, before + 4)
    if AUTOGROUP.exists():
        assert group.endswith(f"nice {own}")


@pytest.mark.skipif(not AUTOGROUP.exists(), reason="the system does not group sessions")
def test_a_session_of_others_is_left_as_it_is() -> None:
    before = AUTOGROUP.read_text(encoding="ascii").strip()
    _, group = shown(own_session=False)
    assert group == before


def test_whoever_is_told_to_ask_again_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of users but root the system takes a wish every tenth of a second, whoever asks."""
    busy = [3]

    def write_text(path: Path, text: str, encoding: str) -> int:
        if busy[0]:
            busy[0] -= 1
            raise BlockingIOError
        return len(text.encode(encoding))

    monkeypatch.setattr(Path, "write_text", write_text)
    monkeypatch.setattr(priority.time, "sleep", lambda seconds: None)
    priority._set_group(4)
    assert not busy[0]


def test_nodes_on_processors_give_way_to_the_doors_unless_told_otherwise() -> None:
    def niceness(config: NodeConfig, flag: int | None, device: str) -> int:
        found = node_arguments(Config(node=config), None, None, flag, 1, device)
        return int(found[found.index("--nice") + 1])

    assert niceness(NodeConfig(), None, "cpu") == UP_NICE
    assert niceness(NodeConfig(), None, "cuda:0") == 0
    assert niceness(NodeConfig(nice=9), 9, "cuda:0") == 9
    assert niceness(NodeConfig(nice=9), None, "cpu") == 9
    assert niceness(NodeConfig(), 0, "auto") == 0
