"""Rows that nodes bring along, on a manual clock: none is lost, and no picture is made twice."""

from __future__ import annotations

from typing import Any

import pytest

from argus.control import policies
from argus.control.fleet import Fleet
from argus.control.policy import Task
from argus.control.router import Decision
from argus.coordinator.membership import Member
from argus.errors import (
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    UnavailableError,
)
from argus.types import SHADOW_TENANT
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import Bench, follow, kinds, one_work, sent, works


async def given(bench: Bench | None = None, **fields: Any) -> cluster_pb2.Work:
    """Return the work that a coordinator gives out for a request."""
    bench = bench or Bench()
    node = bench.join("a")
    bench.submit(**fields)
    return await one_work(node)


def held(
    work: cluster_pb2.Work, *, run: str = "other", step: int = 0, data: bytes = b"", **fields: Any
) -> cluster_pb2.HeldRow:
    """Return what a node says of a row; its picture is done where there are `data`."""
    row = cluster_pb2.HeldRow(
        work=work, run=run, age_s=4.0, ended=bool(data), bytes=len(data), **fields
    )
    if step or data:
        row.started.SetInParent()
        row.step.CopyFrom(image_pb2.StepProgress(step=step or work.steps, steps=work.steps))
    return row


async def told(member: Member) -> list[str | None]:
    return [m.WhichOneof("message") for m in await sent(member) if m is not None]


@pytest.mark.parametrize("policy", policies.names())
async def test_a_new_coordinator_goes_on_with_a_row_and_its_client_finds_it(policy: str) -> None:
    work = await given(seed=7)
    bench = Bench(policy=policy)
    node, dropped = bench.rejoin("a", held(work, step=3))
    assert dropped == []
    assert bench.counters["accepted"] == bench.dispatcher.counters.adopted == 1
    events = bench.submit(seed=7)
    assert await works(node) == []
    progress = image_pb2.StepProgress(step=4, steps=10)
    bench.report(node, work, step=progress)
    bench.done(node, work)
    got = await follow(events)
    assert kinds(got) == ["step", "image"]
    image = got[-1].image
    assert (image.data, image.seed, image.level, image.attempts) == (b"png", 7, "base-10", 1)
    assert (image.steps, image.predicted_quality, image.node) == (10, 1.0, "a")
    assert image.total_s == pytest.approx(4.0)
    assert bench.counters["answered"] == 1
    assert len(node.backlog) == 0


async def test_a_drawn_seed_goes_with_the_row() -> None:
    work = await given()
    bench = Bench()
    node, _ = bench.rejoin("a", held(work, step=3))
    events = bench.submit()
    bench.done(node, work)
    assert (await follow(events))[-1].image.seed == work.seed


async def test_a_picture_finished_meanwhile_is_remembered_for_its_client() -> None:
    work = await given(seed=7)
    bench = Bench(result_ttl_s=60.0)
    node, dropped = bench.rejoin("a", held(work, data=b"png"))
    assert dropped == []
    bench.done(node, work)
    assert not bench.dispatcher.flights
    bench.pass_time(30.0)
    assert (await follow(bench.submit(seed=7)))[-1].image.data == b"png"
    assert await works(node) == []
    # Another coordinator accepted it, and may have answered it.
    assert bench.counters == dict.fromkeys(bench.counters, 0)
    with pytest.raises(InvalidArgumentError, match="request_id"):
        bench.submit(seed=8)


async def test_a_row_that_nobody_asks_for_is_cancelled_after_its_grace() -> None:
    work = await given()
    bench = Bench(adopted_grace_s=10.0, reattach_grace_s=1.0)
    node, _ = bench.rejoin("a", held(work, step=3))
    bench.pass_time(9.0)
    assert await told(node) == []
    bench.pass_time(1.5)
    (cancel,) = await sent(node)
    assert cancel is not None
    assert (cancel.cancel.request_id, cancel.cancel.attempt) == (work.request_id, 1)
    assert bench.counters["cancelled"] == 1


async def test_a_client_that_came_and_left_has_the_usual_grace() -> None:
    work = await given()
    bench = Bench(adopted_grace_s=10.0, reattach_grace_s=1.0)
    node, _ = bench.rejoin("a", held(work, step=3))
    bench.dispatcher.unsubscribe(bench.submit())
    bench.pass_time(1.5)
    assert await told(node) == ["cancel"]


async def test_the_time_left_to_the_deadline_goes_along() -> None:
    work = await given(deadline_s=20.0)
    work.deadline_s = 5.0
    bench = Bench()
    bench.rejoin("a", held(work, step=3))
    events = bench.submit(deadline_s=6.0)
    bench.pass_time(4.0)
    assert bench.dispatcher.flights
    bench.pass_time(1.5)
    with pytest.raises(DeadlineError, match="not ready within 20 s"):
        await follow(events)


