"""`argus gateway`: the HTTP door and the dashboard."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from argus.cli.coordinator import HARD_END_S, LISTENING
from argus.cli.logs import log_bugs, setup_logging
from argus.cli.parent import end_with_parent
from argus.cli.ports import check_free
from argus.cli.settings import (
    DEFAULTS,
    ConfigFlag,
    InsecureFlag,
    LogFormatFlag,
    LogLevelFlag,
    WatchStdinFlag,
    configure,
)
from argus.errors import InvalidArgumentError
from argus.types import OFF


def gateway(
    http: Annotated[
        str | None,
        typer.Option(
            "--http",
            help="Where to listen, HOST:PORT. Default: 127.0.0.1:7421, or the next free port.",
        ),
    ] = None,
    coordinator: Annotated[
        str | None,
        typer.Option(
            "--coordinator",
            help="Coordinator to ask, HOST:PORT, or several with commas between. "
            f"Default: {DEFAULTS.gateway.coordinator}.",
        ),
    ] = None,
    insecure: InsecureFlag = None,
    config: ConfigFlag = None,
    log_level: LogLevelFlag = None,
    log_format: LogFormatFlag = None,
    watch_stdin: WatchStdinFlag = False,
) -> None:
    """Run the HTTP gateway; prints `listening HOST:PORT` when HTTP clients may come."""
    from argus.gateway.service import serve
    from argus.rpc.loop import run

    settings = configure(
        config,
        {
            "gateway.bind": http,
            "gateway.coordinator": coordinator,
            "gateway.insecure": insecure,
            "log.level": log_level,
            "log.format": log_format,
        },
    )
    if settings.gateway.bind == OFF:
        raise InvalidArgumentError("gateway.bind", "is off, so there is nothing to run")
    setup_logging(settings.log, "gateway")
    check_free("gateway.bind", settings.gateway.bind)

    async def main(stop: asyncio.Event) -> None:
        if watch_stdin:
            end_with_parent(stop, settings.gateway.drain_grace_s + HARD_END_S)
        await serve(settings, stop, lambda address: print(LISTENING, address, flush=True))

    with log_bugs():
        run(main)
