"""The part of `argus profile` that makes pictures: what levels do to prompts."""

from __future__ import annotations

import dataclasses
import datetime
import os
import platform
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from argus.cli.devices import deal
from argus.config import Config
from argus.control.levels import LevelProfile, parse_profile
from argus.errors import InvalidArgumentError
from argus.models import bundled_dir
from argus.quality.ladder import ladder_to_measure, permissive_level_file
from argus.quality.prompts import Prompt, read_prompts

if TYPE_CHECKING:
    from argus.cache.embedder import Embedder
    from argus.control.profile import CostProfile
    from argus.quality.pictures import WorkFolder
    from argus.quality.run import RunPlan

PromptsFlag = Annotated[
    Path | None,
    typer.Option(
        "--prompts",
        help="Prompts to be judged: .txt (one a line), .csv or .parquet. Default: none.",
    ),
]
NeighboursFlag = Annotated[
    Path | None,
    typer.Option(
        "--neighbours",
        help="Prompts that are cached before, for levels that continue a cached state.",
    ),
]
SkipsFlag = Annotated[
    str,
    typer.Option(
        "--skips",
        help="Shares of the steps, such as 0.1,0.5, that further levels skip from a cached state.",
    ),
]
NodesFlag = Annotated[int, typer.Option("--nodes", min=1, help="Node daemons that make them.")]
RepeatsFlag = Annotated[
    int, typer.Option("--repeats", min=1, help="Pictures of each prompt and level.")
]
TestRepeatsFlag = Annotated[
    int | None,
    typer.Option("--test-repeats", min=1, help="The same, of test prompts. Default: --repeats."),
]
ScorersFlag = Annotated[
    str,
    typer.Option(
        "--scorers",
        help="facts, clip, pickscore, qualiclip, pixels, features; the first one's first column "
        "is what relative quality is made of. Default: facts,clip,pixels,features for the bundled "
        "family, else clip,pixels,features.",
    ),
]
ClipFlag = Annotated[
    Path | None,
    typer.Option("--clip", help="Folder of the CLIP model of the scorers. Default: bundled."),
]
CostsFlag = Annotated[
    Path | None,
    typer.Option("--costs", help="Costs that were measured before, instead of measuring them."),
]
WorkFlag = Annotated[
    Path | None,
    typer.Option("--work", help="Folder of unfinished work. Default: the --out folder's .work."),
]

SEED = 20_000
PATIENCE_S = "60"
"""What the cluster may wait for a look-up or a state: here a miss is a picture lost."""
LINES = 100
"""Lines that a whole run says where stderr is no terminal."""
PACKAGES = ("argus-serve", "torch", "diffusers", "transformers", "numpy")


@dataclass(frozen=True, slots=True)
class PromptsPlan:
    """The flags above, as they were given."""

    prompts: Path
    neighbours: Path | None
    skips: str
    nodes: int
    repeats: int
    test_repeats: int | None
    scorers: str
    clip: Path | None
    costs: Path | None
    work: Path | None
    out: Path | None


def profile_prompts(config: Config, flags: PromptsPlan, sizes: Sequence[tuple[int, int]]) -> None:
    """Measure costs, make the pictures, score them and write the profile.

    Raises:
        ArgusError: something given is wrong, or a picture could not be made.
    """
    if flags.out is None:
        raise InvalidArgumentError("--out", "name a folder for the profile")
    plan = _plan(config, flags)
    scorers = _scorers(config, flags)
    # Torch is loaded from here on, seconds that nobody should wait for when a flag is wrong.
    from argus.coordinator.embedder import open_embedder
    from argus.quality.nearest import Nearest
    from argus.quality.pictures import WorkFolder
    from argus.quality.profile import write_profile
    from argus.quality.score import Scoring, score_profile
    from argus.quality.scorers import open_scorers

    opened = open_scorers(scorers, flags.clip)
    embedder = open_embedder(config.cache)
    plan = dataclasses.replace(plan, prompts=_split(plan.prompts, embedder))
    costs = _costs(config, flags, sizes)
    work = WorkFolder(flags.work or flags.out / ".work", _settings(config, plan))
    with closing(work):
        _make(config, flags, plan, work)
        nearest = Nearest(embedder, plan.neighbours, plan.prompts) if plan.neighbours else None
        scoring = Scoring(scorers, flags.clip, opened[0].columns[0], flags.nodes)
        with _progress("scored") as progress:
            matrix, neighbours = score_profile(
                plan, work, scoring, nearest, _circumstances(costs), progress
            )
        summary = write_profile(flags.out, matrix, neighbours, costs, work)
    for level in summary["levels"]:
        print(f"{level['name']}: quality {level['quality']:.4f}, {level['verdict']}")


