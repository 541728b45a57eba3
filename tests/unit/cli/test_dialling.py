"""How commands and clients show who they are, and what they will not send in clear text."""

from __future__ import annotations

from pathlib import Path

import pytest

from argus.client import AsyncClient, Client, InvalidArgumentError, Tls
from argus.config import AuthConfig, Config, TlsConfig, load_config
from argus.errors import ConfigError
from argus.rpc.dial import Dialling, dialling
from tests.unit.cli.running import Here, argus

KEY = "argus_" + "0" * 12 + "_" + "0" * 64


def test_a_key_does_not_cross_a_network_without_tls_unless_that_is_said() -> None:
    for client in (Client, AsyncClient):
        with pytest.raises(InvalidArgumentError, match="api_key: would cross the network"):
            client("192.0.2.1:7420", api_key=KEY)
    for near in ("127.0.0.1:1", "[::1]:1", "localhost:1"):
        Dialling(api_key=KEY).check(near)
    Dialling(api_key=KEY, insecure=True).check("192.0.2.1:7420")
    Dialling(Tls(), KEY).check("192.0.2.1:7420")
    Dialling().check("192.0.2.1:7420")


@pytest.mark.parametrize("key", ["a b", "a\nb", "ä", "x" * 4097, "a\0"])
def test_what_cannot_be_a_header_is_no_key(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="api_key: must") as caught:
        Client("127.0.0.1:1", api_key=key)
    assert key not in str(caught.value)


def test_settings_of_dialling_come_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(KEY + "\n")
    config = load_config(
        None,
        {
            "ARGUS_TLS_CA": "system",
            "ARGUS_TLS_SERVER_NAME": "argus.example",
            "ARGUS_AUTH_API_KEY_FILE": str(file),
        },
    )
    shown = dialling(config.tls, config.auth)
    assert shown == Dialling(Tls(server_name="argus.example"), KEY)
    assert KEY not in repr(shown)
    assert KEY not in repr(Config(auth=AuthConfig(api_key=KEY)))
    assert dialling(TlsConfig(), AuthConfig()) == Dialling()


@pytest.mark.parametrize(
    ("tls", "auth", "words"),
    [
        (TlsConfig(server_name="x"), AuthConfig(), "tls.server_name: needs tls.ca"),
        (TlsConfig(client_certificate="x", client_key="x"), AuthConfig(), "needs tls.ca"),
        (TlsConfig(), AuthConfig(api_key="a", api_key_file="b"), "one of them, not both"),
        (TlsConfig(), AuthConfig(api_key_file="none"), "auth.api_key_file: cannot read none"),
    ],
)
def test_settings_that_make_no_sense_are_named(
    tls: TlsConfig, auth: AuthConfig, words: str
) -> None:
    with pytest.raises(ConfigError, match=words):
        dialling(tls, auth)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ARGUS_TLS_CERTIFICATE": "x"}, "tls.certificate and tls.key"),
        ({"ARGUS_TLS_CLIENT_CA": "x"}, "tls.client_ca: needs"),
        ({"ARGUS_TLS_CLIENT_KEY": "x"}, "tls.client_certificate and tls.client_key"),
    ],
)
def test_halves_of_settings_are_refused(settings: dict[str, str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        load_config(None, settings)


async def test_commands_name_the_flag_whose_file_cannot_be_used(here: Here, tmp_path: Path) -> None:
    for flag in ("--tls-ca", "--api-key-file"):
        found = await here("status", flag, str(tmp_path / "none"))
        assert found.code == 2
        assert found.stderr.startswith(f"argus: {flag}: cannot read ")


async def test_a_command_does_not_send_its_key_in_clear_text(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ARGUS_AUTH_API_KEY", KEY)
    found = await here("status", "--server", "192.0.2.1:1")
    assert found.code == 2
    assert "would cross the network" in found.stderr


async def test_a_coordinator_open_to_others_ends_with_a_clear_error() -> None:
    found = await argus("coordinator", "--bind", "0.0.0.0:0")
    assert found.code == 1
    assert found.stderr.splitlines()[-1].startswith(
        "argus: coordinator.bind: other machines can reach 0.0.0.0:0, so it needs TLS"
    )
