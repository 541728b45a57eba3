"""`argus health`: what a coordinator says of itself, for probes."""

from __future__ import annotations

from typing import Annotated

import typer

from argus.cli.connect import DEFAULT_SERVER
from argus.cli.settings import (
    ConfigFlag,
    ServerFlag,
    TlsCaFlag,
    configure,
    dialling_settings,
    naming_settings,
)
from argus.config import AuthConfig
from argus.errors import ConfigError, InvalidArgumentError, UnavailableError
from argus.rpc.address import parse_address

IMAGES = "argus.v1.ImageService"


def health(
    server: ServerFlag = DEFAULT_SERVER,
    service: Annotated[
        str,
        typer.Option(
            help="Full name of the service to ask about; '' for the whole process. The image "
            "service serves while some node takes work, the cluster service while nodes may join."
        ),
    ] = IMAGES,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds to wait for an answer.")
    ] = 5.0,
    answers: Annotated[
        bool,
        typer.Option(
            "--answers",
            help="Be content with any answer: a coordinator that stands by serves nothing.",
        ),
    ] = False,
    tls_ca: TlsCaFlag = None,
    config: ConfigFlag = None,
) -> None:
    """Say whether a coordinator serves, and exit with 0 only then. No key is needed or shown."""
    from argus.rpc.dial import dialling
    from argus.rpc.health import is_serving

    try:
        parse_address(server, "--server")
    except ConfigError as error:
        raise InvalidArgumentError("--server", str(error).removeprefix("--server: ")) from error
    flags = dialling_settings(tls_ca, None)
    settings = configure(config, flags)
    name = service or "the process"
    with naming_settings(flags):
        tls = dialling(settings.tls, AuthConfig()).tls
        serves = is_serving(server, service, tls, timeout)
    state = f"{name} is {'serving' if serves else 'not serving'}"
    if not serves and not answers:
        raise UnavailableError(f"{server}: {state}")
    typer.echo(state)
