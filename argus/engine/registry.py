"""The rows of an engine: where they come in, and the one place where they end."""

from __future__ import annotations

import threading

from argus.engine.events import RowEvent
from argus.engine.pools import Pools
from argus.engine.residents import Residents
from argus.engine.row import Row, RowState
from argus.engine.stats import StatsRecorder
from argus.errors import InvalidArgumentError, OverloadedError, UnavailableError


class Registry:
    """Every row from its acceptance to its last event. Safe from any thread."""

    def __init__(
        self, pools: Pools, residents: Residents, recorder: StatsRecorder, most: int
    ) -> None:
        self._pools = pools
        self._residents = residents
        self._recorder = recorder
        self._most = most
        self._changed = threading.Condition()
        self._rows: dict[tuple[str, int], Row] = {}
        self._news = False
        self._open = True

    def take(self, row: Row) -> None:
        """Accept a row.

        Raises:
            InvalidArgumentError: a row of that name is running.
            OverloadedError: there is no room, or a row of that name is still being cancelled.
            UnavailableError: no more rows are taken.
        """
        with self._changed:
            if not self._open:
                raise UnavailableError("the engine takes no more rows")
            old = self._rows.get(row.id)
            if old is not None and not old.cancelled:
                raise InvalidArgumentError("request_id", f"{row.id[0]!r} is already running")
            if old is not None:
                raise OverloadedError("the row of that name is still being cancelled", 0.1)
            if len(self._rows) >= self._most:
                raise OverloadedError("the node's waiting room is full", retry_after_s=1.0)
            self._rows[row.id] = row
            self._wake()

    def find(self, request_id: str, attempt: int) -> Row | None:
        """Return a row that has not ended, or None."""
        with self._changed:
            return self._rows.get((request_id, attempt))

    def rows(self) -> list[Row]:
        """Return the rows that have not ended; what comes after this call is news to `wait`."""
        with self._changed:
            self._news = False
            return list(self._rows.values())

    def states(self) -> list[RowState]:
        """Return where the rows are."""
        with self._changed:
            return [row.state for row in self._rows.values()]

    def enter(self, row: Row, state: RowState) -> None:
        """Bring a row that has not ended into a state that is not final."""
        with self._changed:
            if not row.state.is_final:
                row.state = state

    def end(self, row: Row, state: RowState, event: RowEvent) -> None:
        """Bring a row to a final state, once: bookkeeping, slot, claim, last event."""
        with self._changed:
            if row.state.is_final:
                return
            row.state = state
            self._rows.pop(row.id, None)
            self._pools.free(row)
            if state is RowState.DONE:
                self._recorder.image()
            self._wake()
        if row.resident is not None:
            self._residents.release(row.resident)
            row.resident = None
        row.tell(event, last=True)

    def shut(self) -> None:
        """Take no more rows."""
        with self._changed:
            self._open = False
            self._wake()

    @property
    def is_open(self) -> bool:
        """Whether rows are taken."""
        return self._open

    def poke(self) -> None:
        """Let `wait` return: something changed outside."""
        with self._changed:
            self._wake()

    def wait(self, timeout_s: float) -> None:
        """Wait for news since `rows` was called last, at most `timeout_s`."""
        with self._changed:
            # News that came since the rows were read must not be slept through.
            if not self._news:
                self._changed.wait(timeout_s)

    def _wake(self) -> None:
        self._news = True
        self._changed.notify()
