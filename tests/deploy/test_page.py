"""docs/deploy.md says nothing that Argus, Helm or openssl would not take."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import yaml

from argus.auth.key_file import read_keys
from argus.config import load_config
from argus.coordinator.security import check_exposure
from argus.gateway import service as gateway_service
from argus.rpc.tls import KeyPair
from tests.deploy.chart import of_kind, pods, rendered
from tests.deploy.command_line import ROOT, parsed
from tests.deploy.test_systemd import FILES, settings
from tests.integration.snippets import snippets

PAGE = "deploy.md"
KEYS = ("node", "gateway", "operator", "acme")


def commands() -> list[list[str]]:
    """Return the words of every argus command on the page."""
    text = (ROOT / "docs" / PAGE).read_text()
    blocks = re.findall(r"```sh\n(.*?)```", text, re.S)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words[:1] == ["argus"]]


def test_every_command_is_one_that_argus_takes() -> None:
    found = [words[: words.index(">")] if ">" in words else words for words in commands()]
    assert len(found) > 5
    for words in found:
        if words[0] == "keys":
            continue  # these are run below
        parsed(words)


def test_certificates_and_keys_are_made_as_told(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    argus = tmp_path / "bin" / "argus"
    argus.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m argus.cli.main "$@"\n')
    argus.chmod(0o755)
    _, code = snippets(PAGE)["secrets"]
    path = f"{argus.parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-euc", code],
        cwd=tmp_path,
        env={**os.environ, "PATH": path},
        check=True,
        capture_output=True,
    )
    assert len(read_keys(tmp_path / "keys").records) == len(KEYS)
    assert all((tmp_path / f"{name}.key").read_text().startswith("argus_") for name in KEYS)
    for name in ("coordinator", "gateway"):
        certificate = tmp_path / f"{name}-tls.crt"
        KeyPair(certificate, tmp_path / f"{name}-tls.key").check()
        checked = subprocess.run(
            ["openssl", "verify", "-CAfile", "ca.crt", "-verify_hostname",
             f"argus-{name}.argus.svc", certificate.name],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert checked.returncode == 0, checked.stderr


def test_the_settings_are_ones_that_argus_takes(tmp_path: Path) -> None:
    _, text = snippets(PAGE)["settings"]
    file = tmp_path / "argus.toml"
    file.write_text(text)
    config = load_config(file, {})
    check_exposure(config)
    gateway_service.check_exposure(config)
    # They are the units' as well, which let each process write where its folders are.
    assert config.cache.folder == f"/var/cache/{settings('node')['CacheDirectory'][0]}"
    (command,) = settings("node")["ExecStart"]
    assert f"--config {text.splitlines()[0].removeprefix('# ')} " in command
    assert set(FILES) == {"coordinator", "node", "gateway"}


def test_the_values_are_ones_that_the_chart_takes() -> None:
    _, text = snippets(PAGE)["values"]
    objects = rendered(yaml.safe_load(text))
    node = pods(objects)["node"]
    assert node.owner["spec"]["replicas"] == 8
    assert "--model=/models/stable-diffusion-xl-base-1.0" in node.container["args"]
    assert of_kind(objects, "Ingress") == []
