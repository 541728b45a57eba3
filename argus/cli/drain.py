"""`argus drain`: take a node out of service in good order."""

from __future__ import annotations

from typing import Annotated

import typer

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import KeyFileFlag, ServerFlag, TlsCaFlag


def drain(
    node: Annotated[str, typer.Argument(help="Name of the node, as `argus status` shows it.")],
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
) -> None:
    """Ask a node to finish its rows, take no more, and leave."""
    with connect(server, tls_ca, api_key_file) as client:
        client.drain(node)
    typer.echo(f"{node} is draining")
