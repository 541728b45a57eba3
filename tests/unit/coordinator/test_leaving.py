"""Clients that leave, for good or to come back, on a manual clock; nothing here sleeps."""

from __future__ import annotations

import pytest

from argus.config import load_config
from argus.coordinator.membership import LOOKAHEAD_ROWS
from argus.errors import ConfigError
from tests.unit.coordinator.bench import Bench, follow, kinds, one_work, sent, works


async def test_a_request_is_cancelled_when_nobody_comes_back_to_it() -> None:
    bench = Bench(reattach_grace_s=1.0)
    node = bench.join()
    one, two = bench.submit(seed=1), bench.submit(seed=1)
    await works(node)
    bench.dispatcher.unsubscribe(one)
    bench.dispatcher.unsubscribe(one)
    bench.pass_time(5.0)
    assert "r" in bench.dispatcher.flights
    bench.dispatcher.unsubscribe(two)
    bench.pass_time(0.9)
    assert "r" in bench.dispatcher.flights
    bench.pass_time(0.1)
    (cancel,) = await sent(node)
    assert cancel is not None
    assert cancel.HasField("cancel")
    assert bench.counters["cancelled"] == 1
    assert len(node.backlog) == 0
    bench.dispatcher.unsubscribe(two)
    bench.pass_time(1.0)
    assert bench.counters["cancelled"] == 1


async def test_without_a_grace_the_last_to_leave_cancels_at_once() -> None:
    bench = Bench(reattach_grace_s=0.0)
    bench.join()
    bench.dispatcher.unsubscribe(bench.submit())
    assert not bench.dispatcher.flights


async def test_a_retry_after_a_broken_connection_joins_what_is_running() -> None:
    bench = Bench(reattach_grace_s=1.0)
    node = bench.join()
    broken = bench.submit(seed=1)
    work = await one_work(node)
    bench.start(node, work)
    bench.dispatcher.unsubscribe(broken)
    bench.pass_time(0.9)
    again = bench.submit(seed=1)
    bench.pass_time(5.0)
    bench.done(node, work)
    assert kinds(await follow(again)) == ["image"]
    assert (bench.counters["accepted"], bench.counters["answered"]) == (1, 1)
    assert await sent(node) == []


async def test_an_image_that_nobody_waited_for_is_there_for_the_retry() -> None:
    bench = Bench(reattach_grace_s=1.0)
    node = bench.join()
    broken = bench.submit(seed=1)
    work = await one_work(node)
    bench.dispatcher.unsubscribe(broken)
    bench.done(node, work)
    assert kinds(await follow(bench.submit(seed=1))) == ["image"]
    assert bench.counters["accepted"] == 1


async def test_a_deserted_request_in_the_line_is_passed_over_but_keeps_its_place() -> None:
    bench = Bench(reattach_grace_s=1.0)
    node = bench.join(slots=1)
    for i in range(1 + LOOKAHEAD_ROWS):
        bench.submit(f"filler{i}")
    deserted = bench.submit("deserted")
    for name in ("b", "c"):
        bench.submit(name)
    fillers = await works(node)
    bench.dispatcher.unsubscribe(deserted)
    bench.done(node, fillers[0])
    assert [w.request_id for w in await works(node)] == ["b"]
    bench.submit("deserted")
    bench.done(node, fillers[1])
    assert [w.request_id for w in await works(node)] == ["deserted"]


async def test_a_client_that_comes_back_to_a_waiting_request_has_it_sent_at_once() -> None:
    bench = Bench(reattach_grace_s=1.0)
    node = bench.join(slots=1)
    for i in range(1 + LOOKAHEAD_ROWS):
        bench.submit(f"filler{i}")
    bench.dispatcher.unsubscribe(bench.submit("r"))
    bench.done(node, (await works(node))[0])
    assert await works(node) == []
    bench.submit("r")
    assert [w.request_id for w in await works(node)] == ["r"]


def test_the_grace_must_not_be_negative() -> None:
    with pytest.raises(ConfigError, match=r"coordinator\.reattach_grace_s: must not be below 0"):
        load_config(None, {}, {"coordinator.reattach_grace_s": -1.0})
