"""`argus top`: the cluster at work, live in the terminal."""

from __future__ import annotations

import json as json_module
import time
from collections.abc import Callable, Iterator
from typing import Annotated

import typer
from rich.console import Console
from rich.live import Live

from argus.cli.connect import DEFAULT_SERVER, connect
from argus.cli.settings import KeyFileFlag, ServerFlag, TlsCaFlag
from argus.cli.top_moment import Moment, described, moment_between
from argus.cli.top_view import view
from argus.client import Client
from argus.clock import Clock, MonotonicClock
from argus.errors import UnavailableError


def top(
    server: ServerFlag = DEFAULT_SERVER,
    interval: Annotated[
        float, typer.Option("--interval", min=0.1, help="Seconds between looks.")
    ] = 2.0,
    once: Annotated[
        bool, typer.Option("--once", help="Look over one interval, print that, and end.")
    ] = False,
    tls_ca: TlsCaFlag = None,
    api_key_file: KeyFileFlag = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object a line for each look.")
    ] = False,
) -> None:
    """Watch the cluster live; Ctrl-C ends it.

    Nodes, queue, rates, share on time, served quality, levels in use, price and cache. Rates and
    shares are over the time since the look before.
    """
    with connect(server, tls_ca, api_key_file) as client:
        looks = moments(client, interval)
        try:
            if json:
                for moment in looks:
                    print(json_module.dumps(described(moment), ensure_ascii=False), flush=True)
                    if once:
                        return
            elif once:
                Console().print(view(next(looks)))
            else:
                _show(looks)
        except KeyboardInterrupt:
            # The way to leave; what was asked for has been done.
            return


def moments(
    client: Client,
    interval_s: float,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Moment]:
    """Look at the cluster for ever; the first moment comes after one interval.

    A coordinator that goes away later is shown as away until it is back.

    Args:
        client: of the coordinator.
        interval_s: between looks.
        clock: where the time comes from; None: the machine's.
        sleep: waits so many seconds.

    Raises:
        ArgusError: it does not answer the first time, or will not answer this caller.
    """
    clock = clock or MonotonicClock()
    before, seen_s = client.status(), clock.now()
    shown: Moment | None = None
    next_s = seen_s
    while True:
        # Looks that took long are not made up for.
        next_s = max(next_s + interval_s, clock.now())
        sleep(max(0.0, next_s - clock.now()))
        try:
            after = client.status()
        except UnavailableError as error:
            last = shown or moment_between(before, before, 0.0, client.server)
            yield last.lost(str(error))
            continue
        now_s = clock.now()
        shown = moment_between(before, after, now_s - seen_s, client.server)
        before, seen_s = after, now_s
        yield shown


def _show(looks: Iterator[Moment]) -> None:
    """Show each moment in place of the one before, on a terminal; else one below the other."""
    console = Console()
    if not console.is_terminal:
        for moment in looks:
            console.print(view(moment))
        return
    waiting = "looking for one interval …"
    with Live(waiting, console=console, screen=True, auto_refresh=False) as live:
        for moment in looks:
            live.update(view(moment), refresh=True)
