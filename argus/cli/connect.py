"""The client that commands use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argus.cli.flags import naming_flags
from argus.cli.settings import dialling_settings, naming_settings
from argus.client import Client, Retries
from argus.config import load_config
from argus.errors import ConfigError, InvalidArgumentError, UnavailableError
from argus.rpc.address import parse_addresses
from argus.rpc.dial import dialling
from argus.tracing.opening import open_tracer
from argus.tracing.spans import Tracer

DEFAULT_SERVER = "127.0.0.1:7420"
RETRIES = Retries(attempts=4)
"""A person at a terminal would rather be told after two seconds than wait."""


@contextmanager
def connect(
    server: str, tls_ca: Path | None = None, api_key_file: Path | None = None
) -> Iterator[Client]:
    """Lend a client of `HOST:PORT[,HOST:PORT…]`; errors leave in the words of the command line.

    How it dials comes from the flags given, else from ARGUS_TLS_* and ARGUS_AUTH_*.

    Raises:
        InvalidArgumentError: `server` is not an address, or a file cannot be used.
    """
    try:
        parse_addresses(server, "--server")
    except ConfigError as error:
        raise InvalidArgumentError("--server", str(error).removeprefix("--server: ")) from error
    with (
        naming_flags(),
        _tracer() as tracer,
        _client(server, tls_ca, api_key_file, tracer) as client,
    ):
        try:
            yield client
        except UnavailableError as error:
            # A request that was accepted and lost has words of its own.
            if str(error).startswith("cannot reach ") and "request_id=" not in str(error):
                raise UnavailableError(f"{error}; is `argus up` running there?") from error
            raise


@contextmanager
def _tracer() -> Iterator[Tracer]:
    """Lend the tracer that ARGUS_TRACING_* ask for."""
    with naming_settings({}):
        tracer = open_tracer(load_config().tracing, "argus-client")
    try:
        yield tracer
    finally:
        tracer.close()


def _client(server: str, tls_ca: Path | None, api_key_file: Path | None, tracer: Tracer) -> Client:
    flags = dialling_settings(tls_ca, api_key_file)
    with naming_settings(flags):
        config = load_config(None, None, flags)
        shown = dialling(config.tls, config.auth)
        return Client(
            server,
            retries=RETRIES,
            tls=shown.tls,
            api_key=shown.api_key,
            insecure=shown.insecure,
            tracer=tracer,
        )
