"""The client that commands use."""

from __future__ import annotations

from argus.client import Client, Retries
from argus.errors import ConfigError, InvalidArgumentError
from argus.rpc.address import parse_address

DEFAULT_SERVER = "127.0.0.1:7420"
RETRIES = Retries(attempts=4)
"""A person at a terminal would rather be told after two seconds than wait."""


def connect(server: str) -> Client:
    """Return a client of `HOST:PORT`.

    Raises:
        InvalidArgumentError: `server` is not an address.
    """
    try:
        parse_address(server, "--server")
    except ConfigError as error:
        raise InvalidArgumentError("--server", str(error).removeprefix("--server: ")) from error
    return Client(server, retries=RETRIES)
