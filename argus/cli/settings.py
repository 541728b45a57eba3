"""Flags that several commands share, and the configuration they lead to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from argus.cli.complete import among, policies
from argus.config import Config, load_config
from argus.errors import ConfigError, InvalidArgumentError
from argus.rpc.address import parse_address, parse_addresses
from argus.types import OFF

DEFAULTS = Config()
UP_NICE = 10

ServerFlag = Annotated[
    str,
    typer.Option("--server", help="Coordinator, HOST:PORT, or several with commas between."),
]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
ConfigFlag = Annotated[
    Path | None,
    typer.Option("--config", help="TOML file with settings; flags win over it. Default: none."),
]
BindFlag = Annotated[
    str | None,
    typer.Option(
        "--bind",
        help="Where to listen, HOST:PORT; port 0: any free one. "
        f"Default: {DEFAULTS.coordinator.bind}.",
    ),
]
LevelsFlag = Annotated[
    str | None,
    typer.Option("--levels", help="Level file (JSON). Default: the bundled family's, if served."),
]
PolicyFlag = Annotated[
    str | None,
    typer.Option(
        "--policy",
        help="What decides on level, node and order; docs/control.md has the names. "
        f"Default: {DEFAULTS.coordinator.policy}.",
        autocompletion=policies,
    ),
]
StateFileFlag = Annotated[
    Path | None,
    typer.Option(
        "--state-file",
        help="Where limits and what was learned outlive a restart. Default: nowhere.",
    ),
]
ModelFlag = Annotated[
    list[str] | None,
    typer.Option("--model", help="Diffusers folder to serve; may be repeated. Default: bundled."),
]
DeviceFlag = Annotated[
    str | None,
    typer.Option(
        "--device",
        help=f"cpu, cuda, cuda:N or auto. Default: {DEFAULTS.node.device}.",
        autocompletion=among("cpu", "cuda", "auto"),
    ),
]
DtypeFlag = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        help=f"float32, float16, bfloat16 or auto. Default: {DEFAULTS.node.dtype}.",
        autocompletion=among("float32", "float16", "bfloat16", "auto"),
    ),
]
ThreadsFlag = Annotated[
    int | None,
    typer.Option(
        "--threads",
        help="Compute threads on the CPU. Default: torch's choice; of `argus up`, a share of the "
        "cores.",
    ),
]
NiceFlag = Annotated[
    int | None,
    typer.Option(
        "--nice",
        help="Niceness, 0 to 19: other processes of the machine come before the node. Default: 0; "
        f"of `argus up`, {UP_NICE} on the CPU, so that requests are answered while it computes.",
    ),
]
SlotsFlag = Annotated[
    int | None,
    typer.Option("--slots", help=f"Rows a node can hold at once. Default: {DEFAULTS.node.slots}."),
]
MaxLanesFlag = Annotated[
    int | None,
    typer.Option(
        "--max-lanes",
        help=f"Lanes of the widest forward, at least 2. Default: {DEFAULTS.node.max_lanes}.",
    ),
]
CacheFlag = Annotated[
    str | None,
    typer.Option(
        "--cache",
        help="States of earlier prompts are used: off, deadline (for requests with one) or "
        f"always. Default: {DEFAULTS.cache.mode}.",
        autocompletion=among("off", "deadline", "always"),
    ),
]
CacheFolderFlag = Annotated[
    Path | None,
    typer.Option("--cache-folder", help="Where those states are kept. Default: in memory."),
]
LogLevelFlag = Annotated[
    str | None,
    typer.Option(
        "--log-level",
        help=f"debug, info, warning or error. Default: {DEFAULTS.log.level}.",
        autocompletion=among("debug", "info", "warning", "error"),
    ),
]
LogFormatFlag = Annotated[
    str | None,
    typer.Option(
        "--log-format",
        help=f"text, or json for one object a line. Default: {DEFAULTS.log.format}.",
        autocompletion=among("text", "json"),
    ),
]
InsecureFlag = Annotated[
    bool | None,
    typer.Option(
        "--insecure",
        help="Let other machines in without TLS and keys; for networks where all are trusted.",
        show_default=False,
    ),
]
TlsCaFlag = Annotated[
    Path | None,
    typer.Option(
        "--tls-ca",
        help="Trust the certificates of this PEM file, and speak TLS. Default: tls.ca of the "
        "settings, else no TLS.",
    ),
]
KeyFileFlag = Annotated[
    Path | None,
    typer.Option(
        "--api-key-file",
        help="File that holds the API key to show. Default: ARGUS_AUTH_API_KEY, or none.",
    ),
]
HttpFlag = Annotated[
    str | None,
    typer.Option(
        "--http",
        help="Where the HTTP gateway listens, HOST:PORT; off: nowhere. Default: 127.0.0.1:7421, "
        "or the next free port.",
    ),
]
MetricsFlag = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        help="Where /metrics of the coordinator is, HOST:PORT; off: nowhere. Default: "
        "127.0.0.1:7422, or the next free port.",
    ),
]
RayFlag = Annotated[
    str | None,
    typer.Option(
        "--ray",
        help="Run node daemons on this Ray cluster: auto, HOST:PORT or ray://HOST:PORT.",
    ),
]
RayCpusFlag = Annotated[
    int | None,
    typer.Option(
        "--ray-cpus", min=1, help="CPUs that each daemon on Ray takes. Default: it takes a GPU."
    ),
]
AdvertiseFlag = Annotated[
    str | None,
    typer.Option(
        "--advertise",
        help="HOST or HOST:PORT at which Ray's nodes reach the coordinator. Default: where it "
        "listens.",
    ),
]
WatchStdinFlag = Annotated[
    bool,
    typer.Option("--watch-stdin", hidden=True, help="End when stdin closes: the parent is gone."),
]

ODD_FLAGS = {
    "log.level": "--log-level",
    "log.format": "--log-format",
    "node.models": "--model",
    "cache.mode": "--cache",
    "cache.folder": "--cache-folder",
    "tls.ca": "--tls-ca",
    "auth.api_key_file": "--api-key-file",
    "gateway.bind": "--http",
    "ray.address": "--ray",
    "ray.cpus": "--ray-cpus",
}
"""Flags that are not named after their setting."""


def configure(file: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the configuration: defaults < `file` < ARGUS_* variables < `flags` that are not None.

    Raises:
        InvalidArgumentError: names the setting that is wrong, or the flag that set it.
    """
    with naming_settings(flags):
        config = load_config(file, None, flags)
        parse_address(config.coordinator.bind, "coordinator.bind")
        parse_addresses(config.node.coordinator, "node.coordinator")
        parse_addresses(config.gateway.coordinator, "gateway.coordinator")
        for setting, bind in (
            ("gateway.bind", config.gateway.bind),
            ("coordinator.metrics", config.coordinator.metrics),
            ("node.metrics", config.node.metrics),
        ):
            if bind not in ("", OFF):
                parse_address(bind, setting)
    return config


def cache_settings(mode: str | None, folder: Path | None) -> dict[str, str | None]:
    """Return what the flags of the cache set."""
    return {
        "cache.mode": mode,
        "cache.folder": absolute(folder),
    }


def absolute(path: Path | None) -> str | None:
    """Return what a path from the command line means wherever a daemon runs."""
    return None if path is None else str(path.resolve())


def dialling_settings(tls_ca: Path | None, api_key_file: Path | None) -> dict[str, str | None]:
    """Return what the flags of dialling set."""
    return {
        "tls.ca": absolute(tls_ca),
        "auth.api_key_file": absolute(api_key_file),
    }


@contextmanager
def naming_settings(flags: Mapping[str, Any]) -> Iterator[None]:
    """Let a bad setting leave as a bad argument, under the name of the flag that set it."""
    try:
        yield
    except ConfigError as error:
        setting, _, description = str(error).partition(": ")
        by_flag = flags.get(setting) is not None
        raise InvalidArgumentError(_flag(setting) if by_flag else setting, description) from error


def _flag(setting: str) -> str:
    field = setting.rpartition(".")[2].replace("_", "-")
    return ODD_FLAGS.get(setting, f"--{field}")
