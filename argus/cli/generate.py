"""`argus generate`: from a prompt to a picture in a file."""

from __future__ import annotations

import json as json_module
import sys
from collections.abc import Callable
from dataclasses import fields
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.output import STDOUT, choose_output
from argus.cli.settings import JsonFlag, ServerFlag
from argus.client import Event, Image, ImageResult, Queued, Started, Step, Warning
from argus.client.request import Options
from argus.errors import InvalidArgumentError
from argus.rpc.convert import parse_size


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    server: ServerFlag = DEFAULT_SERVER,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the noise; with -n the first of n seeds.")
    ] = None,
    size: Annotated[str | None, typer.Option(help="WIDTHxHEIGHT in pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Denoising steps, 1 to 1000.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale, 0 to 50.")] = None,
    negative_prompt: Annotated[str, typer.Option(help="What it should not show.")] = "",
    sampler: Annotated[str, typer.Option(help="Sampler by name.")] = "",
    variant: Annotated[str, typer.Option(help="Variant by name.")] = "",
    level: Annotated[str, typer.Option(help="Pin one level of the ladder.")] = "",
    deadline: Annotated[
        float | None, typer.Option(help="Seconds within which it must be there.")
    ] = None,
    min_quality: Annotated[
        float | None, typer.Option(help="Lowest acceptable relative quality, 0 to 1.")
    ] = None,
    format: Annotated[
        str | None, typer.Option(help="png, webp or jpeg. Default: by the file's extension.")
    ] = None,
    request_id: Annotated[
        str | None, typer.Option(help="Asking again with the same id finds the same picture.")
    ] = None,
    count: Annotated[
        int, typer.Option("-n", "--count", min=1, help="Pictures; files are numbered.")
    ] = 1,
    json: JsonFlag = False,
    output: Annotated[
        str,
        typer.Option("-o", "--output", help="File, or - for stdout. Default: argus-SEED.png."),
    ] = "",
) -> None:
    """Make a picture of PROMPT and save it.

    With --json, one line of JSON for each picture is printed.
    """
    destination = choose_output(output, format, count, json)
    options: Options = {
        "size": None if size is None else parse_size(size),
        "steps": steps,
        "guidance": guidance,
        "negative_prompt": negative_prompt,
        "sampler": sampler,
        "variant": variant,
        "level": level,
        "deadline_s": deadline,
        "min_quality": min_quality,
        "format": destination.format,
    }
    with connect(server) as client, _progress() as progress:
        for position in range(count):
            one = _for_position(options, seed, request_id, position, count)
            result = client.generate(prompt, on_event=_reporter(progress), **one)
            file = destination.write(result, position)
            if json:
                print(json_module.dumps(_described(result, file), ensure_ascii=False), flush=True)
            elif file != STDOUT:
                progress.console.print(_line(result, file), highlight=False, markup=False)


def _for_position(
    options: Options, seed: int | None, request_id: str | None, position: int, count: int
) -> Options:
    """Return the options of one of `count` pictures: its own seed and its own id."""
    if request_id == "":
        raise InvalidArgumentError("request_id", "must not be empty; leave it out for a new one")
    one: Options = {**options, "seed": None if seed is None else seed + position}
    if request_id is not None:
        one["request_id"] = request_id if count == 1 else f"{request_id}-{position + 1}"
    return one


def _progress() -> Progress:
    """Return a progress display on stderr; silent where that is not a terminal."""
    console = Console(stderr=True, soft_wrap=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TimeElapsedColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=True,
    )


def _reporter(progress: Progress) -> Callable[[Event], None]:
    """Return what shows the events of one request."""
    task = progress.add_task("waiting", total=1)

    def show(event: Event) -> None:
        match event:
            case Queued():
                progress.update(task, description=f"queued behind {event.ahead}")
            case Started():
                what = f"{event.level} on {event.node}"
                progress.update(task, description=what, total=event.steps, completed=0)
            case Step():
                progress.update(task, completed=event.step, total=event.steps)
            case Warning():
                print(f"argus: warning: {event.message} ({event.code})", file=sys.stderr)
            case Image():
                progress.remove_task(task)

    return show


def _described(result: ImageResult, file: str) -> dict[str, Any]:
    """Return everything about a picture but its bytes, ready for JSON."""
    described: dict[str, Any] = {
        field.name: getattr(result, field.name) for field in fields(result) if field.name != "data"
    }
    return {**described, "format": result.format.value, "file": file}


def _line(result: ImageResult, file: str) -> str:
    return (
        f"{file}: {result.width}x{result.height}, seed {result.seed}, level {result.level}, "
        f"{result.steps} steps on {result.node}, {result.total_s:.2f} s "
        f"(queued {result.queued_s:.2f} s)"
    )