@pytest.mark.parametrize("policy", policies.names())
async def test_a_row_taken_up_and_lost_is_made_elsewhere(policy: str) -> None:
    work = await given(seed=7)
    bench = Bench(policy=policy)
    node, _ = bench.rejoin("a", held(work, step=3))
    events = bench.submit(seed=7)
    bench.dispatcher.node_lost(node, "cut", died=False)
    bench.watchdog.check()
    second = bench.join("b")
    bench.pass_time(0.1)
    again = await one_work(second)
    assert (again.attempt, again.seed) == (2, 7)
    bench.done(second, again)
    assert (await follow(events))[-1].image.attempts == 2
    assert bench.counters["answered"] == 1


async def test_a_row_that_was_lost_and_is_not_asked_for_is_not_begun_anew() -> None:
    work = await given(seed=7)
    bench = Bench()
    node, _ = bench.rejoin("a", held(work, step=3))
    bench.dispatcher.node_lost(node, "cut", died=False)
    second = bench.join("b")
    bench.pass_time(0.1)
    assert await works(second) == []
    bench.pass_time(20.0)
    assert not bench.dispatcher.flights


async def test_the_same_coordinator_takes_back_a_row_that_waits_for_another_node() -> None:
    bench = Bench()
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    bench.start(node, work)
    bench.dispatcher.node_lost(node, "cut", died=False)
    back, dropped = bench.rejoin("a", held(work, run="this", step=3))
    assert dropped == []
    assert await works(back) == []
    bench.done(back, work)
    image = (await follow(events))[-1].image
    assert (image.attempts, image.node) == (1, "a")
    assert bench.counters["accepted"] == bench.counters["answered"] == 1
    assert bench.dispatcher.counters.adopted == 0


async def test_a_row_sent_elsewhere_but_not_begun_there_is_taken_back() -> None:
    bench = Bench()
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    second = bench.join("b")
    bench.dispatcher.node_lost(node, "cut", died=False)
    again = await one_work(second)
    back, dropped = bench.rejoin("a", held(work, run="this", step=3))
    assert dropped == []
    assert await told(second) == ["cancel"]
    bench.start(second, again)
    bench.done(second, again, b"other")
    bench.done(back, work)
    assert (await follow(events))[-1].image.data == b"png"
    assert len(second.backlog) == 0


async def test_a_row_begun_elsewhere_is_dropped_unless_its_picture_is_done() -> None:
    bench = Bench()
    node = bench.join("a")
    second = bench.join("b")
    events = [bench.submit("r0"), bench.submit("r1")]
    first = {w.request_id: w for w in await works(node)} | {
        w.request_id: w for w in await works(second)
    }
    for name in ("a", "b"):
        bench.dispatcher.node_lost(bench.membership.get(name) or node, "cut", died=False)
    third = bench.join("c")
    for again in await works(third):
        bench.start(third, again)
    begun = held(first["r0"], run="this", step=3)
    finished = held(first["r1"], run="this", data=b"png")
    back, dropped = bench.rejoin("a", begun, finished)
    assert dropped == ["r0"]
    cancel = next(m for m in await sent(third) if m is not None).cancel
    assert (cancel.request_id, cancel.attempt) == ("r1", 2)
    bench.done(back, first["r1"])
    assert (await follow(events[1]))[-1].image.data == b"png"
    assert "r0" in bench.dispatcher.flights


async def test_a_row_whose_client_left_meanwhile_is_dropped_by_its_own_coordinator() -> None:
    bench = Bench(reattach_grace_s=0.0)
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    bench.dispatcher.node_lost(node, "cut", died=False)
    bench.dispatcher.unsubscribe(events)
    _, dropped = bench.rejoin("a", held(work, run="this", step=3))
    assert dropped == ["r"]


async def test_two_nodes_with_one_request_make_one_picture() -> None:
    work = await given(seed=7)
    other = cluster_pb2.Work()
    other.CopyFrom(work)
    other.attempt = 2
    bench = Bench()
    one, dropped_one = bench.rejoin("a", held(work, step=3))
    _, dropped_two = bench.rejoin("b", held(other, step=8))
    assert (dropped_one, dropped_two) == ([], ["r"])
    assert len(one.backlog) == 1


async def test_a_request_that_came_anew_is_made_by_the_row_that_is_brought_along() -> None:
    work = await given()
    bench = Bench()
    second = bench.join("b")
    events = bench.submit()
    again = await one_work(second)
    node, dropped = bench.rejoin("a", held(work, step=3))
    assert dropped == []
    assert await told(second) == ["cancel"]
    bench.start(second, again)
    bench.done(node, work)
    assert (await follow(events))[-1].image.seed == work.seed
    assert bench.counters["accepted"] == 1


