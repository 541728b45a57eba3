"""`argus node`: the daemon beside one device."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from argus.cli.coordinator import HARD_END_S
from argus.cli.logs import log_bugs, setup_logging
from argus.cli.parent import end_with_parent
from argus.cli.settings import (
    DEFAULTS,
    CacheFlag,
    CacheFolderFlag,
    ConfigFlag,
    DeviceFlag,
    DtypeFlag,
    LogFormatFlag,
    LogLevelFlag,
    MaxLanesFlag,
    ModelFlag,
    NiceFlag,
    SlotsFlag,
    ThreadsFlag,
    WatchStdinFlag,
    cache_settings,
    configure,
    naming_settings,
)
from argus.priority import give_way


def node(
    coordinator: Annotated[
        str | None,
        typer.Option(
            "--coordinator",
            help="Coordinator to join, HOST:PORT, or several with commas between. "
            f"Default: {DEFAULTS.node.coordinator}.",
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Unique name. Default: host name and process.")
    ] = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    dtype: DtypeFlag = None,
    threads: ThreadsFlag = None,
    nice: NiceFlag = None,
    slots: SlotsFlag = None,
    max_lanes: MaxLanesFlag = None,
    cache: CacheFlag = None,
    cache_folder: CacheFolderFlag = None,
    config: ConfigFlag = None,
    log_level: LogLevelFlag = None,
    log_format: LogFormatFlag = None,
    watch_stdin: WatchStdinFlag = False,
) -> None:
    """Run a node: loads the models, joins the coordinator, makes images until told to stop."""
    from argus.node.daemon import serve
    from argus.rpc.loop import run

    flags = {
        "node.coordinator": coordinator,
        "node.name": name,
        "node.models": model or None,
        "node.device": device,
        "node.dtype": dtype,
        "node.threads": threads,
        "node.nice": nice,
        "node.slots": slots,
        "node.max_lanes": max_lanes,
        **cache_settings(cache, cache_folder),
        "log.level": log_level,
        "log.format": log_format,
    }
    settings = configure(config, flags)
    setup_logging(settings.log, settings.node.name or "node")
    give_way(settings.node.nice)

    async def main(stop: asyncio.Event) -> None:
        if watch_stdin:
            end_with_parent(stop, settings.node.drain_grace_s + HARD_END_S)
        await serve(settings, stop)

    # A device that is not there is found out late.
    with naming_settings(flags), log_bugs():
        run(main)
