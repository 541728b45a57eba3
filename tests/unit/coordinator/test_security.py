"""Keys, tenants, limits and certificates on a running coordinator."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from argus.auth.keys import Role
from argus.auth.watched import LOOK_AGAIN_S
from argus.client import AsyncClient, Client, Retries, Tls
from argus.clock import MonotonicClock
from argus.config import AuthConfig, Config, CoordinatorConfig, TlsConfig
from argus.coordinator.security import open_security
from argus.errors import (
    AlreadyExistsError,
    ArgusError,
    ConfigError,
    InvalidArgumentError,
    PermissionDeniedError,
    QuotaError,
    UnauthenticatedError,
    UnavailableError,
)
from argus.rpc.address import parse_address
from argus.rpc.channel import open_channel
from argus.rpc.convert_cluster import node_info_to_proto
from argus.rpc.status import from_rpc_error
from argus.v1 import cluster_pb2
from argus.v1.cluster_pb2_grpc import ClusterServiceStub
from tests.unit.coordinator.bench import info
from tests.unit.coordinator.scripted import ScriptedNode, picture
from tests.unit.coordinator.secured import Authority, Keys, bearer, secured

ONCE = Retries(attempts=1)
PROMPT = "a violet tetrahedron that nobody mentions"


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path / "keys")
    keys.make("acme", Role.CLIENT, tenant="acme")
    keys.make("other", Role.CLIENT, tenant="other")
    keys.make("gateway", Role.CLIENT, tenant="*")
    keys.make("operator", Role.OPERATOR)
    keys.make("node", Role.NODE)
    return keys


@contextlib.asynccontextmanager
async def client(address: str, key: str = "", tls: Tls | None = None) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(address, retries=ONCE, api_key=key, tls=tls) as client:
        yield client


@contextlib.asynccontextmanager
async def joining(address: str, key: str, name: str) -> AsyncIterator[Any]:
    """Say hello as a node; raises what the coordinator answers instead of a welcome."""
    async with open_channel(address) as channel:
        call = ClusterServiceStub(channel).Join(metadata=bearer(key))
        hello = node_info_to_proto(info(name))
        await call.write(cluster_pb2.JoinRequest(hello=hello))
        yield call
        call.cancel()


async def answer_of(call: Any) -> Any:
    try:
        async with asyncio.timeout(10):
            return await call.read()
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


# -- tenants -------------------------------------------------------------------------------------


async def test_the_tenant_of_a_request_is_that_of_its_key(keys: Keys) -> None:
    node = ScriptedNode(metadata=bearer(keys.text["node"]))
    async with secured(AuthConfig(keys=str(keys.path))) as address, node.joined(address):
        async with client(address, keys.text["acme"]) as acme:
            assert (await acme.generate(PROMPT, seed=3, steps=2)).data == picture(3, 2)
            await acme.generate(PROMPT, tenant="acme")
            with pytest.raises(PermissionDeniedError, match="tenant"):
                await acme.generate(PROMPT, tenant="other")
            with pytest.raises(PermissionDeniedError, match="operator"):
                await acme.status()
        async with client(address, keys.text["gateway"]) as gateway:
            await gateway.generate(PROMPT, tenant="other")
            await gateway.generate(PROMPT)
    assert [work.tenant for work in node.works] == ["acme", "acme", "other", ""]


async def test_a_request_id_of_another_tenant_gives_no_picture(keys: Keys) -> None:
    node = ScriptedNode(metadata=bearer(keys.text["node"]))
    async with (
        secured(AuthConfig(keys=str(keys.path))) as address,
        node.joined(address),
        client(address, keys.text["acme"]) as acme,
        client(address, keys.text["other"]) as other,
    ):
        mine = await acme.generate(PROMPT, seed=3, request_id="guessed")
        assert (await acme.generate(PROMPT, seed=3, request_id="guessed")).data == mine.data
        with pytest.raises(InvalidArgumentError, match="request_id") as caught:
            await other.generate(PROMPT, seed=3, request_id="guessed")
    assert PROMPT not in str(caught.value)
    assert len(node.works) == 1


# -- limits --------------------------------------------------------------------------------------


async def test_limits_are_named_with_a_true_retry_time_and_hold_for_their_tenant_only(
    keys: Keys, tmp_path: Path
) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text(
        "[tenants.acme]\nrate_per_s = 2\nburst = 1\nmax_pixels = 4096\nmax_prompt_chars = 50\n"
        "[tenants.other]\nconcurrency = 1\n"
    )
    auth = AuthConfig(keys=str(keys.path), tenants=str(tenants))
    node = ScriptedNode(metadata=bearer(keys.text["node"]), step_s=0.02)
    async with (
        secured(auth) as address,
        node.joined(address),
        client(address, keys.text["acme"]) as acme,
        client(address, keys.text["other"]) as other,
    ):
        for field, options in (
            ("width", {"size": "128x64"}),
            ("prompt", {"prompt": "x" * 51}),
            ("negative_prompt", {"negative_prompt": "x" * 51}),
        ):
            with pytest.raises(InvalidArgumentError, match="max_") as bad:
                await acme.generate(**({"prompt": PROMPT} | options))
            assert bad.value.field == field
        await acme.generate(PROMPT, steps=1)
        with pytest.raises(QuotaError) as caught:
            await acme.generate(PROMPT, steps=1)
        assert (caught.value.limit, caught.value.tenant) == ("rate_per_s", "acme")
        assert 0 < caught.value.retry_after_s <= 0.5
        await asyncio.sleep(caught.value.retry_after_s)
        await acme.generate(PROMPT, steps=1)

        stream = other.stream(PROMPT, steps=50)
        await anext(stream)
        with pytest.raises(QuotaError, match="concurrency"):
            await other.generate(PROMPT)
        await stream.aclose()
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(QuotaError):
                    await other.generate(PROMPT, steps=1)
                    break
                await asyncio.sleep(0.02)


async def test_new_terms_hold_without_a_restart(keys: Keys, tmp_path: Path) -> None:
    tenants = tmp_path / "tenants.toml"
    tenants.write_text("")
    auth = AuthConfig(keys=str(keys.path), tenants=str(tenants))
    node = ScriptedNode(metadata=bearer(keys.text["node"]))
    async with (
        secured(auth) as address,
        node.joined(address),
        client(address, keys.text["acme"]) as acme,
    ):
        await acme.generate(PROMPT)
        tenants.write_text("[default]\nmax_steps = 1\n")
        await asyncio.sleep(LOOK_AGAIN_S + 0.05)
        with pytest.raises(InvalidArgumentError, match="max_steps"):
            await acme.generate(PROMPT)


# -- nodes ---------------------------------------------------------------------------------------


async def test_a_join_key_of_one_node_is_of_no_use_to_another(keys: Keys) -> None:
    keys.make("n1", Role.NODE, node="n1")
    async with secured(AuthConfig(keys=str(keys.path))) as address:
        async with joining(address, keys.text["n1"], "n2") as call:
            with pytest.raises(PermissionDeniedError, match="'n1'"):
                await answer_of(call)
        async with joining(address, keys.text["n1"], "n1") as call:
            assert (await answer_of(call)).HasField("welcome")


async def test_a_join_said_again_while_the_node_lives_is_refused(keys: Keys) -> None:
    async with (
        secured(AuthConfig(keys=str(keys.path))) as address,
        joining(address, keys.text["node"], "n1") as first,
    ):
        assert (await answer_of(first)).HasField("welcome")
        async with joining(address, keys.text["node"], "n1") as again:
            with pytest.raises(AlreadyExistsError):
                await answer_of(again)


async def test_a_node_whose_key_is_revoked_is_turned_out(keys: Keys) -> None:
    keys.make("n1", Role.NODE, node="n1")
    async with (
        secured(AuthConfig(keys=str(keys.path)), lease_s=30.0) as address,
        joining(address, keys.text["n1"], "n1") as revoked,
        joining(address, keys.text["node"], "n2") as stays,
        client(address, keys.text["operator"]) as operator,
    ):
        for call in (revoked, stays):
            assert (await answer_of(call)).HasField("welcome")
        keys.revoke("n1")
        with pytest.raises(UnauthenticatedError, match="does not hold any more"):
            await answer_of(revoked)
        assert [n.hello.node for n in (await operator.status()).nodes] == ["n2"]


# -- TLS -----------------------------------------------------------------------------------------


def organization_at(address: str, authority: Authority) -> str:
    """Return whom the certificate names that a new connection is shown."""
    context = ssl.create_default_context(cafile=authority.file("ca"))
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(parse_address(address, "x")) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as tls,
    ):
        subject = dict(part[0] for part in tls.getpeercert()["subject"])
    return str(subject["organizationName"])


async def test_a_rotated_certificate_is_shown_to_new_connections_and_old_ones_go_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "127.0.0.1", organization="before")
    tls = TlsConfig(certificate=authority.file("server"), key=authority.file("server-key"))
    trusting = Tls(ca=authority.file("ca"))
    async with secured(tls=tls) as address, client(address, tls=trusting) as old:
        await old.variants()
        assert await asyncio.to_thread(organization_at, address, authority) == "before"
        (tmp_path / "server.pem").write_text("not a certificate")
        assert await asyncio.to_thread(organization_at, address, authority) == "before"
        assert "tls.certificate and tls.key" in caplog.text
        authority.issue("server", "127.0.0.1", organization="after")
        assert await asyncio.to_thread(organization_at, address, authority) == "after"
        await old.variants()
        async with client(address, tls=trusting) as new:
            await new.variants()


async def test_only_tls_of_the_right_authority_is_spoken_with(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "argus.example")
    (tmp_path / "else").mkdir()
    stranger = Authority(tmp_path / "else")
    tls = TlsConfig(certificate=authority.file("server"), key=authority.file("server-key"))
    named = Tls(ca=authority.file("ca"), server_name="argus.example")
    async with secured(tls=tls) as address:
        async with client(address, tls=named) as right:
            await right.variants()
        for wrong in (None, Tls(), Tls(ca=authority.file("ca")), Tls(ca=stranger.file("ca"))):
            async with client(address, tls=wrong) as refused:
                with pytest.raises(UnavailableError):
                    await refused.variants()


async def test_who_must_show_a_certificate_and_has_none_is_not_let_in(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "127.0.0.1")
    authority.issue("client", "client")
    (tmp_path / "else").mkdir()
    stranger = Authority(tmp_path / "else")
    stranger.issue("client", "client")
    tls = TlsConfig(
        certificate=authority.file("server"),
        key=authority.file("server-key"),
        client_ca=authority.file("ca"),
    )
    root = authority.file("ca")
    mine = Tls(root, authority.file("client"), authority.file("client-key"))
    async with secured(tls=tls) as address:
        async with client(address, tls=mine) as known:
            await known.variants()

        def blocking() -> None:
            with Client(address, tls=mine) as known:
                known.variants()

        await asyncio.to_thread(blocking)
        for wrong in (Tls(root), Tls(root, stranger.file("client"), stranger.file("client-key"))):
            async with client(address, tls=wrong) as refused:
                with pytest.raises(UnavailableError):
                    await refused.variants()


# -- what is open to whom ------------------------------------------------------------------------


def config_of(bind: str, insecure: bool = False, **parts: Any) -> Config:
    return Config(coordinator=CoordinatorConfig(bind=bind, insecure=insecure), **parts)


def security_fault(config: Config) -> str:
    try:
        open_security(config, MonotonicClock())
    except ArgusError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "192.0.2.1:7420", "no-such.invalid:1"])
def test_beyond_loopback_tls_and_keys_are_needed_unless_it_is_said(
    bind: str, tmp_path: Path
) -> None:
    authority, keys = Authority(tmp_path), Keys(tmp_path / "keys")
    authority.issue("server", "127.0.0.1")
    keys.make("node", Role.NODE)
    auth = AuthConfig(keys=str(keys.path))
    tls = TlsConfig(certificate=authority.file("server"), key=authority.file("server-key"))
    fault = security_fault(config_of(bind))
    assert fault.startswith(f"coordinator.bind: other machines can reach {bind}")
    assert "tls.certificate" in fault
    assert "auth.keys" in fault
    assert "auth.keys" not in security_fault(config_of(bind, auth=auth))
    assert "tls.certificate and" not in security_fault(config_of(bind, tls=tls))
    assert security_fault(config_of(bind, tls=tls)) != ""
    assert security_fault(config_of(bind, tls=tls, auth=auth)) == ""
    assert security_fault(config_of(bind, insecure=True)) == ""


@pytest.mark.parametrize("bind", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.9.9.9:1"])
def test_on_loopback_nothing_is_needed(bind: str) -> None:
    assert security_fault(config_of(bind)) == ""


@pytest.mark.parametrize(
    ("tls", "words"),
    [
        (TlsConfig(certificate="none", key="none"), "tls.key: cannot read none"),
        (
            TlsConfig(certificate="ca.pem", key="server-key.pem"),
            "are not a certificate and",
        ),
        (
            TlsConfig(certificate="server.pem", key="server-key.pem", client_ca="server-key.pem"),
            "tls.client_ca: .* holds no certificates",
        ),
    ],
)
def test_certificates_that_cannot_be_used_are_named(
    tls: TlsConfig, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Authority(tmp_path).issue("server", "127.0.0.1")
    with pytest.raises(ConfigError, match=words):
        open_security(Config(tls=tls), MonotonicClock())


# -- prompts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", [False, True])
async def test_a_prompt_is_logged_only_where_that_is_asked_for(
    asked: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with (
        secured(prompts=asked) as address,
        ScriptedNode().joined(address),
        client(address) as anybody,
    ):
        await anybody.generate(PROMPT, negative_prompt=PROMPT)
        for options in ({"size": "1x1"}, {"variant": "none"}, {"deadline_s": 0.001}):
            with pytest.raises(ArgusError):
                await anybody.generate(PROMPT, negative_prompt=PROMPT, **options)
    assert (PROMPT in caplog.text) is asked
