"""`argus generate`: from a prompt to a picture in a file."""

from __future__ import annotations

import json as json_module
from collections.abc import Generator
from contextlib import closing
from dataclasses import fields
from itertools import repeat
from typing import Annotated, Any

import typer

from argus.cli.complete import among
from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.flags import naming_flags
from argus.cli.output import STDOUT, choose_output
from argus.cli.previews import Previews, choose_previews
from argus.cli.progress import Bars
from argus.cli.settings import JsonFlag, KeyFileFlag, ServerFlag, TlsCaFlag
from argus.client import Client, Event, ImageResult, Options
from argus.client.series import Series, plan_series
from argus.rpc.convert import parse_size

MOST_AT_A_TIME = 8


def generate(
    prompt: Annotated[str, typer.Argument(help="What the picture shows.")],
    server: ServerFlag = DEFAULT_SERVER,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the noise; with -n the first of n. Default: drawn, and shown."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="WIDTHxHEIGHT in pixels. Default: the variant's own.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Denoising steps, 1 to 1000. Default: the variant's own.")
    ] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Guidance scale, 0 to 50. Default: the variant's own.")
    ] = None,
    negative_prompt: Annotated[
        str, typer.Option(help="What it should not show. Default: nothing.")
    ] = "",
    sampler: Annotated[
        str,
        typer.Option(
            help="Sampler by name; `argus status --json` lists all. Default: the variant's."
        ),
    ] = "",
    variant: Annotated[
        str,
        typer.Option(help="Variant by name; `argus status` lists them. Default: the best level's."),
    ] = "",
    level: Annotated[
        str,
        typer.Option(help="Pin one level; `argus status` lists them. Default: Argus chooses."),
    ] = "",
    deadline: Annotated[
        float | None, typer.Option(help="Seconds within which it must be there. Default: none.")
    ] = None,
    min_quality: Annotated[
        float | None,
        typer.Option(help="Lowest acceptable relative quality, 0 to 1. Default: any."),
    ] = None,
    format: Annotated[
        str | None,
        typer.Option(
            help="png, webp or jpeg. Default: by the file's extension, else png.",
            autocompletion=among("png", "webp", "jpeg"),
        ),
    ] = None,
    request_id: Annotated[
        str | None,
        typer.Option(help="Asking again with the same id finds the same picture. Default: made."),
    ] = None,
    tenant: Annotated[
        str, typer.Option(help="Whom it is for; cached states are never shared. Default: nobody.")
    ] = "",
    eta: Annotated[
        float, typer.Option(help="Fresh noise in each step of sampler ddim, 0 to 1.")
    ] = 0.0,
    guidance_rescale: Annotated[
        float, typer.Option(help="Against overexposure by high guidance, 0 to 1.")
    ] = 0.0,
    true_guidance: Annotated[
        float,
        typer.Option(help="Guidance beside that embedded in the weights (FLUX), 0 to 50."),
    ] = 1.0,
    preview_every: Annotated[
        int, typer.Option(help="Save the unfinished picture every so many steps; 0: never.")
    ] = 0,
    preview_dir: Annotated[str, typer.Option(help="Folder for previews, ID-STEP.jpg each.")] = ".",
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

    With --json, one line of JSON for each picture is printed, in the order of their numbers.
    """
    with naming_flags():
        destination = choose_output(output, format, count, json)
        previews = choose_previews(preview_every, preview_dir)
        series = plan_series(seed, request_id, count)
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
            "tenant": tenant,
            "eta": eta,
            "guidance_rescale": guidance_rescale,
            "true_guidance": true_guidance,
            "preview_every": preview_every,
        }
    with (
        connect(server, tls_ca, api_key_file) as client,
        Bars() as bars,
        closing(_pictures(client, prompt, series, options, bars, previews)) as pictures,
    ):
        for position, result in enumerate(pictures):
            file = destination.write(result, position)
            if json:
                print(json_module.dumps(_described(result, file), ensure_ascii=False), flush=True)
            elif file != STDOUT:
                bars.print(_line(result, file))


def _pictures(
    client: Client,
    prompt: str,
    series: Series,
    options: Options,
    bars: Bars,
    previews: Previews,
) -> Generator[ImageResult, None, None]:
    """Iterate over the pictures of a series in order; several are made at a time."""

    def each(position: int) -> Options:
        bars.begin(series.id_of(position))
        return series.options(position)

    def on_event(event: Event) -> None:
        bars.show(event)
        previews.keep(event)

    pictures = client.map(
        repeat(prompt, series.count),
        concurrency=min(series.count, MOST_AT_A_TIME),
        each=each,
        on_event=on_event,
        **options,
    )
    with series.in_whole():
        yield from pictures


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
