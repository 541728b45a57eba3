"""`argus up --ray` on a Ray cluster of two nodes: daemons are placed, lost, restarted, drained."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray
from local_cluster import LocalCluster

from argus.auth.keys import Role
from argus.client import AsyncClient, Client, ImageResult, Retries, Tls
from tests.unit.coordinator.secured import Authority, Keys

pytestmark = pytest.mark.ray

PATIENCE_S = 120.0
RUNS_ON = re.compile(r"(node-\d+) runs on \S+, process (\d+)")


def processes(cluster: LocalCluster) -> dict[str, int]:
    """Return the process of each daemon, as it was last told."""
    return {name: int(number) for name, number in RUNS_ON.findall(cluster.log)}


def is_running(process: int) -> bool:
    return psutil.pid_exists(process) and psutil.Process(process).status() != "zombie"


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - processes set no event
            await asyncio.sleep(0.2)


def members(client: Client) -> set[str]:
    return {node.hello.node for node in client.status().nodes}


async def draw(address: str, seeds: range) -> list[ImageResult]:
    """Draw pictures, eight at a time, of a client that waits long for a node."""
    async with AsyncClient(address, retries=Retries(attempts=30)) as client:
        wanted = [client.generate("a ring", seed=seed, steps=20) for seed in seeds]
        room = asyncio.Semaphore(8)

        async def one(job: Any) -> ImageResult:
            async with room:
                return await job

        return await asyncio.gather(*(one(job) for job in wanted))


@contextmanager
def connected(address: str) -> Iterator[None]:
    ray.init(address=address, configure_logging=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


def daemon_actors() -> list[Any]:
    """Return handles of the daemons' actors, whoever started them."""
    named = ray.util.list_named_actors(all_namespaces=True)
    return [ray.get_actor(actor["name"], namespace=actor["namespace"]) for actor in named]


async def test_both_nodes_draw_and_a_killed_daemon_comes_back_with_nothing_lost(
    cluster: LocalCluster, ray_address: str
) -> None:
    first = processes(cluster)
    assert set(first) == {"node-0", "node-1"}
    with Client(cluster.address) as client:
        assert {picture.node for picture in await draw(cluster.address, range(16))} == set(first)

        work = asyncio.ensure_future(draw(cluster.address, range(64)))
        await until(lambda: client.status().in_flight > 4)
        psutil.Process(first["node-1"]).send_signal(signal.SIGKILL)
        pictures = await work
        assert sorted(picture.seed for picture in pictures) == list(range(64))
        await until(lambda: processes(cluster)["node-1"] != first["node-1"])
        await until(lambda: members(client) == set(first))
        assert processes(cluster)["node-0"] == first["node-0"]
        assert {picture.node for picture in await draw(cluster.address, range(16))} == set(first)

        # The same by Ray's own means, and of the other one.
        with connected(ray_address):
            work = asyncio.ensure_future(draw(cluster.address, range(64)))
            await until(lambda: client.status().in_flight > 4)
            actors = daemon_actors()
            assert len(actors) == 2
            ray.kill(next(a for a in actors if str(first["node-0"]) in ray.get(a.where.remote())),
                     no_restart=False)  # fmt: skip
        again = await work
        await until(lambda: processes(cluster)["node-0"] != first["node-0"])
        await until(lambda: members(client) == set(first))
    assert [picture.data for picture in again] == [picture.data for picture in pictures]


async def test_ending_lets_rows_finish_and_leaves_no_daemon(cluster: LocalCluster) -> None:
    daemons = processes(cluster)
    with Client(cluster.address) as client:
        work = asyncio.ensure_future(draw(cluster.address, range(8)))
        await until(lambda: client.status().in_flight > 4)
        cluster.process.send_signal(signal.SIGTERM)
        assert len(await work) == 8
    assert await asyncio.to_thread(cluster.process.wait, PATIENCE_S) == 0
    assert "killed" not in cluster.log
    await until(lambda: not any(map(is_running, daemons.values())))