async def test_a_row_of_other_parameters_under_the_same_id_is_dropped() -> None:
    work = await given(seed=7)
    bench = Bench()
    bench.join("b")
    bench.submit(seed=8)
    _, dropped = bench.rejoin("a", held(work, step=3))
    assert dropped == ["r"]


async def test_what_failed_under_another_coordinator_is_not_passed_on() -> None:
    work = await given(seed=7)
    bench = Bench()
    row = held(work)
    row.ended = True
    _, dropped = bench.rejoin("a", row)
    assert dropped == ["r"]
    assert not bench.dispatcher.flights


@pytest.mark.parametrize(
    "spoil",
    [
        lambda row: row.work.ClearField("claim"),
        lambda row: setattr(row.work, "variant", "nobody's"),
        lambda row: setattr(row.work, "prompt", " "),
        lambda row: setattr(row.work, "request_id", "not an id"),
        lambda row: setattr(row.work, "skip", 10),
        lambda row: setattr(row.work.claim, "quality", float("nan")),
        lambda row: setattr(row, "age_s", float("inf")),
        lambda row: setattr(row.work, "tenant", SHADOW_TENANT),
    ],
)
async def test_a_row_that_makes_no_sense_is_dropped_and_the_node_stays(spoil: Any) -> None:
    row = held(await given(), step=3)
    spoil(row)
    bench = Bench()
    _, dropped = bench.rejoin("a", row)
    assert len(dropped) == 1
    assert not bench.dispatcher.flights
    assert bench.counters["accepted"] == 0


async def test_requests_of_the_coordinator_itself_are_not_claimed() -> None:
    work = await given(tenant=SHADOW_TENANT)
    assert not work.HasField("claim")
    client = await given(tenant="t")
    assert client.claim.request.prompt == client.claim.request.tenant == ""


async def test_handing_over_cancels_nothing_on_the_nodes() -> None:
    bench = Bench()
    node = bench.join("a")
    events = bench.submit()
    await one_work(node)
    bench.dispatcher.hand_over(UnavailableError("another leads"))
    with pytest.raises(UnavailableError, match="another leads"):
        await follow(events)
    assert await sent(node) == []


async def test_a_row_that_started_from_a_state_is_said_to_have_and_is_made_whole_if_lost() -> None:
    work = await given(seed=7)
    work.skip, work.start_key, work.claim.similarity = 3, "k", 0.9
    bench = Bench()
    row = held(work, step=2)
    row.started.skipped = 3
    node, _ = bench.rejoin("a", row)
    events = bench.submit(seed=7)
    bench.done(node, work)
    image = (await follow(events))[-1].image
    assert (image.steps, image.skipped_steps, image.similarity) == (7, 3, 0.9)

    bench = Bench()
    node, _ = bench.rejoin("a", row)
    events = bench.submit(seed=7)
    bench.dispatcher.node_lost(node, "cut", died=False)
    second = bench.join("b")
    bench.pass_time(0.1)
    again = await one_work(second)
    assert (again.skip, again.steps) == (0, 10)
    bench.done(second, again)
    assert (await follow(events))[-1].image.similarity == 0.0


async def test_a_row_whose_state_was_missed_is_said_to_have_run_every_step() -> None:
    work = await given(seed=7)
    work.skip, work.start_key, work.claim.similarity = 3, "k", 0.9
    bench = Bench()
    node, _ = bench.rejoin("a", held(work, step=2))
    events = bench.submit(seed=7)
    bench.done(node, work)
    assert (await follow(events))[-1].image.steps == 10


def hang(bench: Bench, node: Member) -> None:
    """Let a node's device do nothing, although it has a row, until the node is given up."""
    began_s = bench.clock.now()
    while bench.membership.is_member(node):
        bench.clock.advance(0.5)
        idle_s = bench.clock.now() - began_s
        assert idle_s < 60.0
        node.beat(cluster_pb2.Heartbeat(rows=1, device_idle_s=idle_s), bench.clock.now())
        bench.watchdog.check()


async def test_a_row_that_hangs_a_device_twice_ends_though_the_node_brings_it_back() -> None:
    bench = Bench(max_attempts=9)
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    hang(bench, node)
    back, dropped = bench.rejoin("a", held(work, run="this"))
    assert dropped == []
    hang(bench, back)
    with pytest.raises(InternalError, match="given up after 2 attempts.*device did nothing"):
        await follow(events)


async def test_of_a_row_that_comes_back_only_the_hung_device_is_remembered() -> None:
    bench = Bench(max_attempts=3)
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    hang(bench, node)
    for _ in range(5):
        node, dropped = bench.rejoin("a", held(work, run="this"))
        assert dropped == []
        bench.start(node, work)
        bench.report(node, work, step=image_pb2.StepProgress(step=4, steps=10))
        bench.dispatcher.node_lost(node, "its connection ended")
    node, _ = bench.rejoin("a", held(work, run="this", step=4))
    bench.done(node, work)
    # The one loss that counts is the device's.
    assert (await follow(events))[-1].image.attempts == 2


