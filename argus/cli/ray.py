"""`argus ray`: node daemons on a Ray cluster; `argus up --ray` runs it beside the coordinator."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from argus.cli.coordinator import HARD_END_S
from argus.cli.devices import AUTO
from argus.cli.logs import log_bugs, setup_logging
from argus.cli.parent import end_with_parent
from argus.cli.settings import (
    AdvertiseFlag,
    CacheFlag,
    CacheFolderFlag,
    ConfigFlag,
    DtypeFlag,
    LogLevelFlag,
    MaxLanesFlag,
    ModelFlag,
    RayCpusFlag,
    RayFlag,
    SlotsFlag,
    ThreadsFlag,
    WatchStdinFlag,
    cache_settings,
    configure,
    naming_settings,
)
from argus.config import Config
from argus.errors import ConfigError, FailedPreconditionError, InvalidArgumentError

JOINED = "joined"


def ray(
    coordinator: Annotated[
        str | None,
        typer.Option("--coordinator", help="Where the coordinator listens, HOST:PORT."),
    ] = None,
    address: RayFlag = None,
    cpus: RayCpusFlag = None,
    advertise: AdvertiseFlag = None,
    nodes: Annotated[
        int | None,
        typer.Option("--nodes", min=1, help="Daemons to run. Default: as many as have room now."),
    ] = None,
    model: ModelFlag = None,
    dtype: DtypeFlag = None,
    threads: ThreadsFlag = None,
    slots: SlotsFlag = None,
    max_lanes: MaxLanesFlag = None,
    cache: CacheFlag = None,
    cache_folder: CacheFolderFlag = None,
    config: ConfigFlag = None,
    log_level: LogLevelFlag = None,
    watch_stdin: WatchStdinFlag = False,
) -> None:
    """Run node daemons as actors of a Ray cluster, which starts them again when they die.

    Prints `joined NAME NAME …` when all have joined. Each takes a GPU, or with --ray-cpus so many
    CPUs. Models, and the cache's folder, are read on Ray's nodes.
    """
    flags = {
        "node.coordinator": coordinator,
        "ray.address": address,
        "ray.cpus": cpus,
        "ray.advertise": advertise,
        "node.models": model or None,
        "node.dtype": dtype,
        "node.threads": threads,
        "node.slots": slots,
        "node.max_lanes": max_lanes,
        **cache_settings(cache, cache_folder),
        "log.level": log_level,
    }
    settings = configure(config, flags)
    if not settings.ray.address:
        raise InvalidArgumentError("ray.address", "is needed, or --ray")
    check_ray(settings, flags)
    setup_logging(settings.log, "ray")
    # Of lines that several daemons say Ray would show one. It reads this when it is imported.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    from argus.ray.crew import ray_cluster, run_crew
    from argus.rpc.loop import run

    said, sys.stdout = sys.stdout, sys.stderr  # what daemons print Ray prints here

    def tell(names: list[str]) -> None:
        print(JOINED, *names, file=said, flush=True)

    async def main(stop: asyncio.Event) -> None:
        if watch_stdin:
            end_with_parent(stop, settings.node.drain_grace_s + HARD_END_S)
        await run_crew(settings, nodes, setup_logging, stop, tell)

    with naming_settings(flags), log_bugs(), ray_cluster(settings.ray.address):
        run(main)


def check_ray(settings: Config, flags: Mapping[str, Any]) -> None:
    """Raise where daemons cannot run on Ray with these settings.

    Raises:
        InvalidArgumentError: names the setting that is wrong, or the flag that set it.
        FailedPreconditionError: Ray is not installed.
    """
    from argus.ray.ground import check_cluster_address

    with naming_settings(flags):
        check_cluster_address(settings.ray.address)
        if settings.node.device != AUTO:
            raise ConfigError(
                "node.device: is Ray's to choose; daemons on N CPUs each instead of a GPU are "
                "asked for with --ray-cpus N"
            )
        if settings.node.nice:
            raise ConfigError("node.nice: is not for daemons on Ray, whose processes are its own")
        for folder in settings.node.models:
            if not Path(folder).is_absolute():
                raise ConfigError(
                    f"node.models: must be absolute, since Ray's nodes read it, not {folder!r}"
                )
    if find_spec("ray") is None:
        raise FailedPreconditionError("Ray is not installed: pip install 'argus-serve[ray]'")
