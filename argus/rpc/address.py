"""HOST:PORT in text."""

from __future__ import annotations

import ipaddress
import socket

from argus.errors import ConfigError

MAX_PORT = 65535


def parse_address(text: str, setting: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`; an IPv6 host stands in brackets.

    Raises:
        ConfigError: `text` is not an address; names `setting`.
    """
    host, colon, port = text.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    bracketed = bare != host
    fits = port.isascii() and port.isdigit() and int(port) <= MAX_PORT
    if not colon or not bare or not fits or (":" in bare and not bracketed):
        raise ConfigError(
            f"{setting}: must be HOST:PORT with a port of 0 to {MAX_PORT}, not {text!r}"
        )
    return bare, int(port)


def parse_addresses(text: str, setting: str) -> tuple[str, ...]:
    """Return the addresses of `HOST:PORT[,HOST:PORT…]`: of coordinators of which one leads.

    Raises:
        ConfigError: one is not an address, or there twice; names `setting`.
    """
    addresses = tuple(part.strip() for part in text.split(","))
    for address in addresses:
        parse_address(address, setting)
    if len(set(addresses)) < len(addresses):
        raise ConfigError(f"{setting}: an address is there twice: {text!r}")
    return addresses


def format_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_loopback(host: str) -> bool:
    """Return whether a host is this machine and cannot be reached from another.

    A name is if everything it stands for is; one that stands for nothing is not.
    """
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(_is_local(str(address[0])) for *_, address in found)


def _is_local(text: str) -> bool:
    address = ipaddress.ip_address(text.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
