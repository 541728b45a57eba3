"""What `argus health` says, and how it ends, against real servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from argus.auth.keys import Role
from argus.config import AuthConfig, TlsConfig
from tests.unit.cli.running import Here
from tests.unit.coordinator.scripted import ScriptedNode, coordinated
from tests.unit.coordinator.secured import Authority, Keys, secured

CLUSTER = "argus.v1.ClusterService"


async def test_images_are_served_while_a_node_takes_work(here: Here) -> None:
    async with coordinated() as served:
        empty = await here("health", "--server", served.address)
        assert (empty.code, empty.stdout) == (1, b"")
        assert empty.stderr == f"argus: {served.address}: argus.v1.ImageService is not serving\n"
        alive = await here("health", "--server", served.address, "--answers")
        assert (alive.code, alive.stdout) == (0, b"argus.v1.ImageService is not serving\n")
        joinable = await here("health", "--server", served.address, "--service", CLUSTER)
        assert (joinable.code, joinable.stdout) == (0, b"argus.v1.ClusterService is serving\n")
        whole = await here("health", "--server", served.address, "--service", "")
        assert (whole.code, whole.stdout) == (0, b"the process is serving\n")
        async with ScriptedNode().joined(served.address):
            assert (await here("health", "--server", served.address)).code == 0


async def test_what_is_wrong_is_named(here: Here) -> None:
    away = await here("health", "--server", "127.0.0.1:1")
    assert away.code == 1
    assert away.stderr.startswith("argus: cannot reach 127.0.0.1:1: ")
    assert (await here("health", "--server", "127.0.0.1:1", "--answers")).code == 1
    assert (await here("health", "--server", "nowhere")).code == 2
    async with coordinated() as served:
        unknown = await here("health", "--server", served.address, "--service", "argus.v1.Image")
    assert unknown.code == 2
    assert "did you mean 'argus.v1.ImageService'?" in unknown.stderr


@pytest.mark.parametrize(("name", "code"), [("argus.internal", 0), ("another.internal", 1)])
async def test_a_secured_coordinator_is_asked_with_the_settings_of_its_own_file(
    here: Here, tmp_path: Path, name: str, code: int
) -> None:
    """The key file that those who dial would show is not there: a probe shows none."""
    authority, keys = Authority(tmp_path), Keys(tmp_path / "keys")
    keys.make("someone", Role.OPERATOR)
    authority.issue("server", "argus.internal")
    settings = tmp_path / "argus.toml"
    settings.write_text(
        f"""
        [tls]
        ca = "{authority.file("ca")}"
        client_ca = "{authority.file("ca")}"
        client_certificate = "{authority.file("server")}"
        client_key = "{authority.file("server-key")}"
        certificate = "{authority.file("server")}"
        key = "{authority.file("server-key")}"
        server_name = "{name}"
        [auth]
        keys = "{keys.path}"
        api_key_file = "/nowhere/api.key"
        """
    )
    tls = TlsConfig(authority.file("server"), authority.file("server-key"), authority.file("ca"))
    async with secured(AuthConfig(str(keys.path)), tls) as address:
        asked = ("health", "--server", address, "--service", CLUSTER)
        assert (await here(*asked, "--config", str(settings))).code == code
        assert (await here(*asked)).code == 1, "without TLS there is no answer"
