"""The drivers measure what they say, seen with a server whose answers the test gives."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
from arrivals import SAME, requests
from load import Ticket, closed_loop, open_loop, saturated

from argus.types import ResolvedRequest, VariantInfo

VARIANT = VariantInfo("v", "p", 64, 64, 8, 128, ("ddim",), "ddim", 50, 1.5)


def wanted(count: int) -> list[ResolvedRequest]:
    return [one for _, one in requests(SAME, count, 1, VARIANT, "w")]


class Counting:
    """Answers from a thread of its own, all but some, and counts what is in flight."""

    name = "counting"

    def __init__(self, unanswered: int = 0) -> None:
        self._unanswered = unanswered
        self._lock = threading.Lock()
        self.in_flight = self.most = 0
        self.given_up: list[Ticket] = []

    def submit(self, ticket: Ticket) -> None:
        with self._lock:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
        if int(ticket.request.request_id.split("-")[1]) >= self._unanswered:
            threading.Thread(target=self._answer, args=(ticket,)).start()

    def _answer(self, ticket: Ticket) -> None:
        with self._lock:
            self.in_flight -= 1
        ticket.finish()

    def give_up(self, tickets: Sequence[Ticket]) -> None:
        self.given_up += tickets

    def close(self) -> None:
        pass


def test_a_closed_loop_keeps_no_more_in_flight_than_told_and_serves_all() -> None:
    server = Counting()
    run = closed_loop(server, wanted(40), in_flight=3)
    assert len(run.latencies_s) == 40
    assert server.most <= 3
    assert server.in_flight == 0


def test_unanswered_requests_count_as_late_as_the_run_was_long() -> None:
    server = Counting(unanswered=2)
    run = open_loop(server, wanted(5), [0.0, 0.01, 0.02, 0.03, 0.04], grace_s=0.2)
    assert run.unfinished == 2
    assert [t.request.request_id for t in server.given_up] == ["w-0", "w-1"]
    # Due at 0 and 0.01 s, given up 0.2 s after the last arrival at 0.04 s.
    assert run.latencies_s[0] >= 0.24
    assert run.latencies_s[1] >= 0.23


def test_a_failed_request_ends_the_measurement_with_its_name() -> None:
    class Failing(Counting):
        def submit(self, ticket: Ticket) -> None:
            ticket.fail("broken")

    with pytest.raises(RuntimeError, match="w-0: broken"):
        saturated(Failing(), wanted(2))
