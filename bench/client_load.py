"""Open-loop load through the real client: requests are sent at their times, whatever happens.

As a script it prints one line of JSON about a run at one rate:
python bench/client_load.py --server HOST:PORT --rate 300 --seconds 10
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from arrivals import poisson

from argus.client import AsyncClient, Event, Retries
from argus.client.request import Options
from argus.errors import ArgusError
from argus.rpc.loop import run

ONCE = Retries(attempts=1)


@dataclass(slots=True)
class Outcome:
    """What became of one request; times in seconds of the monotonic clock.

    Attributes:
        request_id: unique in a run.
        seed: of the picture.
        due_s: when it was to be sent.
        sent_s: when it was.
        accepted_s: when its first event came; None: it was never accepted.
        ended_s: when its picture or its error came; None: neither did.
        digest: of the picture's bytes.
        images: pictures received for it.
        attempts: that the picture took, by the coordinator's count.
        node: that made it.
        error: name of the error's class; empty where there was none.
        message: of the error.
    """

    request_id: str
    seed: int
    due_s: float
    sent_s: float = 0.0
    accepted_s: float | None = None
    ended_s: float | None = None
    digest: str = ""
    images: int = 0
    attempts: int = 0
    node: str = ""
    error: str = ""
    message: str = ""
    events: list[str] = field(default_factory=list)

    @property
    def answered(self) -> bool:
        """Whether a picture came."""
        return bool(self.digest)

    @property
    def refused(self) -> bool:
        """Whether it was turned away before anything was promised."""
        return bool(self.error) and self.accepted_s is None


async def ask(client: AsyncClient, prompt: str, outcome: Outcome, **options: Any) -> None:
    """Ask for one picture and note what becomes of it."""
    outcome.sent_s = time.monotonic()

    def note(event: Event) -> None:
        if outcome.accepted_s is None:
            outcome.accepted_s = time.monotonic()
        outcome.images += type(event).__name__ == "Image"

    wanted: Options = {"seed": outcome.seed, "request_id": outcome.request_id, **options}  # type: ignore[typeddict-item]
    try:
        result = await client.generate(prompt, on_event=note, **wanted)
    except ArgusError as error:
        outcome.error, outcome.message = type(error).__name__, str(error)
    else:
        outcome.digest = hashlib.sha256(result.data).hexdigest()
        outcome.attempts, outcome.node = result.attempts, result.node
    outcome.ended_s = time.monotonic()


async def until(due_s: float) -> None:
    """Wait for a moment of the monotonic clock."""
    wait_s = due_s - time.monotonic()
    if wait_s > 0:
        await asyncio.sleep(wait_s)


def outcomes_of(name: str, arrivals: Sequence[float], first: int = 0) -> list[Outcome]:
    """Return what is to be asked for at each of `arrivals`, seconds from now; `first` is the first
    one's number and seed."""
    start_s = time.monotonic() + 0.1
    return [Outcome(f"{name}-{n}", n, start_s + at) for n, at in enumerate(arrivals, first)]


async def send_all(
    clients: Sequence[AsyncClient],
    outcomes: Sequence[Outcome],
    grace_s: float,
    one: Callable[[AsyncClient, Outcome], Coroutine[Any, Any, None]],
) -> None:
    """Send requests at their times, whatever happens, in turns over the clients.

    Returns when all have ended, or `grace_s` seconds after the last was due; those left are
    cancelled.

    Args:
        clients: that send.
        outcomes: in the order in which they are due.
        grace_s: see above.
        one: sends one.
    """
    tasks: set[asyncio.Task[None]] = set()
    for number, outcome in enumerate(outcomes):
        await until(outcome.due_s)
        task = asyncio.create_task(one(clients[number % len(clients)], outcome))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)
    for task in tuple(tasks):
        task.cancel()


async def open_load(
    clients: Sequence[AsyncClient],
    name: str,
    arrivals: Sequence[float],
    grace_s: float,
    **options: Any,
) -> list[Outcome]:
    """Send a request with the same options at each of `arrivals` (seconds from now).

    See `send_all`.
    """
    outcomes = outcomes_of(name, arrivals)
    await send_all(clients, outcomes, grace_s, asking(**options))
    return outcomes


def asking(**options: Any) -> Callable[[AsyncClient, Outcome], Coroutine[Any, Any, None]]:
    """Return what asks for one picture with these options."""
    return lambda client, outcome: ask(client, "a red circle", outcome, **options)


def summary(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """Return what a run amounts to; latencies in milliseconds from when requests were due."""
    answered = [o for o in outcomes if o.answered and o.ended_s is not None]
    latencies = [1000 * (o.ended_s - o.due_s) for o in answered if o.ended_s is not None]
    span_s = max((o.ended_s or 0.0 for o in answered), default=0.0) - outcomes[0].due_s
    p50, p99 = (float(q) for q in np.quantile(latencies, (0.5, 0.99))) if latencies else (0.0, 0.0)
    return {
        "offered": len(outcomes),
        "answered": len(answered),
        "answered_per_s": len(answered) / span_s if answered else 0.0,
        "p50_ms": p50,
        "p99_ms": p99,
        "errors": sorted({o.error for o in outcomes if o.error}),
    }


async def _run(arguments: argparse.Namespace) -> None:
    clients = [AsyncClient(arguments.server, retries=ONCE) for _ in range(arguments.clients)]
    try:
        await open_load(clients, f"{arguments.name}-warm", poisson(100.0, 2.0, 1), 10.0)
        arrivals = poisson(arguments.rate, arguments.seconds, arguments.seed)
        before_s = time.process_time()
        outcomes = await open_load(clients, arguments.name, arrivals, grace_s=arguments.grace)
        spent_s = time.process_time() - before_s
        print(json.dumps({**summary(outcomes), "client_processor_s": spent_s}), flush=True)
    finally:
        for client in clients:
            await client.close()


def main() -> None:
    """Read the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", required=True)
    parser.add_argument("--name", default="load", help="begins every request id")
    parser.add_argument("--rate", type=float, default=300.0)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--grace", type=float, default=5.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    run(lambda stop: _run(arguments))


if __name__ == "__main__":
    main()
