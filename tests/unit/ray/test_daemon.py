"""The actor's own part: it tells how its daemon fares, and ends with it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable

import pytest

from argus.config import Config, LogConfig, NodeConfig
from argus.ray import daemon
from argus.ray.daemon import LEFT, NodeDaemon
from argus.ray.parcel import pack

PATIENCE_S = 30
FAILING = """
import time
from argus.config import Config, NodeConfig
from argus.ray import daemon
from argus.ray.parcel import pack
async def buggy(*_):
    raise TypeError("nobody foresaw this")
daemon.LAST_WORDS_S = 0.2
{spoil}
actor = daemon.NodeDaemon(pack(Config(node=NodeConfig(models=("/nowhere",)))), lambda *_: None)
print(actor.joined(), flush=True)
print(actor.ended(), flush=True)
actor.drain()
time.sleep(60)
"""


def test_it_joins_is_drained_and_has_left(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[tuple[LogConfig, str]] = []
    seen: list[Config] = []

    async def serve(config: Config, stop: asyncio.Event, on_joined: Callable[[], None]) -> None:
        seen.append(config)
        on_joined()
        await stop.wait()

    monkeypatch.setattr(daemon, "serve", serve)
    config = Config(node=NodeConfig(name="node-7"), log=LogConfig("debug"))
    actor = NodeDaemon(pack(config), lambda *said: prepared.append(said))
    assert actor.joined() == LEFT
    assert actor.where() == actor.where()
    actor.drain()
    assert actor.ended() == LEFT
    assert prepared == [(config.log, "node-7")]
    assert seen == [config]
    actor.drain()  # it is gone, which is as well


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        ("", "/nowhere: no such folder"),
        ("daemon.serve = buggy", "internal error: TypeError: nobody foresaw this"),
    ],
)
def test_one_that_fails_says_why_and_its_process_ends_so_that_ray_starts_it_again(
    spoil: str, reason: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", FAILING.format(spoil=spoil)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout.splitlines() == [reason, reason], done.stderr
