"""Flags that several commands share, and the configuration they lead to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from argus.config import Config, load_config

ServerFlag = Annotated[str, typer.Option("--server", help="Coordinator, HOST:PORT.")]
JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]
ConfigFlag = Annotated[
    Path | None, typer.Option("--config", help="TOML file with settings; flags win over it.")
]
BindFlag = Annotated[
    str | None, typer.Option("--bind", help="Where to listen, HOST:PORT; port 0: any free one.")
]
LevelsFlag = Annotated[str | None, typer.Option("--levels", help="Level file (JSON).")]
ModelFlag = Annotated[
    list[str] | None,
    typer.Option("--model", help="Diffusers folder to serve; may be repeated. Default: bundled."),
]
DeviceFlag = Annotated[str | None, typer.Option("--device", help="cpu, cuda, cuda:N or auto.")]
DtypeFlag = Annotated[
    str | None, typer.Option("--dtype", help="float32, float16, bfloat16 or auto.")
]
ThreadsFlag = Annotated[
    int | None, typer.Option("--threads", help="Compute threads on the CPU; 0: torch's choice.")
]
SlotsFlag = Annotated[int | None, typer.Option("--slots", help="Rows a node can hold at once.")]
MaxLanesFlag = Annotated[
    int | None, typer.Option("--max-lanes", help="Lanes of the widest forward, at least 2.")
]
LogLevelFlag = Annotated[
    str | None, typer.Option("--log-level", help="debug, info, warning or error.")
]
WatchStdinFlag = Annotated[
    bool,
    typer.Option("--watch-stdin", hidden=True, help="End when stdin closes: the parent is gone."),
]


def configure(file: Path | None, flags: Mapping[str, Any]) -> Config:
    """Return the configuration: defaults < `file` < ARGUS_* variables < `flags` that are not None.

    Raises:
        ConfigError: names the setting that is wrong.
    """
    return load_config(file, None, flags)
