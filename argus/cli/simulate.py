"""`argus simulate`: a trace against a policy in virtual time."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

from argus.cli.output import check_file
from argus.cli.settings import JsonFlag
from argus.errors import InvalidArgumentError

NOISY, PERFECT = "noisy", "perfect"
JITTER = 0.1
"""Of service times, with --jitter."""
LOG, PREDICTIONS, LOSE, OUTAGE = "--log", "--predictions", "--lose", "--outage"
SCALES = "--node-seconds"


def simulate(
    trace: Annotated[Path, typer.Option("--trace", help="Arrivals: arrival_s,prompt_id.")],
    prompts: Annotated[Path, typer.Option("--prompts", help="Qualities of prompts by level.")],
    profile: Annotated[Path, typer.Option("--profile", help="Levels and their costs.")],
    policy: Annotated[str, typer.Option("--policy", help="Which policy decides.")] = "argus",
    nodes: Annotated[int, typer.Option("--nodes", min=1, help="Nodes of the cluster.")] = 8,
    slo: Annotated[
        float | None, typer.Option("--slo", help="Seconds to the deadline. Default: the profile's.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 0,
    jitter: Annotated[
        bool, typer.Option("--jitter", help="Let service times vary by 10 %.")
    ] = False,
    predictions: Annotated[
        str, typer.Option(PREDICTIONS, help="noisy: as in the file; perfect: the truth.")
    ] = NOISY,
    period: Annotated[float | None, typer.Option("--period", help="Seconds between plans.")] = None,
    headroom: Annotated[
        float | None, typer.Option("--headroom", help="Demand planned for, of that expected.")
    ] = None,
    shed: Annotated[
        bool, typer.Option("--shed/--no-shed", help="Drop what cannot be on time any more.")
    ] = True,
    rate: Annotated[
        float | None, typer.Option("--rate", help="Stretch the trace to so many arrivals a second.")
    ] = None,
    lookahead: Annotated[
        int, typer.Option("--lookahead", min=0, help="Rows a node holds beyond its slots.")
    ] = 0,
    drop_late: Annotated[
        bool, typer.Option("--drop-late", help="Let rows end at their deadline, as live nodes do.")
    ] = False,
    node_seconds: Annotated[
        str, typer.Option(SCALES, help="What work takes on each node, relative: 1,1,2,…")
    ] = "",
    retrieval: Annotated[
        float, typer.Option("--retrieval", min=0, help="Seconds to fetch a state.")
    ] = 0.0,
    lose: Annotated[
        list[str] | None, typer.Option(LOSE, help="A node that dies: NODE@FROM[-TO], seconds.")
    ] = None,
    outage: Annotated[
        list[str] | None, typer.Option(OUTAGE, help="No state can be fetched: FROM-TO, seconds.")
    ] = None,
    bound: Annotated[
        bool, typer.Option("--bound/--no-bound", help="Work out what no schedule can beat.")
    ] = True,
    log: Annotated[Path | None, typer.Option(LOG, help="File for every arrival's end.")] = None,
    json: JsonFlag = False,
) -> None:
    """Replay a trace against a policy on a cluster in virtual time.

    docs/simulator.md describes the files; `argus workload` makes some.
    """
    if predictions not in (NOISY, PERFECT):
        raise InvalidArgumentError(PREDICTIONS, f"{NOISY} or {PERFECT}, not {predictions!r}")
    if log is not None:
        check_file(log, LOG)
    # Numbers and solvers take a second to import, which no other command should wait for.
    from argus.control.policies import PolicyOptions
    from argus.sim.report import describe
    from argus.sim.run import Job, parse_interval, parse_loss, run
    from argus.sim.setting import Retrieval, SimSetting

    outages = tuple(parse_interval(text, OUTAGE) for text in outage or ())
    figures = run(
        Job(
            trace=trace,
            prompts=prompts,
            profile=profile,
            policy=policy,
            options=PolicyOptions(period_s=period, headroom=headroom, shed=shed, seed=seed),
            setting=SimSetting(
                nodes=nodes,
                seconds_scales=_scales(node_seconds),
                jitter=JITTER if jitter else 0.0,
                lookahead=lookahead,
                slo_s=slo,
                drop_late=drop_late,
                retrieval=Retrieval(seconds=retrieval, outages=outages),
                losses=tuple(parse_loss(text, LOSE) for text in lose or ()),
            ),
            seed=seed,
            perfect=predictions == PERFECT,
            rate=rate,
            log=log,
            with_bound=bound,
        )
    )
    if json:
        typer.echo(json_module.dumps(figures, indent=2))
        return
    for line in describe(figures):
        typer.echo(line)


def _scales(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(",")) if text else ()
    except ValueError:
        raise InvalidArgumentError(SCALES, f"numbers are needed, not {text!r}") from None
