"""`argus workload`: files for `argus simulate`, made from stated assumptions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from argus.cli.output import check_file

OUT = "--out"

app = typer.Typer(
    help="Make traces, prompts and profiles for `argus simulate`.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
OutFlag = Annotated[Path, typer.Option(OUT, "-o", help="File to write.")]
ProfileFlag = Annotated[
    Path | None, typer.Option("--profile", help="A profile. Default: the published one.")
]
SeedFlag = Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")]


@app.command()
def profile(out: OutFlag) -> None:
    """Write the published profile: SDXL, 0 to 25 of 50 steps skipped, 4.2 s for all of them."""
    check_file(out, OUT)
    from argus.sim.profile import dump_profile
    from argus.sim.published import published_profile

    out.write_text(dump_profile(published_profile()), encoding="utf-8")


@app.command()
def prompts(
    out: OutFlag,
    count: Annotated[int, typer.Option("--count", min=1, help="How many.")] = 20_000,
    accuracy: Annotated[
        float, typer.Option("--accuracy", min=0, max=1, help="Share of predictions that are right.")
    ] = 0.85,
    profile: ProfileFlag = None,
    seed: SeedFlag = 0,
) -> None:
    """Draw prompts whose qualities have the profile's means; docs/simulator.md says how."""
    check_file(out, OUT)
    from argus.sim.files import write_prompts
    from argus.sim.published import modelled_prompts
    from argus.sim.run import profile_or_published

    ladder = profile_or_published(profile)
    table = modelled_prompts(ladder, count, seed, accuracy)
    write_prompts(out, table, [level.name for level in ladder.levels])


@app.command()
def arrivals(
    out: OutFlag,
    prompts: Annotated[Path, typer.Option("--prompts", help="From which prompts are drawn.")],
    shape: Annotated[
        str, typer.Option("--shape", help="poisson, diurnal, bursty, burst, azure, markov, step.")
    ] = "poisson",
    load: Annotated[
        float,
        typer.Option("--load", help="Mean load, of what the nodes can do at the best level."),
    ] = 1.0,
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes the load is for.")] = 8,
    seconds: Annotated[int, typer.Option("--seconds", min=1, help="Length of the trace.")] = 3600,
    profile: ProfileFlag = None,
    seed: SeedFlag = 0,
) -> None:
    """Draw arrivals of a shape at a load."""
    check_file(out, OUT)
    from argus.sim.files import read_prompts, write_arrivals
    from argus.sim.logs import drawn_trace
    from argus.sim.run import profile_or_published

    ladder = profile_or_published(profile)
    table = read_prompts(prompts, [level.name for level in ladder.levels])
    write_arrivals(out, drawn_trace(shape, load * ladder.capacity(nodes), seconds, table, seed))
