"""What a node tells probes."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from argus.config import Config, NodeConfig
from argus.engine.stats import EngineStats
from argus.node.daemon import serve
from argus.node.health import STUCK_S, NodeHealth
from tests.unit.coordinator.bench import SLOW_COSTS, info
from tests.unit.coordinator.scripted import coordinated

STATS = EngineStats(
    rows=0,
    waiting=0,
    lanes=0,
    peak_lanes=0,
    slots_free=4,
    device_idle_s=0.1,
    steps_total=0,
    images_total=0,
    alive=True,
    resident=(),
    slowness=1.0,
)


@dataclass
class Engine:
    """Says of itself what the test wants."""

    told: EngineStats = STATS
    draining: bool = False

    def stats(self) -> EngineStats:
        return self.told


def answers(health: NodeHealth) -> tuple[str, str]:
    return health.checks["/livez"](), health.checks["/healthz"]()


def test_a_node_is_ready_once_it_has_joined() -> None:
    health = NodeHealth(info(), Engine())
    assert answers(health) == ("", "it has not joined a coordinator")
    health.joined = True
    assert answers(health) == ("", "")


def test_a_draining_node_lives_on_until_its_rows_are_done() -> None:
    health = NodeHealth(info(), Engine(draining=True))
    health.joined = True
    assert answers(health) == ("", "it is draining")


def test_a_dead_or_stuck_device_is_told_whether_joined_or_not() -> None:
    dead = NodeHealth(info(), Engine(replace(STATS, alive=False)))
    assert dead.dead() == "the device thread is dead"
    stuck = NodeHealth(info(), Engine(replace(STATS, device_idle_s=STUCK_S + 1)))
    stuck.joined = True
    assert answers(stuck) == ("the device thread has not moved for 61 s",) * 2


def test_a_slow_device_is_not_taken_for_a_stuck_one() -> None:
    working = Engine(replace(STATS, device_idle_s=STUCK_S + 1))
    assert NodeHealth(info(costs=SLOW_COSTS), working).dead() == ""


async def asked(url: str) -> tuple[int, Any]:
    """Return status and body of an answer; 0 while nobody listens."""

    def ask() -> tuple[int, Any]:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except urllib.error.URLError:
            return 0, None

    return await asyncio.to_thread(ask)


async def until(status: int, door: str) -> Any:
    """Return the body of the first answer of that status from /healthz."""
    for _ in range(600):
        answer = await asked(f"http://{door}/healthz")
        if answer[0] == status:
            return answer[1]
        await asyncio.sleep(0.05)
    return pytest.fail(f"it never answered {status}")


async def test_probes_are_answered_by_a_real_daemon(tiny_folders: dict[str, Path]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        door = f"127.0.0.1:{probe.getsockname()[1]}"
    stop = asyncio.Event()
    async with coordinated() as here:
        node = NodeConfig(
            here.address,
            "n1",
            (str(tiny_folders["tiny-eps"]),),
            device="cpu",
            max_lanes=4,
            metrics=door,
        )
        daemon = asyncio.create_task(serve(Config(node=node), stop))
        assert await until(200, door) == {"status": "ok", "reason": None}
        assert await asked(f"http://{door}/livez") == (200, {"status": "ok", "reason": None})
        await here.coordinator.stop()
        reason = "it has not joined a coordinator"
        assert await until(503, door) == {"status": "unavailable", "reason": reason}
        assert (await asked(f"http://{door}/livez"))[0] == 200
    stop.set()
    await asyncio.wait_for(daemon, 30)
