"""`argus variants`: what nodes have on their devices, and what is moved by hand."""

from __future__ import annotations

import json as json_module
from typing import Annotated, Any

import typer

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import JsonFlag, KeyFileFlag, ServerFlag, TlsCaFlag
from argus.v1 import admin_pb2

app = typer.Typer(
    help="Show, load and unload the variants of nodes.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Node = Annotated[str, typer.Argument(help="Name of the node, as `argus status` shows it.")]
Variant = Annotated[str, typer.Argument(help="Name of the variant.")]
GIGA = 1e9


@app.command("list")
def list_variants(
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Show which variants each node has, and where their weights are."""
    with connect(server, tls_ca, api_key_file) as client:
        found = described(client.status())
    if json:
        typer.echo(json_module.dumps(found, indent=2, ensure_ascii=False))
        return
    for line in lines_of(found):
        typer.echo(line)


@app.command()
def load(
    node: Node,
    variant: Variant,
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Bring a variant to a node's device; idle ones make room. Returns when it is there."""
    with connect(server, tls_ca, api_key_file) as client:
        moved = client.load_variant(node, variant)
    _say(json, node, list(moved.resident), f"{variant} is on {node} after {moved.seconds:.1f} s")


@app.command()
def unload(
    node: Node,
    variant: Variant,
    park: Annotated[
        bool, typer.Option("--park", help="Keep the weights in host memory (node.host_bytes).")
    ] = False,
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Take a variant off a node's device when its rows there are done, until it is loaded again."""
    with connect(server, tls_ca, api_key_file) as client:
        moved = client.unload_variant(node, variant, park=park)
    _say(json, node, list(moved.resident), f"{variant} is off {node}")


def described(answer: admin_pb2.GetStatusResponse) -> list[dict[str, Any]]:
    """Return a row for each variant of each node."""
    return [
        {
            "node": node.hello.node,
            "variant": held.variant.name,
            "state": _state(node, held.variant.name),
            "serving": held.variant.name in node.serving,
            "pinned": held.pinned,
            "weights_bytes": held.weights_bytes,
            "load_s": held.load_s,
        }
        for node in answer.nodes
        for held in node.hello.variants
    ]


def lines_of(found: list[dict[str, Any]]) -> list[str]:
    """Return the rows for people."""
    if not found:
        return ["no node"]
    lines = ["  state     serving      GB  load s  node: variant"]
    for row in found:
        serving = "yes" if row["serving"] else "no"
        pinned = ", pinned" if row["pinned"] else ""
        lines.append(
            f"  {row['state']:8}  {serving:7}  {row['weights_bytes'] / GIGA:6.2f}  "
            f"{row['load_s']:6.1f}  {row['node']}: {row['variant']}{pinned}"
        )
    return lines


def _state(node: admin_pb2.NodeStatus, variant: str) -> str:
    if variant in node.unloaded:
        return "unloaded"
    return "resident" if variant in node.heartbeat.resident else "parked"


def _say(json: bool, node: str, resident: list[str], text: str) -> None:
    if json:
        typer.echo(json_module.dumps({"node": node, "resident": resident}, ensure_ascii=False))
    else:
        typer.echo(text)
