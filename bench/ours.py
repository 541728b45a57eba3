"""The engine as a server under load."""

from __future__ import annotations

import time
from collections.abc import Sequence

from load import StepMark, Ticket

from argus.engine.engine import Engine
from argus.engine.events import RowDone, RowEvent, RowFailed, RowStep


class EngineServer:
    """Rows of one engine."""

    def __init__(self, engine: Engine, name: str = "step level (Argus)") -> None:
        self.engine = engine
        self.name = name

    def submit(self, ticket: Ticket) -> None:
        """Submit a row whose events go to its ticket."""

        def listen(event: RowEvent) -> None:
            if isinstance(event, RowStep):
                mark = StepMark(time.perf_counter(), time.thread_time(), event.lanes)
                ticket.steps.append(mark)
            elif isinstance(event, RowFailed):
                ticket.fail(event.message)
            elif isinstance(event, RowDone):
                ticket.finish()

        self.engine.submit(ticket.request, listen)

    def give_up(self, tickets: Sequence[Ticket]) -> None:
        """Cancel these rows and wait until they have ended."""
        for ticket in tickets:
            self.engine.cancel(ticket.request.request_id, ticket.request.attempt)
        for ticket in tickets:
            ticket.done.wait()

    def close(self) -> None:
        """Close the engine."""
        self.engine.close()
