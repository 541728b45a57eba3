"""`argus status`: what the cluster is doing."""

from __future__ import annotations

import sys

import typer
from google.protobuf.json_format import MessageToJson
from rich.console import Console
from rich.table import Table

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import JsonFlag, ServerFlag
from argus.v1 import admin_pb2

PIPE_WIDTH = 160


def status(server: ServerFlag = DEFAULT_SERVER, json: JsonFlag = False) -> None:
    """Show nodes, variants, levels and counts."""
    with connect(server) as client:
        answer = client.status()
    if json:
        typer.echo(
            MessageToJson(
                answer, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
            )
        )
        return
    console = Console(width=None if sys.stdout.isatty() else PIPE_WIDTH, highlight=False)
    console.print(_summary(answer))
    console.print(_nodes(answer))
    console.print(_levels(answer))


def _summary(answer: admin_pb2.GetStatusResponse) -> str:
    counts = answer.counters
    return (
        f"argus {answer.argus_version}, up {answer.uptime_s:.0f} s, "
        f"{answer.in_flight} of {answer.capacity} requests in flight ({answer.queued} queued)\n"
        f"since the start: {counts.accepted} accepted, {counts.answered} answered, "
        f"{counts.on_time} on time, {counts.refused} refused, {counts.cancelled} cancelled, "
        f"{counts.failed} failed, {counts.replayed} replayed"
    )


def _nodes(answer: admin_pb2.GetStatusResponse) -> Table:
    table = Table(title="nodes", title_justify="left")
    table.add_column("node", no_wrap=True)
    for column in ("device", "state", "variants"):
        table.add_column(column)
    for column in ("rows", "waiting", "lanes", "peak", "free slots", "backlog s", "images", "seen"):
        table.add_column(column, justify="right")
    for node in answer.nodes:
        hello, beat = node.hello, node.heartbeat
        table.add_row(
            hello.node,
            hello.device,
            "draining" if node.draining else "serving",
            ", ".join(resident.variant.name for resident in hello.variants),
            str(beat.rows),
            str(beat.waiting),
            f"{beat.lanes}/{hello.max_lanes}",
            str(beat.peak_lanes),
            f"{beat.slots_free}/{hello.slots}",
            f"{node.backlog_s:.1f}",
            str(beat.images_total),
            f"{node.heartbeat_age_s:.1f} s ago",
        )
    return table


def _levels(answer: admin_pb2.GetStatusResponse) -> Table:
    table = Table(title="levels, best first", title_justify="left")
    table.add_column("level")
    table.add_column("variant")
    for column in ("steps", "quality", "answered"):
        table.add_column(column, justify="right")
    for level in answer.levels:
        table.add_row(
            level.name,
            level.variant,
            f"{level.steps_fraction:.0%}",
            f"{level.quality:.2f}",
            str(level.answered),
        )
    return table
