"""A Ray cluster of two nodes on this machine, and `argus up --ray` on it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_cluster import LocalCluster
from ray.cluster_utils import Cluster

# Ray's processes take what they say of usage, and of the daemons' lines, from here.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
OBJECT_STORE_BYTES = 80 * 2**20


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """HOST:PORT of a cluster of two nodes, of which each has room for one daemon."""
    cluster = started()
    try:
        yield cluster.address
    finally:
        cluster.shutdown()


def started() -> Cluster:
    room = {"num_cpus": 1, "num_gpus": 0, "object_store_memory": OBJECT_STORE_BYTES}
    for last in (False, False, True):
        cluster = Cluster()
        try:
            cluster.add_node(**room, include_dashboard=False)
            cluster.add_node(**room)
        except Exception:  # of no other type; Ray gives a node 30 s, which a busy machine exceeds
            cluster.shutdown()
            if last:
                raise
        else:
            break
    return cluster


@pytest.fixture(scope="session")
def node_flags(tiny_folders: dict[str, Path]) -> list[str]:
    """Flags of daemons that are soon warm."""
    return ["--model", str(tiny_folders["tiny-eps"]), "--max-lanes", "2", "--slots", "4"]


@pytest.fixture
def cluster(ray_address: str, node_flags: list[str]) -> Iterator[LocalCluster]:
    flags = ["--ray", ray_address, "--ray-cpus", "1", *node_flags]
    with LocalCluster(2, flags, http=True) as cluster:
        yield cluster
