"""`argus doctor`: what would keep Argus from working here, before it does."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from argus.cli.connect import connect
from argus.cli.settings import (
    CacheFlag,
    CacheFolderFlag,
    ConfigFlag,
    DeviceFlag,
    DtypeFlag,
    JsonFlag,
    KeyFileFlag,
    ModelFlag,
    TlsCaFlag,
    cache_settings,
    configure,
)
from argus.config import Config, load_config
from argus.doctor.findings import Finding, Verdict, failed
from argus.errors import ArgusError, ConfigError

WIDEST = max(len(verdict.value) for verdict in Verdict)


def doctor(
    config: ConfigFlag = None,
    model: ModelFlag = None,
    device: DeviceFlag = None,
    dtype: DtypeFlag = None,
    cache: CacheFlag = None,
    cache_folder: CacheFolderFlag = None,
    server: Annotated[
        str | None,
        typer.Option("--server", help="Coordinator that should be there, HOST:PORT. Default: any."),
    ] = None,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: JsonFlag = False,
) -> None:
    """Check what would keep Argus from working here.

    Versions, devices, models, settings, ports, clocks and room on disk: one line a check, with what
    to do where something is wrong. Exit code 1 when a check failed; warnings do not count.
    """
    flags = {
        "node.models": model or None,
        "node.device": device,
        "node.dtype": dtype,
        **cache_settings(cache, cache_folder),
    }
    dial = None if server is None else (server, tls_ca, api_key_file)
    findings = []
    for finding in examine(config, flags, dial):
        findings.append(finding)
        if not json:
            typer.echo(line_of(finding))
    well = all(finding.verdict is not Verdict.FAILED for finding in findings)
    if json:
        checks = [{**asdict(f), "verdict": f.verdict.value} for f in findings]
        typer.echo(json_module.dumps({"ok": well, "checks": checks}, indent=2, ensure_ascii=False))
    if not well:
        raise typer.Exit(1)


def line_of(finding: Finding) -> str:
    """Return a finding for people."""
    remedy = f"; {finding.remedy}" if finding.remedy else ""
    return f"{finding.verdict.value:{WIDEST}}  {finding.check}: {finding.message}{remedy}"


def examine(
    file: Path | None,
    flags: Mapping[str, Any],
    dial: tuple[str, Path | None, Path | None] | None,
) -> Iterator[Finding]:
    """Iterate over what all checks find, the quick ones first.

    Args:
        file: of settings, or None.
        flags: that win over it.
        dial: a coordinator's address, whom to trust, and the file of the key to show; or None.
    """
    from argus.doctor.clocks import check_monotonic
    from argus.doctor.places import check_limits, check_places
    from argus.doctor.ports import check_ports
    from argus.doctor.settings import check_files, check_sources
    from argus.doctor.traces import check_tracing
    from argus.doctor.versions import check_versions

    yield from _guarded("packages", check_versions)
    settings, error = _settings(file, flags)
    yield check_sources(file, error)
    yield from _guarded("files", lambda: check_files(settings))
    yield from _guarded("port", lambda: check_ports(settings))
    yield from _guarded("clock", lambda: [check_monotonic()])
    yield from _guarded("cache", lambda: check_places(settings.cache, settings.quality))
    yield from _guarded("limits", lambda: [check_limits()])
    yield from _guarded("tracing", lambda: [check_tracing(settings.tracing)])
    if dial is not None:
        yield from _guarded("coordinator", lambda: _coordinator(*dial))
    yield from _guarded("device", lambda: _devices_and_models(settings))


def _settings(file: Path | None, flags: Mapping[str, Any]) -> tuple[Config, ArgusError | None]:
    """Return the settings, or those that are left without what is wrong, and what that is."""
    try:
        return configure(file, flags), None
    except ArgusError as error:
        try:
            return load_config(None, {}, flags), error
        except ConfigError:
            return Config(), error


def _coordinator(server: str, tls_ca: Path | None, api_key_file: Path | None) -> Iterator[Finding]:
    from argus.doctor.cluster import check_coordinator

    with connect(server, tls_ca, api_key_file) as client:
        yield from check_coordinator(client)


def _devices_and_models(settings: Config) -> Iterator[Finding]:
    # Torch and diffusers take seconds to import; everything else has been said by then.
    from argus.doctor.devices import check_attention, check_device
    from argus.doctor.models import check_models

    findings, device = check_device(settings.node)
    yield from findings
    if device is not None:
        yield from _guarded("attention", lambda: [check_attention(device)])
    itemsize = 4 if device is None else device.dtype.itemsize
    on_cuda = device is not None and device.device.type == "cuda"
    memory = device.memory_bytes if device is not None and on_cuda else None
    yield from check_models(settings.node, itemsize, memory)


def _guarded(name: str, check: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Let a check that fails itself be a finding, and the others go on."""
    try:
        yield from check()
    except ArgusError as error:
        yield failed(name, str(error), "correct what it names")
    except Exception as error:
        said = " ".join(str(error).split()) or "no reason given"
        yield failed(name, f"could not be checked: {type(error).__name__}: {said}", "report this")
