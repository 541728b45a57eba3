"""What the chart runs, run here: its settings, arguments and probes, on other paths and ports."""

from __future__ import annotations

import json
import urllib.error
from contextlib import ExitStack
from pathlib import Path

import pytest
from local_postgres import LocalPostgres

from tests.deploy.chart import Values, pods, rendered
from tests.deploy.machine import ALIVE, READY, STARTED, Machine, Running, generated, mount

VALUES: Values = {
    "node": {
        "gpu": {"enabled": False},
        "models": {"folders": ["tiny-eps"], "volume": {"emptyDir": {}}},
    },
    "gateway": {"replicas": 1},
    "config": {
        "node": {"threads": 1, "max_lanes": 2, "slots": 2},
        "coordinator": {"drain_grace_s": 5},
        "gateway": {"drain_grace_s": 5},
    },
}
STANDBY: Values = {"standby": {"enabled": True, "existingSecret": "database"}}


class Release:
    """The pods of a release, by name, with a client's key; none has been started."""

    def __init__(self, folder: Path, models: Path, values: Values, **secrets: str) -> None:
        found = pods(rendered(values))
        replicas = {role: pod.owner["spec"]["replicas"] for role, pod in found.items()}
        self.machine = Machine(folder, models, replicas)
        self.client = mount(self.machine, found)
        self.pods = {
            name: Running(self.machine, name, found[role], secrets if role == "coordinator" else {})
            for role, names in self.machine.names.items()
            for name in names
        }


def test_a_release_is_probed_serves_and_ends(tmp_path: Path, tiny_folders: dict[str, Path]) -> None:
    """With TLS and keys, as the chart has it by default."""
    release = Release(tmp_path, tiny_folders["tiny-eps"].parent, VALUES)
    coordinator, node, gateway = (
        release.pods[f"{r}-0"] for r in ("coordinator", "node", "gateway")
    )
    with ExitStack() as stack:
        for pod in (gateway, coordinator):
            assert not pod.satisfies(STARTED)
            stack.enter_context(pod.started())
            pod.until(STARTED, ALIVE)
        coordinator.until(READY)
        # Without a node no picture can be made, and the gateway says so.
        assert not gateway.satisfies(READY)
        stack.enter_context(node.started())
        node.until(STARTED, ALIVE, READY)
        gateway.until(READY)
        assert "tiny-eps" in json.dumps(generated(release.machine, release.client))
        with pytest.raises(urllib.error.HTTPError, match="401"):
            generated(release.machine, "argus_000000000000_" + 64 * "0")
        for pod in (node, gateway, coordinator):
            pod.end()


def test_a_release_goes_on_when_its_leader_is_killed(
    tmp_path: Path, tiny_folders: dict[str, Path]
) -> None:
    postgres = LocalPostgres()
    with ExitStack() as stack:
        stack.callback(postgres.close)
        release = Release(
            tmp_path,
            tiny_folders["tiny-eps"].parent,
            VALUES | STANDBY,
            ARGUS_STANDBY_POSTGRES=postgres.dsn,
        )
        first, second = release.pods["coordinator-0"], release.pods["coordinator-1"]
        for pod in (first, second):
            stack.enter_context(pod.started())
            pod.until(STARTED, ALIVE, READY)
        for name in ("node-0", "gateway-0"):
            stack.enter_context(release.pods[name].started())
            release.pods[name].until(STARTED, ALIVE, READY)
        generated(release.machine, release.client)
        first.process.kill()
        generated(release.machine, release.client, seed=8)
        release.pods["node-0"].until(READY)
        second.until(ALIVE, READY)
        for name in ("node-0", "gateway-0", "coordinator-1"):
            release.pods[name].end()
