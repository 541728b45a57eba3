"""The client that commands use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from argus.cli.flags import naming_flags
from argus.client import Client, Retries
from argus.errors import ConfigError, InvalidArgumentError, UnavailableError
from argus.rpc.address import parse_address

DEFAULT_SERVER = "127.0.0.1:7420"
RETRIES = Retries(attempts=4)
"""A person at a terminal would rather be told after two seconds than wait."""


@contextmanager
def connect(server: str) -> Iterator[Client]:
    """Lend a client of `HOST:PORT`; errors leave in the words of the command line.

    Raises:
        InvalidArgumentError: `server` is not an address.
    """
    try:
        parse_address(server, "--server")
    except ConfigError as error:
        raise InvalidArgumentError("--server", str(error).removeprefix("--server: ")) from error
    with naming_flags(), Client(server, retries=RETRIES) as client:
        try:
            yield client
        except UnavailableError as error:
            # A request that was accepted and lost has words of its own.
            if str(error).startswith("cannot reach ") and "request_id=" not in str(error):
                raise UnavailableError(f"{error}; is `argus up` running there?") from error
            raise
