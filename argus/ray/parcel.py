"""What a daemon on another machine needs to know: its settings, and what is in their files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import argus
from argus.config import Config, load_config
from argus.errors import ConfigError, InternalError
from argus.rpc.dial import SYSTEM, dialling

SENT = {
    "node": None,
    "cache": None,
    "tls": ("ca", "client_certificate", "client_key", "server_name", "insecure"),
    "auth": ("api_key", "api_key_file"),
    "log": None,
}
"""The settings that a node reads, by section; None: all of it."""
FILES = ("tls.ca", "tls.client_certificate", "tls.client_key")
PASSWORD = re.compile(r"\bpassword\s*=|://[^/@]*:[^/@]*@")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One daemon's settings, fit to be sent.

    Attributes:
        version: of Argus where it was packed.
        settings: `{"section.field": value}`, every one that a node reads.
        files: content of the files that settings name, by setting.
    """

    version: str
    settings: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, bytes] = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The settings whose values nobody else may see."""
        found = ["auth.api_key"] if self.settings["auth.api_key"] else []
        if "tls.client_key" in self.files:
            found.append("tls.client_key")
        if PASSWORD.search(self.settings["cache.server"]):
            found.append("cache.server")
        return tuple(found)

    def unpack(self) -> Config:
        """Return the settings; their files are in this process's memory and go with it.

        Raises:
            ConfigError: another version of Argus is installed here, or a setting does not fit.
        """
        if self.version != argus.__version__:
            raise ConfigError(
                f"argus {argus.__version__} is installed here, and {self.version} is wanted"
            )
        in_memory = {name: _memory_file(content) for name, content in self.files.items()}
        return load_config(None, {}, {**self.settings, **in_memory})


def pack(config: Config) -> Parcel:
    """Return what a node with these settings needs elsewhere.

    With `ray.files_on_nodes` the names of the files of `tls` and `auth` are sent, else what is in
    them.

    Raises:
        ConfigError: names the setting whose file cannot be read.
    """
    files: dict[str, bytes] = {}
    if not config.ray.files_on_nodes:
        shown = dialling(config.tls, config.auth)
        if shown.tls is not None:
            shown.tls.credentials()
        auth = replace(config.auth, api_key=shown.api_key, api_key_file="")
        config = replace(config, auth=auth)
    settings = {
        f"{section}.{name}": getattr(getattr(config, section), name)
        for section, names in SENT.items()
        for name in names or (one.name for one in fields(getattr(config, section)))
    }
    if not config.ray.files_on_nodes:
        named = {name: settings[name] for name in FILES}
        files = {
            name: _read(name, path) for name, path in named.items() if path not in ("", SYSTEM)
        }
    return Parcel(argus.__version__, settings, files)


def _read(setting: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {path}: {error.strerror or error}") from error


def _memory_file(content: bytes) -> str:
    """Return the path of a file that only this process has, and that no crash leaves behind."""
    if not hasattr(os, "memfd_create"):
        raise InternalError("files of settings can be sent to machines with Linux only")
    number = os.memfd_create("argus")
    with open(number, "wb", closefd=False) as file:
        file.write(content)
    return f"/proc/self/fd/{number}"