async def test_a_drained_daemon_stays_away_and_up_ends_no_other(cluster: LocalCluster) -> None:
    daemons = processes(cluster)
    with Client(cluster.address) as client:
        client.drain("node-1")
        await until(lambda: not is_running(daemons["node-1"]))
        await until(lambda: "node-1 has left" in cluster.log)
        pictures = await draw(cluster.address, range(4))
        assert {picture.node for picture in pictures} == {"node-0"}
        assert members(client) == {"node-0"}


async def test_daemons_end_with_what_started_them_and_come_back_when_that_does(
    cluster: LocalCluster,
) -> None:
    daemons = processes(cluster)
    parent = psutil.Process(cluster.process.pid)
    driver = next(child for child in parent.children() if "--ray" in child.cmdline())
    with Client(cluster.address) as client:
        work = asyncio.ensure_future(draw(cluster.address, range(16)))
        await until(lambda: client.status().in_flight > 4)
        driver.kill()
        await until(lambda: not any(map(is_running, daemons.values())))
        # What was accepted is answered by those that come back; with the rest they are tried again.
        assert len(await work) == 16
        await until(lambda: members(client) == set(daemons))
        cluster.process.kill()
    second = processes(cluster)
    assert set(second.values()).isdisjoint(daemons.values())
    await until(lambda: not any(map(is_running, second.values())))


async def test_an_actor_that_was_ended_for_good_is_asked_for_again(
    cluster: LocalCluster, ray_address: str
) -> None:
    daemons = processes(cluster)
    with connected(ray_address):
        ray.kill(daemon_actors()[0], no_restart=True)
    await until(lambda: processes(cluster) != daemons)
    assert "was ended for good; another is asked for" in cluster.log
    with Client(cluster.address) as client:
        await until(lambda: members(client) == set(daemons))


SECURED = """
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server-key.pem"
client_ca = "{folder}/ca.pem"
ca = "{folder}/ca.pem"
client_certificate = "{folder}/peer.pem"
client_key = "{folder}/peer-key.pem"

[auth]
keys = "{folder}/keys"
api_key_file = "{folder}/up.key"
"""


def test_daemons_join_with_certificates_and_key_that_only_argus_up_has(
    ray_address: str, node_flags: list[str], tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "127.0.0.1")
    authority.issue("peer", "peer")
    key = Keys(tmp_path / "keys").make("up", Role.NODE, Role.OPERATOR, Role.CLIENT, tenant="*")
    (tmp_path / "up.key").write_text(key)
    settings = tmp_path / "argus.toml"
    settings.write_text(SECURED.format(folder=tmp_path))
    flags = ["--ray", ray_address, "--ray-cpus", "1", "--config", str(settings), *node_flags]
    with LocalCluster(2, flags) as cluster:
        # What the daemons were given does not hang on these files any more.
        (tmp_path / "up.key").unlink()
        first = processes(cluster)
        psutil.Process(first["node-0"]).send_signal(signal.SIGKILL)
        tls = Tls(authority.file("ca"), authority.file("peer"), authority.file("peer-key"))
        with Client(cluster.address, tls=tls, api_key=key) as client:
            asyncio.run(until(lambda: processes(cluster)["node-0"] != first["node-0"]))
            asyncio.run(until(lambda: members(client) == set(first)))
            assert client.generate("a ring", seed=1, steps=3).data
    assert key not in cluster.log


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "argus.cli.main", "up", "--http", "off"]
    return subprocess.run(
        [*command, "--bind", "127.0.0.1:0", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_what_keeps_daemons_from_running_ends_up_with_the_reason(
    ray_address: str, tmp_path: Path
) -> None:
    no_gpu = up("--ray", ray_address)
    assert no_gpu.returncode == 1
    assert "argus: the Ray cluster has no GPU; --ray-cpus N" in no_gpu.stderr
    too_many = up("--ray", ray_address, "--ray-cpus", "64")
    assert "argus: no node of the Ray cluster has 64 CPUs" in too_many.stderr
    missing = up("--ray", ray_address, "--ray-cpus", "1", "--model", str(tmp_path / "none"))
    assert missing.returncode == 1
    said = missing.stderr.splitlines()
    assert any(
        line.startswith("argus: node-") and "before it was ready" in line and "none" in line
        for line in said
    ), missing.stderr
    assert said[-1].endswith("argus: ray ended with code 1 before it was ready")