def _plan(config: Config, flags: PromptsPlan) -> RunPlan:
    from argus.quality.run import RunPlan

    prompts = read_prompts(flags.prompts)
    neighbours = read_prompts(flags.neighbours) if flags.neighbours else ()
    levels = ladder_to_measure(_levels(config), _shares(flags.skips))
    if any(level.skip_fraction for level in levels) and not neighbours:
        raise InvalidArgumentError(
            "--neighbours", "levels that continue a cached state need prompts that are cached"
        )
    repeats = dict.fromkeys(("train", "calibration"), flags.repeats)
    repeats["test"] = flags.test_repeats or flags.repeats
    return RunPlan(prompts, neighbours, levels, repeats, SEED)


def _levels(config: Config) -> LevelProfile:
    if not config.coordinator.levels and config.node.models:
        raise InvalidArgumentError("--levels", "name the level file of these models")
    path = Path(config.coordinator.levels or bundled_dir() / "levels.json")
    try:
        return parse_profile(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise InvalidArgumentError("--levels", f"{path}: {error.strerror or error}") from error


def _shares(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")] if text else []
    except ValueError as error:
        raise InvalidArgumentError("--skips", f"numbers and commas are needed: {error}") from error


def _scorers(config: Config, flags: PromptsPlan) -> tuple[str, ...]:
    if flags.scorers:
        return tuple(name.strip() for name in flags.scorers.split(","))
    beside = ("clip", "pixels", "features")
    if config.node.models and flags.clip is None:
        raise InvalidArgumentError(
            "--clip", "the bundled scorer knows only the bundled family's world; name another"
        )
    return beside if config.node.models else ("facts", *beside)


def _split(prompts: Sequence[Prompt], embedder: Embedder) -> tuple[Prompt, ...]:
    """Return the prompts with the splits of their file, or with our own if it has none."""
    if any(p.split for p in prompts):
        return tuple(prompts)
    from argus.quality.split import Shares, split_prompts

    vectors = embedder.embed([p.text for p in prompts])
    return split_prompts(prompts, Shares(), SEED, vectors)


def _costs(config: Config, flags: PromptsPlan, sizes: Sequence[tuple[int, int]]) -> CostProfile:
    from argus.quality.profile import read_costs

    if flags.costs is not None:
        return read_costs(flags.costs)
    from argus.node.device import open_device
    from argus.node.folders import model_folders
    from argus.node.profile import Plan, measure_profile

    folders = model_folders(config.node)
    plan = Plan(folders, config.node.max_lanes, list(sizes), shlex.join(["argus", *sys.argv[1:]]))
    return measure_profile(
        plan, open_device(config.node), lambda line: print(line, file=sys.stderr, flush=True)
    )


def _settings(config: Config, plan: RunPlan) -> dict[str, Any]:
    """Return what pictures depend on."""
    return {
        "prompts": [dataclasses.asdict(p) for p in plan.prompts],
        "neighbours": [dataclasses.asdict(p) for p in plan.neighbours],
        "levels": sorted(
            [level.name, level.variant, level.steps_fraction, level.skip_fraction]
            for level in plan.levels
        ),
        "repeats": plan.repeats,
        "seed": plan.seed,
        "models": [str(Path(model).resolve()) for model in config.node.models],
        "dtype": config.node.dtype,
    }


def _circumstances(costs: CostProfile) -> dict[str, str]:
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return {
        "date": datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="seconds"),
        "command": shlex.join(["argus", *sys.argv[1:]]),
        "device": costs.circumstances.device_name,
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": packages,
    }


def _make(config: Config, flags: PromptsPlan, plan: RunPlan, work: WorkFolder) -> None:
    from argus.cli.profile_cluster import Cluster, run_pictures
    from argus.cli.up import node_arguments

    levels = work.path / "levels.json"
    levels.write_text(permissive_level_file(plan.levels), encoding="utf-8")
    # For the processes that are started; nothing reads it here.
    os.environ["ARGUS_CACHE_LOOK_UP_S"] = os.environ["ARGUS_CACHE_STATE_WAIT_S"] = PATIENCE_S
    threads = config.node.threads or None
    devices = deal(config.node.device, flags.nodes)
    models = list(config.node.models) or None
    cluster = Cluster(
        coordinator=("--levels", str(levels.resolve()), "--log-level", "warning"),
        nodes={
            f"node-{i}": (
                *node_arguments(config, models, threads, None, flags.nodes, device),
                *("--log-level", "warning"),
            )
            for i, device in enumerate(devices)
        },
        slots=config.node.slots * flags.nodes,
    )
    with _progress("pictures") as progress:
        run_pictures(plan, cluster, work, progress)


@contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far the run is: a bar on a terminal, now and then a line elsewhere."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(what)
        return
    bar = Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(), console=console, transient=True,
    )  # fmt: skip
    with bar:
        task = bar.add_task("", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _lines(what: str) -> Callable[[int, int], None]:
    said = -1

    def say(done: int, total: int) -> None:
        nonlocal said
        share = done * LINES // max(1, total)
        if share != said:
            said = share
            print(f"{done} of {total} {what}", file=sys.stderr, flush=True)

    return say
