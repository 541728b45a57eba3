"""A cluster with TLS, keys and tenants, as an operator sets it up; its logs hold no secret."""

from __future__ import annotations

import base64
import re
from pathlib import Path

import httpx2
import pytest
from local_cluster import LocalCluster

from argus.client import Client, QuotaError, Retries, Tls, UnauthenticatedError
from tests.unit.coordinator.secured import Authority

from .conftest import argus

pytestmark = pytest.mark.integration

PROMPT = "a heliotrope dodecahedron beside nothing at all"
SETTINGS = """
[tls]
certificate = "{folder}/server.pem"
key = "{folder}/server-key.pem"
client_ca = "{folder}/ca.pem"
ca = "{folder}/ca.pem"
client_certificate = "{folder}/peer.pem"
client_key = "{folder}/peer-key.pem"

[auth]
keys = "{folder}/keys"
tenants = "{folder}/tenants.toml"
api_key_file = "{folder}/up.key"
"""


def new_key(folder: Path, name: str, *arguments: str) -> str:
    made = argus("keys", "new", "--file", str(folder / "keys"), *arguments)
    assert made.returncode == 0, made.stderr
    (folder / f"{name}.key").write_text(made.stdout)
    return made.stdout.strip()


def models_at(address: str, key: str) -> int:
    """Return the status with which a gateway answers who shows it a key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return httpx2.get(
        f"http://{address}/v1/models", headers=headers, timeout=20, trust_env=False
    ).status_code


def test_a_secured_cluster_serves_whom_it_should_and_logs_no_secret(
    tmp_path: Path, tiny_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    authority.issue("server", "127.0.0.1")
    authority.issue("peer", "peer")
    up = new_key(tmp_path, "up", "--role", "node", "--role", "operator", "--role", "client",
                 "--tenant", "*")  # fmt: skip
    acme = new_key(tmp_path, "acme", "--role", "client", "--tenant", "acme")
    (tmp_path / "tenants.toml").write_text("[tenants.acme]\nrate_per_s = 0.01\nburst = 2\n")
    settings = tmp_path / "argus.toml"
    settings.write_text(SETTINGS.format(folder=tmp_path))
    flags = ["--config", str(settings), "--log-level", "debug"]
    flags += ["--model", str(tiny_folders["tiny-eps"])]
    flags += ["--threads", "1", "--max-lanes", "2", "--slots", "2", "--cache", "off"]
    tls = Tls(authority.file("ca"), authority.file("peer"), authority.file("peer-key"))
    with LocalCluster(1, flags, http=True) as cluster:
        assert models_at(cluster.http, "") == 401
        assert models_at(cluster.http, acme) == 200
        with Client(cluster.address, tls=tls, api_key=acme, retries=Retries(attempts=1)) as client:
            picture = client.generate(PROMPT, seed=7, steps=3, negative_prompt=PROMPT).data
        monkeypatch.setenv("ARGUS_TLS_CLIENT_CERTIFICATE", authority.file("peer"))
        monkeypatch.setenv("ARGUS_TLS_CLIENT_KEY", authority.file("peer-key"))
        dialled = ["--server", cluster.address, "--tls-ca", authority.file("ca"), "--api-key-file"]
        file = tmp_path / "a.png"
        said = argus("generate", PROMPT, *dialled, str(tmp_path / "acme.key"),
                     "--seed", "7", "--steps", "3", "-o", str(file))  # fmt: skip
        assert said.returncode == 0, said.stderr
        assert "node-0" in argus("status", *dialled, str(tmp_path / "up.key")).stdout
        refused = argus("status", *dialled, str(tmp_path / "acme.key"))
        assert (refused.returncode, "operator" in refused.stderr) == (1, True)
        with (
            Client(cluster.address, tls=tls, api_key=acme, retries=Retries(attempts=1)) as client,
            pytest.raises(QuotaError, match="rate_per_s"),
        ):
            client.generate(PROMPT, seed=8)
        with Client(cluster.address, tls=tls) as client, pytest.raises(UnauthenticatedError):
            client.variants()
    assert "DEBUG" in cluster.log
    assert "joined" in cluster.log
    words = re.compile("heliotrope|dodecahedron")
    assert not words.search(cluster.log)
    for secret in (up, acme, base64.b64encode(picture[:30]).decode(), repr(picture[20:40])[2:-1]):
        assert secret not in cluster.log
