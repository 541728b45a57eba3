"""HOST:PORT in text."""

from __future__ import annotations

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


def format_address(host: str, port: int) -> str:
    """Return `HOST:PORT`, with an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