async def test_a_node_that_is_found_again_with_its_row_did_not_die_of_it() -> None:
    bench = Bench(max_attempts=2)
    node = bench.join("a")
    events = bench.submit()
    work = await one_work(node)
    for _ in range(5):
        bench.dispatcher.node_lost(node, "its connection ended")
        node, dropped = bench.rejoin("a", held(work, run="this"))
        assert dropped == []
    bench.done(node, work)
    assert (await follow(events))[-1].image.attempts == 1


async def test_one_that_the_policy_fails_on_costs_the_others_that_seek_a_place_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = ["r0", "r1", "r2"]
    rows = [held(await given(request_id=name, seed=7)) for name in names]
    bench = Bench()
    node, _ = bench.rejoin("a", *rows)
    events = {name: bench.submit(name, seed=7) for name in names}
    bench.dispatcher.node_lost(node, "cut", died=False)
    second = bench.join("b")
    admit = bench.dispatcher.policy.admit

    def fail_on_the_first(task: Task, fleet: Fleet, now_s: float) -> Decision:
        if task.id == "r0":
            raise RuntimeError("a bug")
        return admit(task, fleet, now_s)

    monkeypatch.setattr(bench.dispatcher.policy, "admit", fail_on_the_first)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="a bug"):
            bench.dispatcher.giving.seek_places()
    bench.dispatcher.giving.pump()
    assert [work.request_id for work in await works(second)] == ["r1", "r2"]
    monkeypatch.undo()
    bench.dispatcher.giving.seek_places()
    bench.dispatcher.giving.pump()
    work = await one_work(second)
    bench.done(second, work)
    assert (await follow(events["r0"]))[-1].image.data == b"png"


@pytest.mark.parametrize("policy", policies.names())
async def test_more_rows_taken_up_and_lost_than_there_is_room_for_wait_for_it(policy: str) -> None:
    """The policy has seen no request arrive before it is asked to place them."""
    names = [f"r{i}" for i in range(9)]
    rows = [held(await given(request_id=name, seed=7)) for name in names]
    bench = Bench(policy=policy)
    node, dropped = bench.rejoin("a", *rows)
    assert dropped == []
    events = [bench.submit(name, seed=7) for name in names]
    bench.dispatcher.node_lost(node, "cut", died=False)
    second = bench.join("b", slots=1)
    bench.pass_time(0.1)
    made = 0
    while given_out := await works(second):
        for work in given_out:
            bench.start(second, work)
            bench.done(second, work)
            made += 1
    assert made == len(names)
    for subscription in events:
        assert kinds(await follow(subscription))[-1] == "image"


async def test_of_the_rows_that_may_have_hung_a_device_one_at_a_time_is_left_on_it() -> None:
    bench = Bench()
    node = bench.join("a")
    names = {"r0", "r1", "r2"}
    events = {name: bench.submit(name) for name in sorted(names)}
    given_out = {work.request_id: work for work in await works(node)}
    hang(bench, node)
    rows = [held(work, run="this") for work in given_out.values()]
    node, dropped = bench.rejoin("a", *rows)
    (left,) = names - set(dropped)
    assert await works(node) == []
    hang(bench, node)
    with pytest.raises(InternalError, match="given up after 2 attempts"):
        await follow(events.pop(left))
    node = bench.join("a")
    for _ in range(2):
        work = await one_work(node)
        bench.start(node, work)
        bench.done(node, work)
    for subscription in events.values():
        assert kinds(await follow(subscription))[-1] == "image"


async def test_one_that_may_have_hung_a_device_waits_where_its_node_has_another() -> None:
    bench = Bench(max_attempts=9)
    node = bench.join("a")
    events = [bench.submit(name) for name in ("r0", "r1")]
    first, second = await works(node)
    hang(bench, node)
    node, dropped = bench.rejoin("a", held(first, run="this"))
    assert dropped == []
    bench.pass_time(0.1)
    assert await works(node) == [], "r0 may be to blame, and so may r1"
    bench.dispatcher.node_lost(node, "cut", died=False)
    node, _ = bench.rejoin("a", held(first, run="this"))
    bench.pass_time(0.1)
    assert await works(node) == []
    bench.dispatcher.node_lost(node, "cut", died=False)
    node = bench.join("b")
    bench.pass_time(0.4)
    for _ in events:
        work = await one_work(node)
        bench.done(node, work)
    for subscription in events:
        assert kinds(await follow(subscription))[-1] == "image"
