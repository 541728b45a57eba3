"""Nodes of different speed: a request waits for a full fast one sooner than it crawls on a slow."""

from __future__ import annotations

import pytest

from argus.coordinator.membership import LOOKAHEAD_ROWS
from argus.errors import DeadlineError
from tests.unit.coordinator.bench import SLOW_COSTS, Bench, follow, works


async def test_a_request_with_a_deadline_waits_for_the_full_fast_node() -> None:
    bench = Bench()
    fast, slow = bench.join("fast", slots=1), bench.join("slow", costs=SLOW_COSTS)
    for i in range(1 + LOOKAHEAD_ROWS):
        bench.submit(f"filler{i}")
    fillers = await works(fast)
    assert len(fillers) == 1 + LOOKAHEAD_ROWS
    bench.submit("a", deadline_s=30.0)
    assert "a" in bench.dispatcher.flights
    assert await works(slow) == []
    bench.done(fast, fillers[0])
    assert [w.request_id for w in await works(fast)] == ["a"]


async def test_a_request_without_a_deadline_is_not_bound_to_the_slow_node() -> None:
    bench = Bench()
    fast, slow = bench.join("fast", slots=1), bench.join("slow", costs=SLOW_COSTS)
    for i in range(2 + LOOKAHEAD_ROWS):
        bench.submit(f"r{i}")
    fillers = await works(fast)
    assert await works(slow) == []
    bench.done(fast, fillers[0])
    assert [w.request_id for w in await works(fast)] == [f"r{1 + LOOKAHEAD_ROWS}"]


async def test_the_slow_node_is_used_when_the_line_before_the_fast_one_is_longer() -> None:
    """The fast node needs about 0.35 s a row in full batches, the slow one 120 s for its first."""
    bench = Bench()
    bench.join("fast")
    slow = bench.join("slow", costs=SLOW_COSTS)
    for i in range(120):
        bench.submit(f"r{i}")
    assert await works(slow) == []
    for i in range(120, 500):
        bench.submit(f"r{i}")
    assert await works(slow) != []
    assert bench.dispatcher.not_started == 500


async def test_those_behind_one_that_waits_are_looked_at() -> None:
    """The pinned one waits for the full node; the one behind it goes to the other."""
    bench = Bench()
    fast, twin = bench.join("a", slots=1), bench.join("b", slots=1)
    for i in range(2 * (1 + LOOKAHEAD_ROWS)):
        bench.submit(f"filler{i}")
    fillers = await works(fast)
    await works(twin)
    bench.submit("picky")
    bench.submit("other")
    bench.dispatcher.flights["picky"].task.avoid.add("b")
    member = bench.membership.get("b")
    assert member is not None
    member.backlog.remove(member.backlog.row_ids[0])
    bench.dispatcher.giving.pump()
    assert [w.request_id for w in await works(twin)] == ["other"]
    assert await works(fast) == []
    bench.done(fast, fillers[0])
    assert [w.request_id for w in await works(fast)] == ["picky"]


async def test_lateness_is_judged_over_all_nodes() -> None:
    bench = Bench()
    fast, slow = bench.join("fast", slots=1), bench.join("slow", costs=SLOW_COSTS)
    for i in range(1 + LOOKAHEAD_ROWS):
        bench.submit(f"filler{i}")
    await works(fast)
    events = bench.submit("a", deadline_s=6.0)
    bench.pass_time(5.3)
    assert "a" in bench.dispatcher.flights, "0.6 s on the fast node, were it idle"
    bench.pass_time(0.2)
    with pytest.raises(DeadlineError, match=r"are left and at least 0\.6 s needed"):
        await follow(events)
    assert await works(slow) == []
