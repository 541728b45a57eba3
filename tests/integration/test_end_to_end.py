"""From the command line through coordinator and nodes to pictures and back."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from local_cluster import LocalCluster

from argus.client import AsyncClient, Client, Image, Queued, Started, Step
from tests.unit.cli.running import argus_here

from .conftest import argus, pixels

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def doomed(model_flags: list[str]) -> Iterator[LocalCluster]:
    """Two nodes for the tests that kill, the last of which leaves nothing of it."""
    with LocalCluster(2, model_flags) as cluster:
        yield cluster


def test_same_seed_same_bytes(cluster: LocalCluster, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "b.png"]
    for file in files:
        said = argus(
            "generate", "a red circle", "--server", cluster.address, "--seed", "7", "-o", str(file)
        )
        assert said.returncode == 0, said.stderr
    assert files[0].read_bytes() == files[1].read_bytes()


async def test_company_does_not_change_the_picture(cluster: LocalCluster) -> None:
    async with AsyncClient(cluster.address) as client:
        alone = await client.generate("a red circle", seed=7)
        company = [
            client.generate(f"thing {n}", seed=n, steps=30 + n, guidance=n % 4, variant=variant)
            for n, variant in zip(range(15), ["tiny-eps", "tiny-v"] * 8, strict=False)
        ]
        crowded, *_ = await asyncio.gather(client.generate("a red circle", seed=7), *company)
        status = await client.status()
    assert np.array_equal(pixels(alone.data), pixels(crowded.data))
    assert crowded.max_lanes > 2
    assert max(node.heartbeat.peak_lanes for node in status.nodes) > 2


def test_events_come_in_order(cluster: LocalCluster) -> None:
    with Client(cluster.address) as client:
        events = list(client.stream("a red circle", seed=1, steps=5))
    kinds = [type(event) for event in events]
    assert kinds[0] is Queued
    assert kinds[-1] is Image
    assert Started in kinds
    steps = [event.step for event in events if isinstance(event, Step)]
    assert steps == sorted(steps)
    assert steps[-1] <= 5


def test_status_tells_the_truth(cluster: LocalCluster) -> None:
    said = argus("status", "--server", cluster.address, "--json")
    assert said.returncode == 0, said.stderr
    status = json.loads(said.stdout)
    assert len(status["nodes"]) == 2
    assert {v["name"] for v in status["variants"]} == {"tiny-eps", "tiny-v"}
    for node in status["nodes"]:
        assert node["hello"]["device"] == "cpu"
        costs = node["hello"]["variants"][0]["step_costs"]
        assert all(cost["seconds"] > 0 for cost in costs)


@pytest.mark.parametrize(
    ("flags", "field"),
    [
        (["--size", "33x32"], "size"),
        (["--steps", "0"], "steps"),
        (["--guidance", "-1"], "guidance"),
        (["--sampler", "magic"], "sampler"),
        (["--variant", "nope"], "variant"),
        (["--level", "nope"], "level"),
        (["--seed", "-1"], "seed"),
        (["--deadline", "0"], "deadline"),
        (["--min-quality", "1.5"], "min_quality"),
    ],
)
async def test_bad_input_names_the_field(
    cluster: LocalCluster,
    capfdbinary: pytest.CaptureFixture[bytes],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    flags: list[str],
    field: str,
) -> None:
    out = tmp_path / "never.png"
    arguments = ("generate", "a circle", "--server", cluster.address, *flags, "-o", str(out))
    said = await argus_here(capfdbinary, monkeypatch, *arguments)
    assert said.code != 0
    assert field.replace("_", "-") in said.stderr.replace("_", "-")
    assert "Traceback" not in said.stderr
    assert not out.exists()


async def test_a_thousand_cancels_leave_nothing(cluster: LocalCluster) -> None:
    rng = random.Random(5)
    parent = psutil.Process(cluster.process.pid)

    def memory() -> int:
        return sum(p.memory_info().rss for p in parent.children(recursive=True))

    async def one(client: AsyncClient, number: int) -> None:
        job = asyncio.create_task(client.generate(f"picture {number}", seed=number, steps=10))
        await asyncio.sleep(rng.random() * 0.4)
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)

    async with AsyncClient(cluster.address) as client:
        before = 0
        for wave in range(20):
            results = await asyncio.gather(*(one(client, 50 * wave + n) for n in range(50)))
            assert len(results) == 50
            if wave == 4:
                before = memory()
        for _ in range(100):
            status = await client.status()
            busy = [n for n in status.nodes if n.heartbeat.rows or n.heartbeat.waiting]
            if not busy and status.in_flight == 0:
                break
            await asyncio.sleep(0.1)
        assert status.in_flight == 0
        assert status.queued == 0
        for node in status.nodes:
            assert (node.assigned, node.heartbeat.rows, node.heartbeat.waiting) == (0, 0, 0)
            assert node.heartbeat.slots_free == node.hello.slots
        c = status.counters
        assert c.accepted == c.answered + c.cancelled + c.failed
        await client.generate("still alive", seed=1)
    assert memory() - before < 48 * 2**20


async def test_the_loss_of_a_node_loses_no_picture(doomed: LocalCluster) -> None:
    seeds = range(128)
    async with AsyncClient(doomed.address) as client:
        expected = {}
        for seed in (0, 42, 85, 127):
            expected[seed] = pixels((await client.generate("a ring", seed=seed, steps=10)).data)
        results = []
        killed = False

        async def one_client(first: int) -> None:
            nonlocal killed
            for seed in seeds[first : first + 2]:
                results.append(await client.generate("a ring", seed=seed, steps=10))
                if not killed and len(results) >= 32:
                    killed = True
                    victim = next(iter(doomed.node_pids().values()))
                    psutil.Process(victim).send_signal(signal.SIGKILL)

        await asyncio.gather(*(one_client(2 * n) for n in range(64)))
        status = await client.status()
    assert killed
    assert sorted(result.seed for result in results) == list(seeds)
    assert any(result.attempts > 1 for result in results)
    assert status.counters.replayed > 0
    for result in results:
        if result.seed in expected:
            assert np.array_equal(pixels(result.data), expected[result.seed])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_words_when_nobody_is_there(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    for arguments in (
        ["generate", "x", "--server", address, "--deadline", "2", "-o", str(tmp_path / "x.png")],
        ["status", "--server", address],
    ):
        said = argus(*arguments)
        assert said.returncode != 0
        assert address in said.stderr
        assert "Traceback" not in said.stderr


def test_words_when_the_port_is_taken(cluster: LocalCluster) -> None:
    said = argus("up", "--nodes", "1", "--bind", cluster.address)
    assert said.returncode != 0
    assert "in use" in said.stderr
    assert "Traceback" not in said.stderr


@pytest.mark.parametrize("kind", ["missing", "empty", "broken", "unknown"])
def test_words_when_a_model_cannot_be_served(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / kind
    if kind != "missing":
        folder.mkdir()
    if kind == "broken":
        (folder / "model_index.json").write_text("{")
    if kind == "unknown":
        (folder / "model_index.json").write_text('{"_class_name": "DreamPipeline"}')
    said = argus("node", "--coordinator", "127.0.0.1:1", "--model", str(folder))
    assert said.returncode != 0
    errors = [line for line in said.stderr.splitlines() if str(folder) in line]
    assert errors
    assert "Traceback" not in said.stderr


def test_up_ends_cleanly_and_takes_its_children_along(model_flags: list[str]) -> None:
    cluster = LocalCluster(1, model_flags)
    with cluster:
        children = psutil.Process(cluster.process.pid).children(recursive=True)
        assert len(children) >= 2
        assert cluster.stop() == 0
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    assert "Traceback" not in cluster.log


def test_children_die_with_a_killed_parent(doomed: LocalCluster) -> None:
    children = psutil.Process(doomed.process.pid).children(recursive=True)
    assert len(children) >= 2
    doomed.process.kill()
    doomed.process.wait()
    # A node may be loading again, and looks at its parent only when it has.
    _, alive = psutil.wait_procs(children, timeout=60)
    assert not alive
