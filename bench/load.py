"""Load on a server, the same for every server: open loop, closed loop, all at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from argus.types import ResolvedRequest


class StepMark(NamedTuple):
    """When a step of a request was done, on the wall and in processor seconds of the thread that
    said so, and how many lanes its forward had."""

    wall_s: float
    processor_s: float
    lanes: int


@dataclass(slots=True, eq=False)
class Ticket:
    """One request on its way; times are seconds of `time.perf_counter`.

    Attributes:
        request: what is wanted.
        due_s: when it was due to be sent; latency counts from here.
        finished_s: when its encoded picture was there, 0 before.
        failure: why none will come, or ''.
        steps: its steps, from servers that tell of them.
    """

    request: ResolvedRequest
    due_s: float = 0.0
    finished_s: float = 0.0
    failure: str = ""
    steps: list[StepMark] = field(default_factory=list)
    on_done: Callable[[], None] | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def finish(self) -> None:
        """The picture is there."""
        self.finished_s = time.perf_counter()
        self.done.set()
        if self.on_done is not None:
            self.on_done()

    def fail(self, message: str) -> None:
        """No picture will come."""
        self.failure = message
        self.done.set()

    def wait(self, until_s: float | None = None) -> bool:
        """Wait for the picture; return False when it has not come by `until_s`.

        Raises:
            RuntimeError: none will come.
        """
        left = None if until_s is None else max(0.0, until_s - time.perf_counter())
        if not self.done.wait(left):
            return False
        if self.failure:
            raise RuntimeError(f"{self.request.request_id}: {self.failure}")
        return True

    def latency_s(self, now_s: float) -> float:
        """Return the seconds from due to done; up to `now_s` where it is not done."""
        return (self.finished_s or now_s) - self.due_s


class Server(Protocol):
    """Something that turns requests into encoded pictures."""

    name: str

    def submit(self, ticket: Ticket) -> None:
        """Take a request; its ticket is finished, or failed, from another thread."""
        ...

    def give_up(self, tickets: Sequence[Ticket]) -> None:
        """Drop what is not finished of these and return when nothing is left in flight."""
        ...

    def close(self) -> None:
        """Stop and give back what was taken."""
        ...


@dataclass(frozen=True, slots=True)
class OpenRun:
    """What became of one run of arrivals.

    Attributes:
        latencies_s: of every request in order of arrival; a lower bound where unfinished.
        unfinished: requests given up at the end of the run.
        images_per_s: pictures finished, over the time to the last of them.
    """

    latencies_s: tuple[float, ...]
    unfinished: int
    images_per_s: float


def open_loop(
    server: Server, wanted: Sequence[ResolvedRequest], arrivals: Sequence[float], grace_s: float
) -> OpenRun:
    """Send requests at their times, whatever the server does, and see when pictures come.

    Args:
        server: who is asked.
        wanted: the requests.
        arrivals: seconds from the start, one for each request.
        grace_s: seconds after the last arrival at which what is unfinished is given up, so that
            a server far behind does not hold the others up.
    """
    start = time.perf_counter() + 0.05
    tickets = [Ticket(r, start + at) for r, at in zip(wanted, arrivals, strict=True)]
    for ticket in tickets:
        time.sleep(max(0.0, ticket.due_s - time.perf_counter()))
        server.submit(ticket)
    end = tickets[-1].due_s + grace_s
    finished = [ticket for ticket in tickets if ticket.wait(end)]
    now = time.perf_counter()
    latencies = tuple(ticket.latency_s(now) for ticket in tickets)
    server.give_up([ticket for ticket in tickets if ticket not in finished])
    span = max((t.finished_s for t in finished), default=now) - start
    return OpenRun(latencies, len(tickets) - len(finished), len(finished) / span)


def saturated(server: Server, wanted: Sequence[ResolvedRequest]) -> float:
    """Submit everything at once and return images a second until all is done."""
    start = time.perf_counter()
    tickets = [Ticket(request, start) for request in wanted]
    for ticket in tickets:
        server.submit(ticket)
    for ticket in tickets:
        ticket.wait()
    return len(tickets) / (max(ticket.finished_s for ticket in tickets) - start)


@dataclass(frozen=True, slots=True)
class ClosedRun:
    """What became of one closed loop."""

    images_per_s: float
    latencies_s: tuple[float, ...]
    step_gaps_s: tuple[float, ...]


def closed_loop(server: Server, wanted: Sequence[ResolvedRequest], in_flight: int) -> ClosedRun:
    """Keep `in_flight` requests with the server until all are done."""
    tickets = [Ticket(request) for request in wanted]
    waiting = list(reversed(tickets))
    lock = threading.Lock()

    def send_next() -> None:
        with lock:
            ticket = waiting.pop() if waiting else None
        if ticket is not None:
            ticket.due_s = time.perf_counter()
            ticket.on_done = send_next
            server.submit(ticket)

    start = time.perf_counter()
    for _ in range(in_flight):
        send_next()
    for ticket in tickets:
        ticket.wait()
    end = max(ticket.finished_s for ticket in tickets)
    gaps = [
        after.wall_s - before.wall_s
        for ticket in tickets
        for before, after in zip(ticket.steps, ticket.steps[1:], strict=False)
    ]
    latencies = tuple(ticket.latency_s(end) for ticket in tickets)
    return ClosedRun(len(tickets) / (end - start), latencies, tuple(gaps))
