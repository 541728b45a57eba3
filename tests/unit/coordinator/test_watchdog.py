"""What fails in one part of the regular checks does not end or starve the others."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from argus.coordinator.flight import Flight
from argus.coordinator.membership import Membership
from argus.coordinator.parts import AGAIN_S
from argus.coordinator.service import IMAGE_SERVICE
from argus.errors import DeadlineError
from tests.unit.coordinator.bench import Bench, follow, kinds, one_work, works
from tests.unit.coordinator.polling import (
    NOT_SERVING,
    SERVING,
    eventually,
    eventually_health,
    health,
)
from tests.unit.coordinator.scripted import coordinated


def broken(*_: Any) -> None:
    raise RuntimeError("a bug")


async def test_a_request_whose_check_fails_keeps_no_other_from_ending_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    bench.join("a")
    bench.submit("r0", deadline_s=5.0)
    other = bench.submit("r1", deadline_s=5.0)
    on_time = Flight.on_time

    def is_on_time(flight: Flight, now_s: float) -> bool:
        if flight.id == "r0":
            broken()
        return on_time(flight, now_s)

    monkeypatch.setattr(Flight, "on_time", is_on_time)
    bench.pass_time(5.1)
    with pytest.raises(DeadlineError):
        await follow(other)
    assert list(bench.dispatcher.flights) == ["r0"]


async def test_a_node_that_cannot_be_given_up_keeps_no_other_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench(lease_s=3.0)
    first, second = bench.join("a"), bench.join("b")
    monkeypatch.setattr(first, "close", broken)
    for _ in range(8):
        bench.clock.advance(1.0)
        bench.watchdog.check()
    assert not bench.membership.is_member(second)


async def test_requests_end_in_time_though_nodes_cannot_be_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bench = Bench()
    node = bench.join("a")
    late = bench.submit("r0", deadline_s=5.0)
    assert len(await works(node)) == 1
    monkeypatch.setattr(node, "trouble", broken)
    bench.pass_time(5.1)
    with pytest.raises(DeadlineError):
        await follow(late)


@pytest.mark.parametrize("part", ["forget_old_results", "plan", "seek_places"])
async def test_work_is_given_out_whatever_else_fails(
    monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    bench = Bench()
    node = bench.join("a", slots=1)
    events = [bench.submit(f"r{i}") for i in range(4)]
    assert len(await works(node)) == 3
    owner = bench.dispatcher if part == "forget_old_results" else bench.dispatcher.giving
    monkeypatch.setattr(owner, part, broken)
    node.backlog.remove("r0")
    bench.pass_time(0.1)
    work = await one_work(node)
    bench.done(node, work)
    assert kinds(await follow(events[3]))[-1] == "image"


async def test_what_fails_every_time_is_logged_once_a_minute(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    monkeypatch.setattr(bench.dispatcher.giving, "plan", broken)

    def check(times: int) -> int:
        caplog.clear()
        for _ in range(times):
            bench.clock.advance(AGAIN_S / 20)
            bench.watchdog.check()
        return sum(record.levelno == logging.ERROR for record in caplog.records)

    assert check(10) == 1
    assert "a bug" in caplog.text or "a bug" in str(caplog.records[0].exc_info)
    assert check(40) == 2


@pytest.mark.parametrize(
    ("owner", "method"),
    [
        ("_watchdog", "check"),
        ("_settling", "check"),
        ("_cluster", "pulse"),
        ("_cluster", "turn_out"),
    ],
)
async def test_variants_are_looked_after_and_health_is_shown_whatever_else_fails(
    monkeypatch: pytest.MonkeyPatch, owner: str, method: str
) -> None:
    async with coordinated() as cluster:
        coordinator = cluster.coordinator
        for task in coordinator._tasks:
            task.cancel()
        looked = []
        monkeypatch.setattr(getattr(coordinator, owner), method, broken)
        monkeypatch.setattr(coordinator._residence, "check", lambda: looked.append(1))
        monkeypatch.setattr(Membership, "accepts_work", True)
        assert await health(cluster, IMAGE_SERVICE) == NOT_SERVING
        await coordinator.lead()
        await eventually(lambda: len(looked) > 2)
        await eventually_health(cluster, SERVING)
