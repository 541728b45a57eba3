"""`argus drain`: take a node out of service in good order."""

from __future__ import annotations

from typing import Annotated

import typer

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import ServerFlag


def drain(
    node: Annotated[str, typer.Argument(help="Name of the node, as `argus status` shows it.")],
    server: ServerFlag = DEFAULT_SERVER,
) -> None:
    """Ask a node to finish its rows, take no more, and leave."""
    with connect(server) as client:
        client.drain(node)
    typer.echo(f"{node} is draining")
