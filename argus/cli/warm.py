"""`argus cache warm`: have prompts drawn ahead of time, for others to start from their states."""

from __future__ import annotations

import json as json_module
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.flags import naming_flags
from argus.cli.settings import JsonFlag, KeyFileFlag, ServerFlag, TlsCaFlag
from argus.client import Client, Options
from argus.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from argus.rpc.convert import parse_size


def warm(
    prompts: Annotated[Path, typer.Option("--prompts", help="Text file, one prompt a line.")],
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    variant: Annotated[
        str, typer.Option(help="Variant to draw with. Default: that of the reference level.")
    ] = "",
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels. Default: the variant's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps. Default: the variant's own.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale. Default: the variant's own.")
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Whose entries they will be. Default: nobody's.")
    ] = "",
    concurrency: Annotated[
        int, typer.Option(min=1, max=256, help="Prompts that are in flight at once.")
    ] = 8,
    json: JsonFlag = False,
) -> None:
    """Draw every prompt of a file whole, so that its states are kept; the pictures are dropped.

    States serve requests of the same variant, size, steps and guidance class. What is cached
    already is drawn, too, and changes nothing. Stopped midway, what was drawn stays cached.
    """
    wanted = _read(prompts)
    console = Console(stderr=True)
    bar = Progress(
        BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console,
        disable=not console.is_terminal, transient=True,
    )  # fmt: skip
    with connect(server, tls_ca, api_key_file) as client, naming_flags(), bar:
        options: Options = {
            "level": _whole_level(client, variant),
            "size": None if size is None else parse_size(size),
            "steps": steps,
            "guidance": guidance,
            "tenant": tenant,
        }
        before = client.status().cache.entries
        task = bar.add_task("", total=len(wanted))
        pictures = client.map(wanted, concurrency=concurrency, ordered=False, **options)
        with closing(pictures):
            for _ in pictures:
                bar.advance(task)
        entries = client.status().cache.entries
    if json:
        answer = {"drawn": len(wanted), "entries_before": before, "entries": entries}
        typer.echo(json_module.dumps(answer))
        return
    typer.echo(f"{len(wanted)} prompts drawn; {entries} entries in the cache, {before} before")


def _read(path: Path) -> list[str]:
    """Return the prompts of a file, each once.

    Raises:
        InvalidArgumentError: it cannot be read, or has none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgumentError("--prompts", f"cannot read {path}: {error}") from error
    prompts = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not prompts:
        raise InvalidArgumentError("--prompts", f"{path} has no prompt in it")
    return prompts


def _whole_level(client: Client, variant: str) -> str:
    """Return the level at which a variant runs every step, whatever is cached.

    Raises:
        NotFoundError: there is no such variant.
        FailedPreconditionError: no level continues its states, or the cache is off.
    """
    status = client.status()
    levels = [level for level in status.levels if variant in ("", level.variant)]
    if not levels:
        raise NotFoundError("variant", variant, dict.fromkeys(x.variant for x in status.levels))
    own = [level for level in levels if level.variant == levels[0].variant]
    whole = [x for x in own if x.steps_fraction == 1.0 and not x.skip_fraction]
    if not status.HasField("cache") or not whole or not any(x.skip_fraction for x in own):
        raise FailedPreconditionError(
            f"states of {levels[0].variant} are not kept there: the cache is off, or no level of "
            "the level file skips steps"
        )
    return whole[0].name
