"""What a shell offers when a value is completed with TAB.

Typer knows what to hand a completer by the names of its arguments.
"""

from __future__ import annotations

from collections.abc import Callable

import typer

from argus.errors import ArgusError

Completer = Callable[[str], list[str]]


def among(*names: str) -> Completer:
    """Return a completer that offers names."""
    return lambda incomplete: [name for name in names if name.startswith(incomplete)]


def policies(incomplete: str) -> list[str]:
    """Offer the names of policies."""
    # More to import than other commands need.
    from argus.control.policies import names

    return among(*names())(incomplete)


def nodes(ctx: typer.Context, incomplete: str) -> list[str]:
    """Offer the nodes of the coordinator that the line so far names."""
    from argus.cli.connect import DEFAULT_SERVER, connect

    given = ctx.params
    try:
        server = given.get("server") or DEFAULT_SERVER
        with connect(server, given.get("tls_ca"), given.get("api_key_file")) as client:
            found = [node.hello.node for node in client.status().nodes]
    except ArgusError:
        return []  # in the middle of a line there is nobody to be told why
    return among(*found)(incomplete)
