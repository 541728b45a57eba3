"""`argus drain`: take a node out of service in good order."""

from __future__ import annotations

import json as json_module
from typing import Annotated

import typer

from argus.cli.complete import nodes
from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import JsonFlag, KeyFileFlag, ServerFlag, TlsCaFlag


def drain(
    node: Annotated[
        str,
        typer.Argument(help="Name of the node, as `argus status` shows it.", autocompletion=nodes),
    ],
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Ask a node to finish its rows, take no more, and leave."""
    with connect(server, tls_ca, api_key_file) as client:
        client.drain(node)
    typer.echo(json_module.dumps({"draining": node}) if json else f"{node} is draining")
