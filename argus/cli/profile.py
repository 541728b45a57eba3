"""`argus profile`: what models cost on this device, and what levels do to prompts, measured."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from argus.cli.flags import naming_flags
from argus.cli.output import check_file, refusal
from argus.cli.profile_prompts import (
    ClipFlag,
    CostsFlag,
    NeighboursFlag,
    NodesFlag,
    PromptsFlag,
    PromptsPlan,
    RepeatsFlag,
    ScorersFlag,
    SkipsFlag,
    TestRepeatsFlag,
    WorkFlag,
    profile_prompts,
)
from argus.cli.settings import (
    ConfigFlag,
    DeviceFlag,
    DtypeFlag,
    LevelsFlag,
    MaxLanesFlag,
    ModelFlag,
    ThreadsFlag,
    configure,
    naming_settings,
)
from argus.errors import InvalidArgumentError
from argus.rpc.convert import parse_size

OUT = "--out"
SIZES = "--sizes"


def profile(
    model: ModelFlag = None,
    device: DeviceFlag = None,
    dtype: DtypeFlag = None,
    threads: ThreadsFlag = None,
    max_lanes: MaxLanesFlag = None,
    sizes: Annotated[
        str,
        typer.Option(
            SIZES, help="Sizes beside each model's own, WIDTHxHEIGHT,… in pixels. Default: none."
        ),
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option(OUT, help="File to write costs to; with --prompts a folder for everything."),
    ] = None,
    prompts: PromptsFlag = None,
    neighbours: NeighboursFlag = None,
    levels: LevelsFlag = None,
    skips: SkipsFlag = "",
    nodes: NodesFlag = 1,
    repeats: RepeatsFlag = 1,
    test_repeats: TestRepeatsFlag = None,
    scorers: ScorersFlag = "",
    clip: ClipFlag = None,
    costs: CostsFlag = None,
    work: WorkFlag = None,
    json: Annotated[bool, typer.Option("--json", help="Print the profile on stdout.")] = False,
    config: ConfigFlag = None,
) -> None:
    """Measure what models cost here: seconds and bytes by lanes and size, as JSON.

    With --prompts also what every level does to each prompt, by pictures made through a cluster of
    its own: the folder then holds costs, scores, a summary and a report. A run that was stopped
    goes on where it ended.

    Needs the device to itself, and minutes for large models. docs/profile.md describes the files.
    """
    flags = {
        "node.models": model or None,
        "node.device": device,
        "node.dtype": dtype,
        "node.threads": threads,
        "node.max_lanes": max_lanes,
    }
    configured = configure(config, {**flags, "coordinator.levels": levels})
    settings = configured.node
    wanted = _sizes(sizes)
    if prompts is not None:
        given = PromptsPlan(
            prompts,
            neighbours,
            skips,
            nodes,
            repeats,
            test_repeats,
            scorers,
            clip,
            costs,
            work,
            out,
        )
        with naming_settings(flags), naming_flags():
            profile_prompts(configured, given, wanted)
        return
    _check_out(out, json)
    from argus.node.folders import model_folders

    folders = model_folders(settings)
    # Seconds of imports that nobody should wait for when an argument is wrong.
    from argus.node.device import open_device
    from argus.node.profile import Plan, measure_profile

    plan = Plan(folders, settings.max_lanes, wanted, shlex.join(["argus", *sys.argv[1:]]))
    with naming_settings(flags), naming_flags():
        text = measure_profile(plan, open_device(settings), _say).to_json()
    if out is not None:
        _write(out, text)
    if json:
        sys.stdout.write(text)


def _sizes(text: str) -> list[tuple[int, int]]:
    try:
        return [parse_size(size.strip()) for size in text.split(",")] if text else []
    except InvalidArgumentError as error:
        raise InvalidArgumentError(SIZES, error.description) from error


def _check_out(out: Path | None, json: bool) -> None:
    """Raise where there would be nowhere to write after all the measuring."""
    if out is None and not json:
        raise InvalidArgumentError(OUT, "name a file for the profile, or ask for --json")
    if out is not None:
        check_file(out, OUT)


def _write(out: Path, text: str) -> None:
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise refusal(out, error.strerror or str(error), OUT) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
