"""Every method that the coordinator serves, called by everyone who should not be let in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import grpc
import pytest
import pytest_asyncio
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from argus.auth.keys import Role
from argus.config import AuthConfig
from argus.rpc.channel import MAX_MESSAGE_BYTES
from argus.rpc.rules import RULES
from tests.unit.coordinator.secured import Keys, bearer, secured

OPEN = "/grpc.health.v1.Health/Check"
ROLES = {
    "/argus.v1.ImageService/Generate": {"client"},
    "/argus.v1.ImageService/ListVariants": {"client", "operator"},
    "/argus.v1.ClusterService/Join": {"node"},
    "/argus.v1.AdminService/GetStatus": {"operator"},
    "/argus.v1.AdminService/DrainNode": {"operator"},
    "/argus.v1.AdminService/LoadVariant": {"operator"},
    "/argus.v1.AdminService/UnloadVariant": {"operator"},
    OPEN: {"client", "node", "operator"},
    "/grpc.health.v1.Health/Watch": {"client", "node", "operator"},
    "/grpc.health.v1.Health/List": {"client", "node", "operator"},
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": {
        *("client", "node", "operator"),
    },
}
"""Written down a second time: a slip in the table of the code must not pass."""
LET_IN = "let in"
LOST = "Internal error from Core"
"""Of grpc's own: the server ended the call while the client was still sending."""
ATTEMPTS = 5


class Door:
    """A coordinator that asks for keys, and a channel that sends anything."""

    def __init__(self, address: str, channel: grpc.aio.Channel, keys: Keys) -> None:
        self.address = address
        self.channel = channel
        self.keys = keys

    async def answer(
        self, method: str, metadata: tuple[tuple[str, str], ...], data: bytes = b""
    ) -> str:
        """Return the status that ends a call, that it was let in, or that it is lost each time."""
        answer = LOST
        for _ in range(ATTEMPTS):
            answer = await self._answer_once(method, metadata, data)
            if answer != LOST:
                break
        return answer

    async def _answer_once(
        self, method: str, metadata: tuple[tuple[str, str], ...], data: bytes
    ) -> str:
        call = self.channel.stream_stream(method)(iter([data]), metadata=metadata)
        try:
            async with asyncio.timeout(20):
                await call.read()
        except grpc.aio.AioRpcError as error:
            if error.details() == LOST:
                return LOST
            refused = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
            return error.code().name if error.code() in refused or data else LET_IN
        finally:
            call.cancel()
        return LET_IN

    async def answers(self, metadata: tuple[tuple[str, str], ...]) -> dict[str, str]:
        return {method: await self.answer(method, metadata) for method in RULES}


@pytest_asyncio.fixture
async def door(tmp_path: Path) -> AsyncGenerator[Door, None]:
    keys = Keys(tmp_path / "keys")
    keys.make("client", Role.CLIENT, tenant="acme")
    keys.make("node", Role.NODE)
    keys.make("operator", Role.OPERATOR)
    for ended in ("expired", "revoked"):
        keys.make(ended, *Role, tenant="*", ended=ended)
    options = [("grpc.max_send_message_length", -1)]
    async with (
        secured(AuthConfig(keys=str(keys.path))) as address,
        grpc.aio.insecure_channel(address, options=options) as channel,
    ):
        yield Door(address, channel, keys)


async def served_methods(door: Door) -> set[str]:
    """Return the full name of every method that the running server serves, as it says itself."""
    call = reflection_pb2_grpc.ServerReflectionStub(door.channel).ServerReflectionInfo(
        iter([reflection_pb2.ServerReflectionRequest(list_services="")]),
        metadata=bearer(door.keys.text["operator"]),
    )
    (answer,) = [answer async for answer in call]
    pool = descriptor_pool.Default()
    return {
        f"/{service.name}/{method.name}"
        for service in answer.list_services_response.service
        for method in pool.FindServiceByName(service.name).methods
    }


async def test_every_method_that_is_served_has_a_rule_and_every_rule_a_method(door: Door) -> None:
    assert await served_methods(door) == set(RULES) == set(ROLES)


NOBODIES = {
    "no key": (),
    "an empty key": bearer(""),
    "no key at all": (("authorization", "Bearer"),),
    "another scheme": (("authorization", "Basic Zm9vOmJhcg=="),),
    "a made-up key": bearer("argus_" + "0" * 12 + "_" + "0" * 64),
    "a long key": bearer("x" * 4000),
}


@pytest.mark.parametrize("who", NOBODIES)
async def test_who_shows_no_key_is_not_let_in(door: Door, who: str) -> None:
    answers = await door.answers(NOBODIES[who])
    assert answers == {m: LET_IN if m == OPEN else "UNAUTHENTICATED" for m in RULES}


@pytest.mark.parametrize("ended", ["expired", "revoked"])
async def test_an_ended_key_opens_nothing_although_it_had_every_role(
    door: Door, ended: str
) -> None:
    answers = await door.answers(bearer(door.keys.text[ended]))
    assert answers == {m: LET_IN if m == OPEN else "UNAUTHENTICATED" for m in RULES}


async def test_two_keys_are_none(door: Door) -> None:
    both = bearer(door.keys.text["operator"]) + bearer(door.keys.text["node"])
    answers = await door.answers(both)
    assert answers == {m: LET_IN if m == OPEN else "UNAUTHENTICATED" for m in RULES}


@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_each_role_opens_its_own_methods_and_no_other(door: Door, role: str) -> None:
    answers = await door.answers(bearer(door.keys.text[role]))
    assert answers == {m: LET_IN if role in ROLES[m] else "PERMISSION_DENIED" for m in RULES}


async def test_a_request_that_is_too_long_is_refused_before_it_is_read(door: Door) -> None:
    found, wanted = {}, {}
    for method, rule in RULES.items():
        metadata = bearer(door.keys.text[sorted(ROLES[method])[0]])
        found[method] = await door.answer(method, metadata, bytes(rule.request_bytes + 1))
        whole = rule.request_bytes == MAX_MESSAGE_BYTES
        # Beyond the limit of all messages gRPC itself refuses.
        wanted[method] = "RESOURCE_EXHAUSTED" if whole else "INVALID_ARGUMENT"
    assert found == wanted


async def test_a_caller_without_a_key_is_answered_before_anything_of_the_request_is_read(
    door: Door,
) -> None:
    for method in set(RULES) - {OPEN}:
        call = door.channel.stream_stream(method)()
        async with asyncio.timeout(10):
            assert await call.code() is grpc.StatusCode.UNAUTHENTICATED, method


async def test_methods_without_a_rule_are_refused_or_do_not_exist(door: Door) -> None:
    nope = "/argus.v1.AdminService/Nope"
    assert await door.answer(nope, (), b"x") == "UNAUTHENTICATED"
    assert await door.answer(nope, bearer(door.keys.text["operator"]), b"x") == "PERMISSION_DENIED"
