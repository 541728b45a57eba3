"""What nodes fail to do is done elsewhere, on a manual clock; nothing here sleeps."""

from __future__ import annotations

import pytest

from argus.errors import (
    ArgusError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
)
from argus.v1 import cluster_pb2
from tests.unit.coordinator.bench import Bench, follow, kinds, one_work, sent, works


async def test_a_drawn_seed_is_kept_over_a_replay() -> None:
    bench = Bench()
    first = bench.join("a")
    bench.submit()
    before = await one_work(first)
    second = bench.join("b")
    bench.dispatcher.node_lost(first, "cut")
    bench.pass_time(0.4)
    after = await one_work(second)
    assert (after.seed, after.request_id) == (before.seed, before.request_id)
    assert after.attempt == 2


async def test_a_lost_node_means_a_warning_and_one_image_from_another() -> None:
    bench = Bench()
    first = bench.join("a")
    events = bench.submit()
    old = await one_work(first)
    bench.start(first, old)
    second = bench.join("b")
    bench.dispatcher.node_lost(first, "cut")
    bench.pass_time(0.4)
    bench.dispatcher.node_lost(first, "said twice")
    new = await one_work(second)
    bench.done(first, old, b"late")
    bench.report(second, old, started=cluster_pb2.WorkStarted())
    bench.start(second, new)
    bench.done(second, new, b"new")
    bench.done(second, new, b"again")
    got = await follow(events)
    assert kinds(got) == ["queued", "started", "warning", "started", "image"]
    assert got[2].warning.code == "NODE_LOST"
    assert got[3].started.attempt == 2
    assert (got[4].image.data, got[4].image.attempts) == (b"new", 2)
    assert bench.counters["replayed"] == bench.counters["answered"] == 1


async def test_a_request_that_no_node_is_heard_of_with_is_given_up() -> None:
    bench = Bench(max_attempts=3)
    for name in "abc":
        bench.join(name)
    subscription = bench.submit()
    for _ in range(3):
        holder = next(n for n in bench.membership.members if "r" in n.backlog.row_ids)
        bench.dispatcher.node_lost(holder, "silent", died=False)
    with pytest.raises(InternalError, match="given up after 3 attempts"):
        await follow(subscription)
    assert bench.counters["failed"] == 1


async def test_replays_go_before_everything_else() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(6):
        bench.submit(f"r{i}")
    bench.submit("urgent", deadline_s=60.0)
    lost = [w.request_id for w in await works(node)]
    assert lost == ["r0", "r1", "r2"]
    bench.dispatcher.node_lost(node, "cut", died=False)
    again = bench.join("b", slots=8)
    assert [w.request_id for w in await works(again)] == [*lost, "r3", "r4", "r5", "urgent"]


async def test_a_failing_node_is_avoided_while_there_is_another() -> None:
    bench = Bench()
    first, second = bench.join("a"), bench.join("b")
    bench.submit()
    bench.fail(first, await one_work(first), cluster_pb2.WORK_FAILURE_INTERNAL, "device lost")
    assert (await one_work(second)).attempt == 2
    assert await works(first) == []


async def test_the_only_node_is_tried_again_until_attempts_run_out() -> None:
    bench = Bench(max_attempts=2)
    node = bench.join()
    events = bench.submit()
    bench.fail(node, await one_work(node), cluster_pb2.WORK_FAILURE_INTERNAL, "hiccup")
    bench.fail(node, await one_work(node), cluster_pb2.WORK_FAILURE_INTERNAL, "hiccup")
    with pytest.raises(InternalError, match="hiccup"):
        await follow(events)


@pytest.mark.parametrize(
    ("reason", "message", "error", "words"),
    [
        (cluster_pb2.WORK_FAILURE_INVALID, "prompt: bad", InvalidArgumentError, "prompt: bad"),
        (cluster_pb2.WORK_FAILURE_INVALID, "so wrong", InvalidArgumentError, "request: so wrong"),
        (cluster_pb2.WORK_FAILURE_LATE, "", DeadlineError, "too late"),
    ],
)
async def test_a_verdict_of_the_node_reaches_the_client(
    reason: int, message: str, error: type[ArgusError], words: str
) -> None:
    bench = Bench()
    node = bench.join()
    events = bench.submit()
    bench.fail(node, await one_work(node), reason, message)
    with pytest.raises(error, match=words):
        await follow(events)
    assert await sent(node) == []


async def test_a_full_node_gets_nothing_until_it_speaks_again_and_it_counts_for_nothing() -> None:
    bench = Bench(max_attempts=1)
    node = bench.join()
    events = bench.submit()
    for attempt in range(1, 6):
        work = await one_work(node)
        assert work.attempt == attempt
        bench.fail(node, work, cluster_pb2.WORK_FAILURE_FULL)
        assert await sent(node) == []
        bench.pass_time(0.5)
    work = await one_work(node)
    bench.start(node, work)
    bench.done(node, work)
    assert (await follow(events))[-1].image.attempts == 1


async def test_a_draining_node_hands_its_row_on() -> None:
    bench = Bench(max_attempts=1)
    first, second = bench.join("a"), bench.join("b")
    bench.submit()
    bench.fail(first, await one_work(first), cluster_pb2.WORK_FAILURE_DRAINING)
    assert (await one_work(second)).attempt == 2
    assert first.backlog.draining
    assert bench.counters["replayed"] == 0
