"""Every route, asked for by everyone who should not have it; keys, tenants and HTTPS."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import ssl
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest

from argus.auth.key_file import read_keys
from argus.auth.keys import Role
from argus.config import AuthConfig, Config, GatewayConfig, TlsConfig
from argus.errors import ConfigError
from argus.gateway.access import OPEN
from argus.gateway.service import check_exposure
from argus.rpc.dial import Dialling
from argus.rpc.tls import KeyPair
from argus.web.server import LOOK_AGAIN_S
from tests.unit.coordinator.scripted import ScriptedNode
from tests.unit.coordinator.secured import Authority, Keys, bearer, secured
from tests.unit.gateway.running import PATH, gateway_at

ROLES = {
    ("POST", PATH): {"client"},
    ("GET", "/v1/models"): {"client", "operator"},
    ("GET", "/v1/models/{model}"): {"client", "operator"},
    ("GET", "/metrics"): {"operator"},
    ("GET", "/api/status"): {"operator"},
    ("GET", "/api/events"): {"operator"},
    ("GET", "/"): {"operator"},
}
"""Of every route that is not open; written down a second time, against a slip in the code."""


class Door:
    """A gateway that asks for keys, before a coordinator that does."""

    def __init__(self, http: httpx2.AsyncClient, keys: Keys, node: ScriptedNode) -> None:
        self.http, self.keys, self.node = http, keys, node
        self.routes: set[tuple[str, str]] = set()

    async def answers(self, headers: dict[str, str]) -> dict[tuple[str, str], int]:
        """Return the status of every route that is not open; bodies are not waited for."""
        found = {}
        for method, path in ROLES:
            url = path.replace("{model}", "base")
            async with self.http.stream(method, url, headers=headers) as answer:
                found[method, path] = answer.status_code
        return found


@contextlib.asynccontextmanager
async def door(folder: Path) -> AsyncIterator[Door]:
    keys = Keys(folder / "keys")
    keys.make("client", Role.CLIENT, tenant="acme")
    keys.make("node", Role.NODE)
    keys.make("operator", Role.OPERATOR)
    keys.make("browser", Role.CLIENT, Role.OPERATOR, tenant="acme")
    keys.make("gateway", Role.CLIENT, Role.OPERATOR, tenant="*")
    for ended in ("expired", "revoked"):
        keys.make(ended, *Role, tenant="*", ended=ended)
    node = ScriptedNode(metadata=bearer(keys.text["node"]))
    async with (
        secured(AuthConfig(keys=str(keys.path))) as address,
        node.joined(address),
        gateway_at(
            address, Dialling(api_key=keys.text["gateway"]), lambda: read_keys(keys.path)
        ) as (gateway, url),
        httpx2.AsyncClient(base_url=url, timeout=20, trust_env=False) as http,
    ):
        made = Door(http, keys, node)
        made.routes = {
            (method, route.path)
            for route in gateway._app().routes
            for method in route.methods - {"HEAD"}
        }
        yield made


def shown(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(key: str, **headers: str) -> dict[str, str]:
    coded = base64.b64encode(f"me:{key}".encode()).decode()
    return {"Authorization": f"Basic {coded}", **headers}


async def test_every_route_has_a_rule_and_only_open_ones_are_open(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        assert here.routes == set(ROLES) | {("GET", path) for path in OPEN}
        for path in OPEN:
            assert (await here.http.get(path)).status_code == 200, path
        assert (await here.http.get("/nothing")).status_code == 401
        found = await here.http.get("/nothing", headers=shown(here.keys.text["node"]))
        assert found.status_code == 404


async def test_no_route_lets_in_who_has_no_valid_key(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        nobodies = [
            {},
            {"Authorization": "Bearer"},
            {"Authorization": "Bearer argus_" + "0" * 12 + "_" + "0" * 64},
            {"Authorization": "Digest x"},
            {"Authorization": "Basic !"},
            basic(""),
            shown(here.keys.text["expired"]),
            shown(here.keys.text["revoked"]),
        ]
        for headers in nobodies:
            assert await here.answers(headers) == dict.fromkeys(ROLES, 401), headers
    assert not here.node.works


@pytest.mark.parametrize("role", [role.value for role in Role])
async def test_each_role_opens_its_own_routes_and_no_other(tmp_path: Path, role: str) -> None:
    async with door(tmp_path) as here:
        answers = await here.answers(shown(here.keys.text[role]))
    refused = {route for route, status in answers.items() if status == 403}
    assert refused == {route for route, roles in ROLES.items() if role not in roles}
    assert 401 not in answers.values()


BODIES = {
    **{(method, path): 200 for method, path in ROLES if method == "GET"},
    **{("GET", path): 200 for path in OPEN},
    ("POST", PATH): 413,
}
"""How a body beyond the limit is answered: where none is wanted none is read."""
LONG = 300 * 2**10


async def test_no_route_takes_what_is_too_long(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        assert here.routes == set(BODIES)
        key = shown(here.keys.text["browser"])
        for (method, path), status in BODIES.items():
            url = path.replace("{model}", "base")
            long = {**key, "X-Long": "x" * LONG}
            async with here.http.stream(method, url, headers=long) as answer:
                assert answer.status_code in {400, 431}, f"{method} {path}: headers"
            body = {"Content-Type": "application/json", **key}
            async with here.http.stream(method, url, headers=body, content=b" " * LONG) as answer:
                assert answer.status_code == status, f"{method} {path}: body"
    assert not here.node.works


async def again_the_same_picture(here: Door, path: str) -> None:
    headers = {**shown(here.keys.text["client"]), "Idempotency-Key": "once"}
    body = {"prompt": "x", "seed": 7}
    first, second = [await here.http.post(path, json=body, headers=headers) for _ in range(2)]
    assert first.json()["data"] == second.json()["data"]
    assert len(here.node.works) == 1


async def again_only_read(here: Door, path: str) -> None:
    for _ in range(2):
        url = path.replace("{model}", "base")
        headers = shown(here.keys.text["browser"])
        async with here.http.stream("GET", url, headers=headers) as answer:
            assert answer.status_code == 200, path
    assert not here.node.works


REPLAYS = {
    **{(method, path): again_only_read for method, path in ROLES if method == "GET"},
    **{("GET", path): again_only_read for path in OPEN},
    ("POST", PATH): again_the_same_picture,
}
"""What a request that is sent a second time does: at most what was done before."""


async def test_a_request_sent_again_does_nothing_new(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        assert here.routes == set(REPLAYS)
        for (_, path), replay in sorted(REPLAYS.items()):
            await replay(here, path)


async def test_images_are_for_the_tenant_of_the_key(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        headers = shown(here.keys.text["client"])
        answer = await here.http.post(PATH, json={"prompt": "x"}, headers=headers)
        assert answer.status_code == 200, answer.text
    assert [work.tenant for work in here.node.works] == ["acme"]


async def test_a_browser_is_asked_for_a_key_and_other_sites_cannot_use_it(tmp_path: Path) -> None:
    async with door(tmp_path) as here:
        key = here.keys.text["browser"]
        asked = await here.http.get("/")
        assert asked.headers["www-authenticate"].startswith("Basic ")
        assert (await here.http.get("/", headers=basic(key))).status_code == 200
        for site, status in (("same-origin", 200), ("cross-site", 401), ("same-site", 401)):
            headers = basic(key, **{"Sec-Fetch-Site": site})
            answer = await here.http.post(PATH, json={"prompt": "x"}, headers=headers)
            assert answer.status_code == status, site
        assert (
            await here.http.post(PATH, json={"prompt": "x"}, headers=basic(key))
        ).status_code == 401


async def test_https_is_spoken_and_a_new_certificate_is_shown(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "127.0.0.1", organization="before")
    pair = KeyPair(Path(authority.file("server")), Path(authority.file("server-key")))
    context = ssl.create_default_context(cafile=authority.file("ca"))

    def organization(url: str) -> str:
        import socket

        host, port = url.removeprefix("https://").split(":")
        with (
            socket.create_connection((host, int(port))) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            return str(dict(part[0] for part in tls.getpeercert()["subject"])["organizationName"])

    async with gateway_at("127.0.0.1:1", pair=pair) as (_, url):
        assert url.startswith("https://")
        async with httpx2.AsyncClient(base_url=url, verify=context, trust_env=False) as http:
            assert (await http.get("/livez")).status_code == 200
        assert await asyncio.to_thread(organization, url) == "before"
        authority.issue("server", "127.0.0.1", organization="after")
        until_s = time.monotonic() + LOOK_AGAIN_S + 5
        while await asyncio.to_thread(organization, url) == "before":
            assert time.monotonic() < until_s
            await asyncio.sleep(0.1)


@pytest.mark.parametrize(
    ("gateway", "auth", "missing"),
    [
        (GatewayConfig(bind="0.0.0.0:0"), AuthConfig(), ["gateway.tls", "auth.keys"]),
        (GatewayConfig(bind="0.0.0.0:0", tls=True), AuthConfig(), ["auth.keys"]),
        (GatewayConfig(bind="0.0.0.0:0"), AuthConfig(keys="k"), ["gateway.tls"]),
        (GatewayConfig(bind="0.0.0.0:0", tls=True), AuthConfig(keys="k"), []),
        (GatewayConfig(bind="0.0.0.0:0", insecure=True), AuthConfig(), []),
        (GatewayConfig(), AuthConfig(), []),
    ],
)
def test_beyond_loopback_tls_and_keys_are_needed_unless_it_is_said(
    gateway: GatewayConfig, auth: AuthConfig, missing: list[str]
) -> None:
    config = Config(gateway=gateway, auth=auth, tls=TlsConfig(certificate="c", key="k"))
    if not missing:
        check_exposure(config)
        return
    with pytest.raises(ConfigError, match=r"^gateway\.bind: other machines can reach") as caught:
        check_exposure(config)
    assert [word for word in ("gateway.tls = true", "auth.keys") if word in str(caught.value)] == [
        word + (" = true" if word == "gateway.tls" else "") for word in missing
    ]
