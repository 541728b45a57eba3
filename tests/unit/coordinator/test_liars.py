"""Nodes whose words and deeds differ, on a manual clock; nothing here sleeps."""

from __future__ import annotations

import pytest

from argus.control.backlog import PATIENCE_S
from argus.coordinator.membership import STUCK_S, Member
from argus.errors import InternalError, InvalidArgumentError, UnavailableError
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import SLOW_COSTS, Bench, follow, kinds, one_work, works


def step(number: int) -> image_pb2.StepProgress:
    return image_pb2.StepProgress(step=number, steps=10, lanes=2)


def say_step(bench: Bench, member: Member, work: cluster_pb2.Work, number: int) -> None:
    bench.report(member, work, step=step(number))


async def test_a_node_that_repeats_itself_is_given_up_and_told_that_it_is_broken() -> None:
    bench = Bench()
    liar = bench.join("a")
    events = bench.submit()
    work = await one_work(liar)
    honest = bench.join("b")
    bench.start(liar, work)
    for _ in range(100):
        say_step(bench, liar, work, 3)
        bench.pass_time(0.5)
        if not bench.membership.is_member(liar):
            break
    assert isinstance(liar.end_error, InternalError)
    assert "none of its rows got on" in str(liar.end_error)
    again = await one_work(honest)
    bench.start(honest, again)
    bench.done(honest, again)
    got = await follow(events)
    assert kinds(got).count("step") == 1, "what was said before is not said again"
    assert (got[-1].image.node, got[-1].image.attempts) == ("b", 2)


async def test_a_slow_node_that_gets_on_is_not_given_up() -> None:
    bench = Bench()
    slow = bench.join("a", costs=SLOW_COSTS)
    bench.submit()
    work = await one_work(slow)
    bench.start(slow, work)
    for number in range(1, 11):
        for _ in range(13):
            bench.pass_time(1.0)
        say_step(bench, slow, work, number)
    assert bench.membership.is_member(slow)


async def test_a_node_without_rows_or_that_fetches_their_weights_need_not_get_on() -> None:
    bench = Bench()
    node = bench.join("a")
    for _ in range(100):
        bench.pass_time(1.0)
    bench.submit()
    await one_work(node)
    for _ in range(30):
        bench.clock.advance(1.0)
        node.beat(cluster_pb2.Heartbeat(resident=["another"]), bench.clock.now())
        bench.watchdog.check()
    assert bench.membership.is_member(node)
    for _ in range(round(bench.config.lease_s + 10 * 1.0 + STUCK_S)):
        bench.clock.advance(1.0)
        node.beat(cluster_pb2.Heartbeat(resident=["base"]), bench.clock.now())
        bench.watchdog.check()
    assert not bench.membership.is_member(node)


async def test_a_row_that_a_node_sits_on_while_it_makes_others_is_made_elsewhere() -> None:
    bench = Bench()
    node = bench.join("a")
    events = bench.submit("kept")
    kept = await one_work(node)
    other = bench.join("b")
    most_s = PATIENCE_S + bench.config.lease_s + 10 * 1.1
    for number in range(int(most_s) + 5):
        bench.submit(f"r{number}")
        for member in (node, other):
            for work in await works(member):
                if work.request_id == "kept":
                    assert (member, work.attempt) == (other, 2)
                    assert number >= int(most_s)
                bench.start(member, work)
                bench.done(member, work)
        bench.pass_time(1.0)
        node.moved(bench.clock.now())  # whatever else it makes
    assert kinds(await follow(events))[-1] == "image"
    bench.done(node, kept, b"late")
    assert bench.membership.is_member(node)


async def test_steps_that_do_not_exist_end_the_stream() -> None:
    bench = Bench()
    node = bench.join("a")
    bench.submit()
    work = await one_work(node)
    bench.start(node, work)
    say_step(bench, node, work, 10)
    with pytest.raises(InvalidArgumentError, match="step"):
        say_step(bench, node, work, 11)


async def test_an_empty_picture_is_none() -> None:
    bench = Bench()
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    honest = bench.join("b")
    bench.start(node, work)
    bench.done(node, work, b"")
    again = await one_work(honest)
    bench.start(honest, again)
    bench.done(honest, again)
    assert (await follow(events))[-1].image.attempts == 2


async def test_a_coordinator_that_was_stopped_blames_no_node() -> None:
    bench = Bench(lease_s=2.0)
    node = bench.join("a")
    bench.submit()
    work = await one_work(node)
    bench.watchdog.check()
    bench.clock.advance(100.0)
    bench.watchdog.check()
    assert bench.membership.is_member(node)
    bench.start(node, work)
    for _ in range(5):
        bench.clock.advance(0.5)
        bench.watchdog.check()
    assert not bench.membership.is_member(node)
    assert isinstance(node.end_error, UnavailableError), "it may come back"
