"""The ports that the daemons of this machine would listen on."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from dataclasses import dataclass

import psutil

from argus.config import Config
from argus.doctor.findings import Finding, failed, good, warning
from argus.errors import ConfigError
from argus.rpc.address import parse_address
from argus.types import OFF

CHECK = "port"
GATEWAY, METRICS = "127.0.0.1:7421", "127.0.0.1:7422"
"""Where those that are not named begin to look for a free one."""


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that listens on a port."""

    pid: int
    name: str
    """Its command, in short."""
    ours: bool
    """Whether it is a daemon of Argus."""


def check_ports(config: Config) -> Iterator[Finding]:
    """Check every address that the settings have something listen on."""
    yield check_port("coordinator.bind", config.coordinator.bind)
    if config.gateway.bind != OFF:
        yield check_port("gateway.bind", config.gateway.bind or GATEWAY, bool(config.gateway.bind))
    if config.coordinator.metrics != OFF:
        named = bool(config.coordinator.metrics)
        yield check_port("coordinator.metrics", config.coordinator.metrics or METRICS, named)
    if config.node.metrics not in ("", OFF):
        yield check_port("node.metrics", config.node.metrics)


def check_port(setting: str, address: str, named: bool = True) -> Finding:
    """Return whether an address can be listened on, or who does already.

    Args:
        setting: that holds it.
        address: HOST:PORT.
        named: whether it must be this one; else the next free one is taken.
    """
    try:
        host, port = parse_address(address, setting)
    except ConfigError as error:
        return failed(CHECK, str(error), f"correct {setting}")
    facts = {"setting": setting, "address": address}
    said = f"{setting} {address}"
    fault = bind_error(host, port)
    if fault is None:
        return good(CHECK, f"{said} is free", **facts)
    if fault.errno == errno.EADDRINUSE:
        return _taken(said, port, setting, named, facts)
    reason = (os.strerror(fault.errno) if fault.errno and fault.errno > 0 else str(fault)).lower()
    return failed(
        CHECK, f"{said} cannot be listened on: {reason}", f"name another in {setting}", **facts
    )


def _taken(said: str, port: int, setting: str, named: bool, facts: dict[str, str]) -> Finding:
    holder = holder_of(port)
    if holder is None:
        by, more = "in use, by whom cannot be told", {}
    else:
        by = f"in use by {holder.name} (process {holder.pid})"
        more = {"pid": holder.pid, "process": holder.name}
    if holder is not None and holder.ours:
        return good(CHECK, f"{said} is {by}", **facts, **more)
    if not named:
        return good(CHECK, f"{said} is {by}; the next free port will be taken", **facts, **more)
    if holder is None:
        remedy = f"name another in {setting}, unless Argus itself runs there"
        return warning(CHECK, f"{said} is {by}", remedy, **facts)
    return failed(
        CHECK, f"{said} is {by}", f"end that, or name another in {setting}", **facts, **more
    )


def bind_error(host: str, port: int) -> OSError | None:
    """Return why an address cannot be listened on; None where it can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return error
    return None


def holder_of(port: int) -> Holder | None:
    """Return who listens on a port; None where the system does not tell."""
    try:
        listening = [
            connection.pid
            for connection in psutil.net_connections(kind="tcp")
            if connection.status == psutil.CONN_LISTEN
            and connection.laddr
            and connection.laddr.port == port
        ]
        pid = next((pid for pid in listening if pid is not None), None)
        if pid is None:
            return None
        command = psutil.Process(pid).cmdline()
    except (psutil.Error, OSError):
        return None
    return Holder(pid, _short(command), _is_ours(command))


def _is_ours(command: list[str]) -> bool:
    return "argus.cli.main" in command or any(
        os.path.basename(word) == "argus" for word in command[:2]
    )


def _short(command: list[str]) -> str:
    """Return a command without the paths and flags of its interpreter."""
    if "argus.cli.main" in command:
        return " ".join(["argus", *command[command.index("argus.cli.main") + 1 :][:1]])
    words = [os.path.basename(word) for word in command[:2] if not word.startswith("-")]
    return " ".join(words) or "a process without a name"
