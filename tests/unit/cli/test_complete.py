"""What TAB offers, asked as bash asks."""

from __future__ import annotations

import pytest

from tests.unit.cli.running import Here
from tests.unit.client.scripted import Scripted


async def offered(here: Here, monkeypatch: pytest.MonkeyPatch, line: str) -> list[str]:
    """Return what is offered at the end of a line."""
    words = line.split(" ")
    monkeypatch.setenv("_ARGUS_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
    done = await here()
    assert (done.code, done.stderr) == (0, "")
    return done.stdout.decode().split()


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("argus do", ["doctor"]),
        ("argus keys re", ["revoke"]),
        ("argus node --log-f", ["--log-format"]),
        ("argus node --log-format ", ["text", "json"]),
        ("argus node --dtype f", ["float32", "float16"]),
        ("argus coordinator --policy clip", ["clipper-ha", "clipper-ht"]),
        ("argus generate p --format w", ["webp"]),
        ("argus drain --server 127.0.0.1:1 ", []),
    ],
)
async def test_commands_flags_and_values_are_offered(
    here: Here, monkeypatch: pytest.MonkeyPatch, line: str, names: list[str]
) -> None:
    assert await offered(here, monkeypatch, line) == names


async def test_nodes_are_asked_of_the_coordinator_that_is_named(
    scripted: Scripted, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    line = f"argus drain --server {scripted.address} no"
    assert await offered(here, monkeypatch, line) == ["node-0"]
