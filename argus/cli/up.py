"""`argus up`: a coordinator and its nodes on this machine, in the foreground."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from argus.cli.devices import deal, is_processor
from argus.cli.logs import log_bugs, setup_logging
from argus.cli.ports import check_free
from argus.cli.ray import check_ray
from argus.cli.settings import (
    UP_NICE,
    AdvertiseFlag,
    BindFlag,
    CacheFlag,
    CacheFolderFlag,
    ConfigFlag,
    DtypeFlag,
    HttpFlag,
    InsecureFlag,
    LevelsFlag,
    LogFormatFlag,
    LogLevelFlag,
    MaxLanesFlag,
    MetricsFlag,
    ModelFlag,
    NiceFlag,
    PolicyFlag,
    RayCpusFlag,
    RayFlag,
    SlotsFlag,
    StateFileFlag,
    ThreadsFlag,
    absolute,
    cache_settings,
    configure,
)
from argus.config import Config
from argus.errors import InvalidArgumentError
from argus.types import OFF

DEVICE_HELP = (
    "cpu, cuda, cuda:N or auto; several, separated by commas, are dealt to the nodes; auto deals "
    "the GPUs there are."
)


def up(
    nodes: Annotated[
        int | None,
        typer.Option(
            "--nodes",
            min=1,
            help="Node daemons to run. Default: 1; with --ray as many as it has room for.",
        ),
    ] = None,
    bind: BindFlag = None,
    http: HttpFlag = None,
    metrics: MetricsFlag = None,
    model: ModelFlag = None,
    levels: LevelsFlag = None,
    insecure: InsecureFlag = None,
    policy: PolicyFlag = None,
    state_file: StateFileFlag = None,
    device: Annotated[str | None, typer.Option("--device", help=DEVICE_HELP)] = None,
    dtype: DtypeFlag = None,
    threads: ThreadsFlag = None,
    nice: NiceFlag = None,
    slots: SlotsFlag = None,
    max_lanes: MaxLanesFlag = None,
    cache: CacheFlag = None,
    cache_folder: CacheFolderFlag = None,
    ray: RayFlag = None,
    ray_cpus: RayCpusFlag = None,
    advertise: AdvertiseFlag = None,
    config: ConfigFlag = None,
    log_level: LogLevelFlag = None,
    log_format: LogFormatFlag = None,
) -> None:
    """Run a coordinator, nodes and a gateway for HTTP.

    Prints `ready HOST:PORT` when the first request can be served, and `http HOST:PORT`, where the
    dashboard and the HTTP interface are.

    Ends everything in good order on SIGTERM or Ctrl-C. A node that dies is started again,
    one that was drained is not.
    """
    from argus.cli.family import FamilyPlan, run_family
    from argus.rpc.dial import dialling
    from argus.rpc.loop import run

    flags = {
        "coordinator.bind": bind,
        "coordinator.levels": levels,
        "coordinator.insecure": insecure,
        "gateway.insecure": insecure,
        "coordinator.policy": policy,
        "coordinator.metrics": metrics,
        "coordinator.state_file": absolute(state_file),
        "gateway.bind": http,
        "node.models": model or None,
        "node.device": device,
        "node.dtype": dtype,
        "node.threads": threads,
        "node.nice": nice,
        "node.slots": slots,
        "node.max_lanes": max_lanes,
        **cache_settings(cache, cache_folder),
        "ray.address": ray,
        "ray.cpus": ray_cpus,
        "ray.advertise": advertise,
        "log.level": log_level,
        "log.format": log_format,
    }
    settings = configure(config, flags)
    if settings.ray.address:
        check_ray(settings, flags)
    elif ray_cpus is not None or advertise is not None:
        raise InvalidArgumentError(
            "--advertise" if ray_cpus is None else "--ray-cpus", "needs --ray"
        )
    if settings.tls.certificate and not settings.tls.ca:
        raise InvalidArgumentError("tls.ca", "is needed: nodes must trust tls.certificate")
    setup_logging(settings.log, "up")
    # The children would find out as well, each in its own words, and `up` once more.
    check_free("coordinator.bind", settings.coordinator.bind)
    check_free("gateway.bind", settings.gateway.bind)
    check_free("coordinator.metrics", settings.coordinator.metrics)
    trusting = ("--insecure",) if insecure else ()
    common = _shared_arguments(config, log_level, log_format)
    shared = (
        *common,
        *_optional("--cache", cache),
        *_optional("--cache-folder", absolute(cache_folder)),
    )
    local, elsewhere = {}, None
    if settings.ray.address:
        elsewhere = (
            *shared,
            *_models(model),
            *_given({"--ray": ray, "--ray-cpus": ray_cpus, "--advertise": advertise}),
            *_given({"--nodes": nodes, "--dtype": dtype, "--threads": threads}),
            *_given({"--slots": slots, "--max-lanes": max_lanes}),
        )
    else:
        devices = deal(settings.node.device, nodes or 1)
        local = {
            f"node-{i}": (
                *shared,
                *node_arguments(settings, model, threads, nice, len(devices), device),
            )
            for i, device in enumerate(devices)
        }
    plan = FamilyPlan(
        bind=settings.coordinator.bind,
        coordinator=(
            *shared,
            *_optional("--levels", levels),
            *trusting,
            *_optional("--policy", policy),
            *_optional("--state-file", absolute(state_file)),
            *_optional("--metrics", metrics),
        ),
        nodes=local,
        grace_s=max(settings.coordinator.drain_grace_s, settings.node.drain_grace_s),
        dialling=dialling(settings.tls, settings.auth),
        gateway=None
        if settings.gateway.bind == OFF
        else (*common, *_optional("--http", http), *trusting),
        ray=elsewhere,
    )
    with log_bugs():
        run(lambda stop: run_family(plan, stop, _say("ready"), _say("http")))


def _say(word: str) -> Callable[[str], None]:
    return lambda address: print(word, address, flush=True)


def _shared_arguments(
    config: Path | None, log_level: str | None, log_format: str | None
) -> tuple[str, ...]:
    return (
        *_optional("--config", absolute(config)),
        *_optional("--log-level", log_level),
        *_optional("--log-format", log_format),
    )


def node_arguments(
    settings: Config,
    model: list[str] | None,
    threads: int | None,
    nice: int | None,
    nodes: int,
    device: str,
) -> tuple[str, ...]:
    """Return the arguments of one of `nodes` nodes, which runs on `device`."""
    node = settings.node
    if threads is None and node.threads == 0 and not device.startswith("cuda"):
        threads = max(1, usable_cores() // nodes)
    niceness = node.nice
    if nice is None and not niceness and is_processor(device):
        niceness = UP_NICE
    return (
        *_models(model),
        *("--nice", str(niceness)),
        *("--device", device, "--dtype", node.dtype),
        *("--threads", str(node.threads if threads is None else threads)),
        *("--slots", str(node.slots), "--max-lanes", str(node.max_lanes)),
    )


def _models(folders: list[str] | None) -> tuple[str, ...]:
    return tuple(argument for folder in folders or () for argument in ("--model", folder))


def _given(flags: Mapping[str, str | int | None]) -> tuple[str, ...]:
    given = {flag: value for flag, value in flags.items() if value is not None}
    return tuple(part for flag, value in given.items() for part in (flag, str(value)))


def usable_cores() -> int:
    """Return the number of cores this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _optional(flag: str, value: str | None) -> tuple[str, ...]:
    return () if value is None else (flag, value)
