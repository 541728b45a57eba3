"""`argus coordinator`: the process that clients and nodes dial."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from argus.cli.logs import log_bugs, setup_logging
from argus.cli.parent import end_with_parent
from argus.cli.ports import check_free
from argus.cli.settings import (
    BindFlag,
    CacheFlag,
    CacheFolderFlag,
    ConfigFlag,
    InsecureFlag,
    LevelsFlag,
    LogFormatFlag,
    LogLevelFlag,
    MetricsFlag,
    PolicyFlag,
    StateFileFlag,
    WatchStdinFlag,
    absolute,
    cache_settings,
    configure,
)

LISTENING = "listening"
HARD_END_S = 10.0
"""What an orderly end may take beyond the drain grace."""


def coordinator(
    bind: BindFlag = None,
    levels: LevelsFlag = None,
    insecure: InsecureFlag = None,
    policy: PolicyFlag = None,
    metrics: MetricsFlag = None,
    standby: Annotated[
        bool | None,
        typer.Option(
            "--standby",
            help="Lead only while no other coordinator does; standby.postgres says where that is "
            "settled.",
            show_default=False,
        ),
    ] = None,
    state_file: StateFileFlag = None,
    cache: CacheFlag = None,
    cache_folder: CacheFolderFlag = None,
    config: ConfigFlag = None,
    log_level: LogLevelFlag = None,
    log_format: LogFormatFlag = None,
    watch_stdin: WatchStdinFlag = False,
) -> None:
    """Run the coordinator; prints `listening HOST:PORT` when nodes and clients may come.

    With --standby that is before it leads: until then it refuses them, and they ask the leader.
    """
    from argus.coordinator.serving import serve
    from argus.rpc.loop import run

    settings = configure(
        config,
        {
            "coordinator.bind": bind,
            "coordinator.levels": levels,
            "coordinator.insecure": insecure,
            "coordinator.policy": policy,
            "coordinator.metrics": metrics,
            "coordinator.standby": standby,
            "coordinator.state_file": absolute(state_file),
            **cache_settings(cache, cache_folder),
            "log.level": log_level,
            "log.format": log_format,
        },
    )
    setup_logging(settings.log, "coordinator")
    check_free("coordinator.bind", settings.coordinator.bind)
    check_free("coordinator.metrics", settings.coordinator.metrics)

    async def main(stop: asyncio.Event) -> None:
        if watch_stdin:
            end_with_parent(stop, settings.coordinator.drain_grace_s + HARD_END_S)
        await serve(settings, stop, lambda address: print(LISTENING, address, flush=True))

    with log_bugs():
        run(main)
