"""What is sent to daemons on Ray's nodes, and what comes out there."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from argus.config import (
    AuthConfig,
    CacheConfig,
    Config,
    LogConfig,
    NodeConfig,
    RayConfig,
    TlsConfig,
)
from argus.errors import ConfigError
from argus.ray.parcel import pack
from argus.rpc.dial import dialling
from tests.unit.coordinator.secured import Authority

KEY = "argus_" + "0" * 12 + "_" + "0" * 64


@pytest.fixture
def secured(tmp_path: Path) -> Config:
    """Settings whose files lie in a folder that the daemon's machine does not have."""
    authority = Authority(tmp_path)
    authority.issue("peer", "peer")
    authority.issue("server", "127.0.0.1")
    (tmp_path / "key").write_text(KEY + "\n")
    return Config(
        node=NodeConfig(coordinator="10.0.0.5:7420", name="node-3", models=("/a", "/b"), slots=7),
        cache=CacheConfig(mode="off", ttl_s=1.5),
        tls=TlsConfig(
            certificate=authority.file("server"),
            key=authority.file("server-key"),
            ca=authority.file("ca"),
            client_certificate=authority.file("peer"),
            client_key=authority.file("peer-key"),
            server_name="argus.example",
        ),
        auth=AuthConfig(keys="/var/lib/argus/keys", api_key_file=str(tmp_path / "key")),
        log=LogConfig("debug"),
    )


def test_what_is_packed_arrives_without_its_files(secured: Config, tmp_path: Path) -> None:
    sent = pickle.dumps(pack(secured))
    for file in tmp_path.iterdir():
        file.unlink()
    arrived = pickle.loads(sent).unpack()
    assert (arrived.node, arrived.cache, arrived.log) == (secured.node, secured.cache, secured.log)
    shown = dialling(arrived.tls, arrived.auth)
    assert shown.api_key == KEY
    assert shown.tls is not None
    assert shown.tls.server_name == "argus.example"
    for _ in range(2):  # a daemon reads them whenever it dials
        shown.tls.credentials()


def test_what_only_the_coordinator_needs_stays_where_it_is(secured: Config) -> None:
    server_key = Path(secured.tls.key).read_bytes()
    parcel = pack(secured)
    assert server_key not in pickle.dumps(parcel)
    assert parcel.unpack().tls.key == ""
    assert parcel.unpack().auth.keys == ""


def test_secrets_are_known_and_not_shown(secured: Config) -> None:
    parcel = pack(secured)
    assert parcel.secrets == ("auth.api_key", "tls.client_key")
    assert KEY not in repr(parcel)
    assert "PRIVATE KEY" not in repr(parcel)
    assert pack(Config()).secrets == ()


@pytest.mark.parametrize(
    ("server", "secret"),
    [
        ("host=db user=argus", False),
        ("host=db password = 'x'", True),
        ("postgresql://argus@db/argus", False),
        ("postgresql://argus:x@db/argus", True),
    ],
)
def test_a_password_of_the_database_is_a_secret(server: str, secret: bool) -> None:
    parcel = pack(Config(cache=CacheConfig(server=server)))
    assert parcel.secrets == (("cache.server",) if secret else ())


def test_files_that_the_nodes_have_are_named_and_neither_read_nor_sent() -> None:
    config = Config(
        ray=RayConfig(files_on_nodes=True),
        tls=TlsConfig(ca="/nowhere/ca.pem"),
        auth=AuthConfig(api_key_file="/nowhere/key"),
    )
    parcel = pack(config)
    assert (parcel.files, parcel.secrets) == ({}, ())
    arrived = parcel.unpack()
    assert arrived.tls.ca == "/nowhere/ca.pem"
    assert arrived.auth.api_key_file == "/nowhere/key"


def test_the_public_certificates_are_no_file() -> None:
    parcel = pack(Config(tls=TlsConfig(ca="system")))
    assert parcel.files == {}
    assert parcel.unpack().tls.ca == "system"


def test_a_file_that_is_not_there_is_named_before_anything_is_sent() -> None:
    with pytest.raises(ConfigError, match=r"^tls\.ca: cannot read nowhere"):
        pack(Config(tls=TlsConfig(ca="nowhere")))
    with pytest.raises(ConfigError, match=r"^auth\.api_key_file: cannot read nowhere"):
        pack(Config(auth=AuthConfig(api_key_file="nowhere")))


def test_another_version_is_told_in_plain_words() -> None:
    with pytest.raises(ConfigError, match=r"is installed here, and 0\.0\.7 is wanted"):
        replace(pack(Config()), version="0.0.7").unpack()


def test_the_environment_of_the_nodes_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    parcel = pack(Config())
    monkeypatch.setenv("ARGUS_NODE_SLOTS", "3")
    assert parcel.unpack().node.slots == NodeConfig().slots
