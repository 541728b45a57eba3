"""`argus cache`: look into the folder of cached states, tidy it up, and fill it."""

from __future__ import annotations

import json as json_module
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from argus.cli.ages import seconds_of
from argus.cli.settings import ConfigFlag, JsonFlag, configure
from argus.cli.warm import warm
from argus.errors import InvalidArgumentError

if TYPE_CHECKING:
    from argus.cache.ops import FolderStats

UNITS = ("B", "KiB", "MiB", "GiB")

app = typer.Typer(
    help="Look into the folder of cached states, tidy it up, and fill it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
)

FolderFlag = Annotated[
    Path | None,
    typer.Option("--folder", help="Where the states lie. Default: cache.folder of the settings."),
]


@app.command()
def stats(folder: FolderFlag = None, config: ConfigFlag = None, json: JsonFlag = False) -> None:
    """Show what each node's folder holds; nodes may be running."""
    # numpy comes along, for which no other command should wait.
    from argus.cache.ops import folder_stats

    found = folder_stats(_root(folder, config))
    if json:
        typer.echo(json_module.dumps([asdict(node) for node in found], indent=2))
        return
    for line in _described(found):
        typer.echo(line)


@app.command()
def verify(
    folder: FolderFlag = None,
    config: ConfigFlag = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Delete the files that are damaged.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Read every file and compare it with its checksums; exit 1 if damage is left."""
    from argus.cache.ops import verify_folder

    found = verify_folder(_root(folder, config), remove=remove)
    damaged = [{"file": str(path), "damage": what} for path, what in found.damaged]
    if json:
        answer: dict[str, Any] = {"good": found.good, "damaged": damaged, "removed": remove}
        typer.echo(json_module.dumps(answer, indent=2))
    else:
        for row in damaged:
            typer.echo(f"{row['file']}: {row['damage']}")
        what = "removed" if remove else "left"
        typer.echo(f"{found.good} good, {len(damaged)} damaged" + (f", {what}" if damaged else ""))
    if damaged and not remove:
        raise typer.Exit(1)


@app.command()
def purge(
    folder: FolderFlag = None,
    config: ConfigFlag = None,
    tenant: Annotated[
        str | None, typer.Option("--tenant", help="Only what rows of that tenant left.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="Only older entries: 90s, 30m, 12h or 7d.")
    ] = None,
    partition: Annotated[
        str | None, typer.Option("--partition", help="Only that partition, as `stats` names it.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything; needed where nothing is selected.")
    ] = False,
    json: JsonFlag = False,
) -> None:
    """Delete entries; all that is given must hold. Nodes may be running, and notice."""
    from argus.cache.ops import purge_folder
    from argus.cache.store import Selection

    before_s = None if older_than is None else time.time() - seconds_of(older_than, "--older-than")
    selection = Selection(tenant, partition, before_s)
    if everything != (selection == Selection()):
        raise InvalidArgumentError(
            "--all", "is for everything; give it or a selection, and not both"
        )
    gone = purge_folder(_root(folder, config), selection)
    typer.echo(json_module.dumps({"purged": gone}) if json else f"{gone} entries deleted")


app.command()(warm)


def _root(folder: Path | None, config: Path | None) -> Path:
    """Return the folder to work on.

    Raises:
        InvalidArgumentError: none is named, or there is none of that name.
    """
    named = str(folder) if folder else configure(config, {}).cache.folder
    if not named:
        raise InvalidArgumentError("--folder", "is needed, since cache.folder is not set")
    if not Path(named).is_dir():
        raise InvalidArgumentError("--folder" if folder else "cache.folder", f"no folder {named}")
    return Path(named)


def _size(nbytes: int) -> str:
    size, unit = float(nbytes), 0
    while size >= 1024 and unit + 1 < len(UNITS):
        size, unit = size / 1024, unit + 1
    return f"{size:.3g} {UNITS[unit]}" if unit else f"{nbytes} B"


def _described(found: tuple[FolderStats, ...]) -> list[str]:
    if not found:
        return ["nothing is cached"]
    lines = []
    for node in found:
        damage = f", {node.unreadable} files that cannot be read" if node.unreadable else ""
        lines.append(f"{node.node}: {node.entries} entries, {_size(node.nbytes)}{damage}")
        steps = ", ".join(f"{k}: {count}" for k, count in node.by_k.items())
        owners = ", ".join(f"{name or '(none)'}: {n}" for name, n in sorted(node.by_owner.items()))
        if node.entries:
            lines += [f"  states by step  {steps}", f"  by tenant  {owners}"]
        lines += [f"  partition {name}  {n}" for name, n in sorted(node.by_partition.items())]
    return lines
