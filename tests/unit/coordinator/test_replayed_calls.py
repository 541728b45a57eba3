"""Every method that the coordinator serves, called a second time with the very same bytes.

Whoever can read a connection can send what he read again; TLS keeps him from reading it. What he
gets nevertheless is written down here for each method: at most what was there before.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import grpc

from argus.auth.keys import Role
from argus.auth.watched import LOOK_AGAIN_S
from argus.config import AuthConfig
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.rules import RULES
from argus.v1 import admin_pb2, cluster_pb2, image_pb2
from tests.unit.coordinator.bench import info
from tests.unit.coordinator.polling import eventually
from tests.unit.coordinator.scripted import ScriptedNode, picture
from tests.unit.coordinator.secured import Keys, bearer, secured

NODE, VARIANT = "n1", "base"
OPEN = "/grpc.health.v1.Health/Check"


@dataclass
class Wire:
    """A coordinator with one node, and a channel that sends bytes."""

    channel: grpc.aio.Channel
    keys: Keys
    node: ScriptedNode

    async def send(self, method: str, data: bytes, key: str = "everything") -> list[bytes]:
        """Send one message and return the answers to it; of a stream that goes on, the first."""
        call = self.channel.stream_stream(method)(metadata=bearer(self.keys.text[key]))
        answers: list[bytes] = []
        async with asyncio.timeout(20):
            await call.write(data)
            if method.endswith(("/Join", "/Watch")):
                answers.append(await call.read())
                call.cancel()
                return answers
            await call.done_writing()
            return [answer async for answer in call]

    async def refusal(self, method: str, data: bytes) -> grpc.StatusCode:
        """Return the status that a message is refused with."""
        call = self.channel.stream_stream(method)(
            iter([data]), metadata=bearer(self.keys.text["everything"])
        )
        async with asyncio.timeout(20):
            return await call.code()


@contextlib.asynccontextmanager
async def wire(folder: Path) -> AsyncIterator[Wire]:
    keys = Keys(folder / "keys")
    keys.make("everything", *Role, tenant="acme")
    keys.make("node", Role.NODE)
    node = ScriptedNode(NODE, metadata=bearer(keys.text["node"]))
    async with (
        secured(AuthConfig(keys=str(keys.path))) as address,
        node.joined(address),
        grpc.aio.insecure_channel(address) as channel,
    ):
        yield Wire(channel, keys, node)


async def reading(here: Wire, method: str) -> None:
    """A question changes nothing, and asking again is answered again."""
    assert await here.send(method, b"")
    assert await here.send(method, b"")
    assert not here.node.works
    assert not here.node.drained


async def asking_for_what_is_not_there(here: Wire, method: str) -> None:
    """A method of gRPC's own protos that its library leaves out; the log is not filled."""
    for _ in range(2):
        assert await here.refusal(method, b"") is grpc.StatusCode.UNIMPLEMENTED


async def asking_for_a_picture(here: Wire, method: str) -> None:
    """The same picture comes, and no second one is made."""
    request = image_pb2.GenerateRequest(request_id="r", prompt="p", seed=7, steps=2)
    data = request.SerializeToString()
    for _ in range(2):
        last = (await here.send(method, data))[-1]
        assert image_pb2.GenerateResponse.FromString(last).image.data == picture(7, 2)
    assert len(here.node.works) == 1


async def joining(here: Wire, method: str) -> None:
    """A hello of a node that is there is refused, and the node stays."""
    hello = cluster_pb2.JoinRequest(hello=node_info_to_proto(info(NODE)))
    for _ in range(2):
        refusal = await here.refusal(method, hello.SerializeToString())
        assert refusal is grpc.StatusCode.ALREADY_EXISTS
    asked = image_pb2.GenerateRequest(prompt="p", steps=1).SerializeToString()
    await here.send("/argus.v1.ImageService/Generate", asked)
    assert len(here.node.works) == 1


async def draining(here: Wire, method: str) -> None:
    """A node that was told to leave is told again, or is gone."""
    data = admin_pb2.DrainNodeRequest(node=NODE).SerializeToString()
    await here.send(method, data)
    await eventually(lambda: here.node.drained)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await here.send(method, data)


async def loading(here: Wire, method: str) -> None:
    """A variant that is there already stays there."""
    data = admin_pb2.LoadVariantRequest(node=NODE, variant=VARIANT).SerializeToString()
    first, second = [(await here.send(method, data))[0] for _ in range(2)]
    residents = [admin_pb2.LoadVariantResponse.FromString(x).resident for x in (first, second)]
    assert set(residents[0]) == set(residents[1])
    assert VARIANT in residents[1]


async def unloading(here: Wire, method: str) -> None:
    """A variant that is gone stays gone, until it is loaded again."""
    data = admin_pb2.UnloadVariantRequest(node=NODE, variant=VARIANT).SerializeToString()
    first, second = [(await here.send(method, data))[0] for _ in range(2)]
    residents = [admin_pb2.UnloadVariantResponse.FromString(x).resident for x in (first, second)]
    assert set(residents[0]) == set(residents[1])
    assert VARIANT not in residents[1]


REPLAYS: dict[str, Callable[[Wire, str], Awaitable[None]]] = {
    "/argus.v1.ImageService/Generate": asking_for_a_picture,
    "/argus.v1.ImageService/ListVariants": reading,
    "/argus.v1.ClusterService/Join": joining,
    "/argus.v1.AdminService/GetStatus": reading,
    "/argus.v1.AdminService/DrainNode": draining,
    "/argus.v1.AdminService/LoadVariant": loading,
    "/argus.v1.AdminService/UnloadVariant": unloading,
    OPEN: reading,
    "/grpc.health.v1.Health/Watch": reading,
    "/grpc.health.v1.Health/List": asking_for_what_is_not_there,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reading,
}


def test_every_method_has_a_row() -> None:
    assert set(REPLAYS) == set(RULES)


async def test_a_call_sent_again_does_nothing_new(tmp_path: Path) -> None:
    for number, (method, replay) in enumerate(REPLAYS.items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        async with wire(folder) as here:
            await replay(here, method)


async def test_a_call_sent_again_after_its_key_was_revoked_is_refused(tmp_path: Path) -> None:
    async with wire(tmp_path) as here:
        assert await here.send("/argus.v1.AdminService/GetStatus", b"")
        here.keys.revoke("everything")
        await asyncio.sleep(LOOK_AGAIN_S + 0.05)
        for method in set(REPLAYS) - {OPEN}:
            refusal = await here.refusal(method, b"")
            assert refusal is grpc.StatusCode.UNAUTHENTICATED, method
