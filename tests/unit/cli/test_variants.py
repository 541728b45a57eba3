"""`argus variants` against a scripted coordinator."""

from __future__ import annotations

import json

from argus.cli.variants import described, lines_of
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from tests.unit.cli.running import Here
from tests.unit.client.scripted import Scripted


def held(name: str, gigabytes: int, pinned: bool = False) -> cluster_pb2.ResidentVariant:
    return cluster_pb2.ResidentVariant(
        variant=image_pb2.Variant(name=name),
        weights_bytes=gigabytes * 10**9,
        load_s=12.0,
        pinned=pinned,
    )


STATUS = admin_pb2.GetStatusResponse(
    nodes=[
        admin_pb2.NodeStatus(
            hello=cluster_pb2.NodeHello(
                node="n1", variants=[held("sdxl", 7, True), held("sd15", 2), held("sd21", 3)]
            ),
            heartbeat=cluster_pb2.Heartbeat(resident=["sdxl"]),
            serving=["sdxl", "sd15"],
            unloaded=["sd21"],
        )
    ]
)


def test_every_variant_of_every_node_is_described() -> None:
    found = described(STATUS)
    assert [row["state"] for row in found] == ["resident", "parked", "unloaded"]
    assert [row["serving"] for row in found] == [True, True, False]
    lines = lines_of(found)
    assert lines[1].split() == ["resident", "yes", "7.00", "12.0", "n1:", "sdxl,", "pinned"]
    assert max(map(len, lines)) <= 80
    assert lines_of([]) == ["no node"]


async def test_lists_loads_and_unloads(scripted: Scripted, here: Here) -> None:
    where = ("--server", scripted.address)
    (row,) = json.loads((await here("variants", "list", *where, "--json")).stdout)
    assert (row["node"], row["variant"]) == ("node-0", "base")
    done = await here("variants", "load", "node-0", "base", *where)
    assert (done.code, done.stdout) == (0, b"base is on node-0 after 1.5 s\n")
    done = await here("variants", "unload", "node-0", "base", "--park", *where, "--json")
    assert json.loads(done.stdout) == {"node": "node-0", "resident": []}
    assert scripted.admin.moved == [
        admin_pb2.LoadVariantRequest(node="node-0", variant="base"),
        admin_pb2.UnloadVariantRequest(node="node-0", variant="base", park=True),
    ]


async def test_a_refusal_is_one_line(scripted: Scripted, here: Here) -> None:
    done = await here("variants", "load", "node-0", "big", "--server", scripted.address)
    assert done.code == 1
    assert done.stderr == "argus: variant 'big' does not fit\n"
