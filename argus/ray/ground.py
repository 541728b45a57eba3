"""What a Ray cluster has room for, and how its nodes reach the coordinator."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from argus.config import RayConfig
from argus.errors import ConfigError, FailedPreconditionError
from argus.rpc.address import format_address, is_loopback, parse_address

AUTO = "auto"
CLIENT = "ray://"
PORT_AT_END = re.compile(r":\d+$")
WILDCARDS = {"0.0.0.0", "::"}
DISCARD_PORT = 9


@dataclass(frozen=True, slots=True)
class RayNode:
    """A machine of a Ray cluster: its address, and what it has of each resource in all."""

    address: str
    resources: Mapping[str, float]


def check_cluster_address(text: str) -> None:
    """Raise where a text is no address of a Ray cluster.

    Raises:
        ConfigError: names ray.address.
    """
    if text == AUTO:
        return
    try:
        parse_address(text.removeprefix(CLIENT), "ray.address")
    except ConfigError as error:
        raise ConfigError(
            f"ray.address: must be {AUTO}, HOST:PORT or {CLIENT}HOST:PORT, not {text!r}"
        ) from error


def daemons_that_fit(config: RayConfig, nodes: Iterable[RayNode], free: Mapping[str, float]) -> int:
    """Return how many daemons there is room for now.

    Args:
        config: says what each of them takes.
        nodes: those that are alive.
        free: what nobody has taken of each resource, over all nodes.

    Raises:
        FailedPreconditionError: there is room for none; says of what there is too little.
    """
    resource, amount = ("CPU", config.cpus) if config.cpus else ("GPU", 1)
    have = sum(int(node.resources.get(resource, 0) // amount) for node in nodes)
    if not have and resource == "GPU":
        raise FailedPreconditionError(
            "the Ray cluster has no GPU; --ray-cpus N runs daemons that take N CPUs each"
        )
    if not have:
        raise FailedPreconditionError(f"no node of the Ray cluster has {amount} CPUs")
    fit = min(have, int(free.get(resource, 0) // amount))
    if not fit:
        raise FailedPreconditionError(
            f"all {resource}s of the Ray cluster are taken; --nodes N waits until they are free"
        )
    return fit


def coordinator_address(listening: str, advertised: str, nodes: Sequence[RayNode]) -> str:
    """Return where daemons on the nodes dial the coordinator.

    Args:
        listening: where the coordinator listens, HOST:PORT.
        advertised: HOST or HOST:PORT that it is reached at; empty: where it listens, or, where
            that is every address of this machine, the one that faces the nodes.
        nodes: those that are alive.

    Raises:
        ConfigError: it cannot be reached from them, or `advertised` is no address.
    """
    host, port = parse_address(listening, "node.coordinator")
    if advertised:
        text = advertised if PORT_AT_END.search(advertised) else f"{advertised}:{port}"
        host, port = parse_address(text, "ray.advertise")
    away = [node.address for node in nodes if not is_here(node.address)]
    if host in WILDCARDS:
        host = own_address_facing([*away, *(node.address for node in nodes)][0])
    if away and is_loopback(host):
        raise ConfigError(
            f"ray.advertise: the nodes of the Ray cluster at {', '.join(away)} cannot reach a "
            f"coordinator at {format_address(host, port)}; let it listen elsewhere with --bind, or "
            "say with --advertise where it is"
        )
    return format_address(host, port)


def check_secrets(
    secrets: Sequence[str], nodes: Iterable[RayNode], encrypted: bool, insecure: bool
) -> None:
    """Raise where secrets would cross a network for all to read.

    Args:
        secrets: settings that hold some.
        nodes: where they would be sent.
        encrypted: whether Ray speaks TLS.
        insecure: whether it was said that they may.

    Raises:
        ConfigError: names the first of them.
    """
    away = [node.address for node in nodes if not is_here(node.address)]
    if secrets and away and not encrypted and not insecure:
        raise ConfigError(
            f"{secrets[0]}: would cross the network to the Ray nodes {', '.join(away)} for all to "
            "read; let Ray speak TLS (RAY_USE_TLS=1), keep the files on the nodes "
            "(ray.files_on_nodes), or say that it may with tls.insecure"
        )


def is_here(address: str) -> bool:
    """Return whether an IP address is one of this machine's."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def own_address_facing(address: str) -> str:
    """Return this machine's IP address on the way to another; nothing is sent.

    Raises:
        ConfigError: there is no way.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((address, DISCARD_PORT))
        except OSError as error:
            raise ConfigError(
                f"ray.advertise: must be given, since there is no way from here to {address}"
            ) from error
        return str(probe.getsockname()[0])
