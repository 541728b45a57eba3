"""The life of a request on a manual clock; nothing here sleeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from argus.coordinator.membership import LOOKAHEAD_ROWS
from argus.errors import (
    DeadlineError,
    InvalidArgumentError,
    OverloadedError,
    UnavailableError,
)
from argus.types import ImageRequest
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import BASE, Bench, follow, kinds, one_work, sent, works


async def test_a_request_goes_through_its_life_and_its_times_add_up() -> None:
    bench = Bench()
    node = bench.join()
    events = bench.submit(seed=7)
    work = await one_work(node)
    assert (work.seed, work.steps, work.level, work.attempt) == (7, 10, "base-10", 1)
    assert not work.HasField("deadline_s")
    bench.clock.advance(0.5)
    bench.start(node, work)
    step = image_pb2.StepProgress(step=1, steps=10, lanes=2)
    bench.report(node, work, step=step)
    bench.report(node, work, preview=image_pb2.Preview(step=1, data=b"jpg"))
    bench.report(node, work, warning=image_pb2.Warning(code="PROMPT_TRUNCATED"))
    bench.clock.advance(2.0)
    bench.done(node, work)
    got = await follow(events)
    assert kinds(got) == ["queued", "started", "step", "preview", "warning", "image"]
    assert got[0].queued.predicted_s == pytest.approx(1.1)
    assert (got[1].started.node, got[1].started.steps, got[1].started.attempt) == ("n1", 10, 1)
    image = got[-1].image
    assert (image.queued_s, image.running_s, image.total_s) == (0.5, 1.0, 2.5)
    assert (image.seed, image.attempts, image.max_lanes, image.data) == (7, 1, 2, b"png")
    assert (image.width, image.sampler, image.guidance) == (64, "ddim", 5.0)
    assert bench.counters["answered"] == bench.counters["on_time"] == 1
    assert not bench.dispatcher.flights
    assert len(node.backlog) == 0


async def test_what_the_client_asked_of_the_sampler_reaches_the_node() -> None:
    bench = Bench()
    node = bench.join(variant=replace(BASE, accepts=("eta", "guidance_rescale", "true_guidance")))
    asked = {"eta": 0.25, "guidance_rescale": 0.5, "true_guidance": 2.0}
    bench.submit(**asked)
    work = await one_work(node)
    assert {name: getattr(work, name) for name in asked} == asked


async def test_a_node_holds_few_rows_beyond_its_slots_and_the_rest_wait_here() -> None:
    bench = Bench()
    node = bench.join(slots=2)
    for i in range(10):
        bench.submit(f"r{i}")
    first = await works(node)
    assert len(first) == 2 + LOOKAHEAD_ROWS
    assert bench.dispatcher.not_started == 10
    bench.start(node, first[0])
    bench.done(node, first[0])
    assert [w.request_id for w in await works(node)] == ["r4"]


async def test_the_earliest_deadline_goes_first_then_arrival() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("patient")
    bench.submit("late", deadline_s=50.0)
    bench.submit("soon", deadline_s=20.0)
    for work in await works(node):
        bench.done(node, work)
    assert [w.request_id for w in await works(node)] == ["soon", "late", "patient"]


async def test_a_waiting_request_without_a_deadline_is_not_overtaken_for_ever() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("patient")
    bench.pass_time(50.0)
    bench.submit("newer", deadline_s=30.0)
    for work in await works(node):
        bench.done(node, work)
    assert [w.request_id for w in await works(node)] == ["patient", "newer"]


async def test_a_far_deadline_does_not_wait_behind_those_without_one() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("far", deadline_s=3600.0)
    bench.submit("newer")
    for work in await works(node):
        bench.done(node, work)
    assert [w.request_id for w in await works(node)] == ["far", "newer"]


async def test_a_tight_deadline_degrades_and_no_deadline_never_does() -> None:
    bench = Bench()
    node = bench.join()
    bench.submit("tight", deadline_s=0.9)
    bench.submit("free")
    tight, free = await works(node)
    assert (tight.level, tight.steps) == ("base-5", 5)
    assert tight.deadline_s == pytest.approx(0.9)
    assert (free.level, free.steps) == ("base-10", 10)


async def test_a_waiting_request_takes_a_better_level_only_when_nobody_waits_behind() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("a", deadline_s=2.0)
    level = bench.dispatcher.flights["a"].decision.offer.level.name
    assert level == "base-5"
    node.backlog.full = True
    for work in await works(node):
        bench.done(node, work)
    bench.pass_time(0.1)
    assert [(w.request_id, w.level) for w in await works(node)] == [("a", "base-10")]


async def test_a_deadline_that_passes_ends_the_request_and_frees_the_row() -> None:
    bench = Bench()
    node = bench.join()
    events = bench.submit(deadline_s=2.0)
    work = await one_work(node)
    bench.start(node, work)
    bench.pass_time(2.1)
    with pytest.raises(DeadlineError, match="within 2 s"):
        await follow(events)
    (cancel,) = await sent(node)
    assert cancel is not None
    assert (cancel.cancel.request_id, cancel.cancel.attempt) == ("r", 1)
    assert len(node.backlog) == 0
    bench.done(node, work)
    assert bench.counters["failed"] == 1
    assert bench.counters["answered"] == 0


async def test_a_queued_request_that_can_no_longer_be_on_time_is_not_sent() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    events = bench.submit("a", deadline_s=6.0)
    fillers = await works(node)
    bench.pass_time(5.8)
    for work in fillers:
        bench.done(node, work)
    with pytest.raises(DeadlineError, match=r"are left and at least 0\.6 s needed"):
        await follow(events)
    assert await works(node) == []


async def test_a_request_that_might_still_make_it_is_sent_at_its_fastest_level() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("a", deadline_s=4.0)
    fillers = await works(node)
    bench.pass_time(3.395)
    for work in fillers:
        bench.done(node, work)
    assert [(w.request_id, w.level) for w in await works(node)] == [("a", "base-5")]


async def test_a_request_that_would_be_late_behind_others_waits_for_a_free_slot() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    for i in range(3):
        bench.submit(f"filler{i}")
    bench.submit("a", deadline_s=4.0)
    fillers = await works(node)
    bench.pass_time(3.2)
    bench.done(node, fillers[0])
    assert await works(node) == []
    for work in fillers[1:]:
        bench.done(node, work)
    assert [(w.request_id, w.level) for w in await works(node)] == [("a", "base-5")]


async def test_without_any_node_new_requests_are_turned_away_at_once() -> None:
    bench = Bench()
    with pytest.raises(UnavailableError):
        bench.submit()
    gone = bench.join()
    bench.membership.leave(gone)
    with pytest.raises(UnavailableError):
        bench.submit()
    assert bench.counters["accepted"] == 0


async def test_accepted_requests_wait_for_a_node_to_come_back_but_not_for_ever() -> None:
    bench = Bench(lease_s=1.0, node_wait_s=3.0)
    node = bench.join("a")
    back, lost = bench.submit("back"), bench.submit("lost")
    bench.dispatcher.node_lost(node, "cut", died=False)
    bench.pass_time(2.0)
    again = bench.join("a")
    for work in await works(again):
        if work.request_id == "back":
            bench.done(again, work)
    assert kinds(await follow(back))[-1] == "image"
    bench.dispatcher.node_lost(again, "cut", died=False)
    bench.pass_time(0.1)
    bench.pass_time(2.9)
    assert "lost" in bench.dispatcher.flights
    bench.pass_time(0.2)
    with pytest.raises(UnavailableError, match="came back"):
        await follow(lost)


async def test_a_policy_that_fails_hides_no_other_error_and_loses_no_request(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    node = bench.join("a")
    subscription = bench.submit()

    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    def out_of_place() -> None:
        with bench.dispatcher.giving.together():
            bench.dispatcher.giving.pump()
            raise InvalidArgumentError("message", "out of place")

    with monkeypatch.context() as patch:
        patch.setattr(bench.dispatcher.policy, "dispatch", broken)
        with pytest.raises(InvalidArgumentError):
            out_of_place()
        bench.dispatcher.node_lost(node, "cut", died=False)
    assert "giving out work failed" in caplog.text
    again = bench.join("a")
    bench.done(again, await one_work(again))
    assert kinds(await follow(subscription))[-1] == "image"


async def test_the_queue_is_bounded_and_says_when_to_come_back() -> None:
    bench = Bench(max_in_flight=3)
    bench.join()
    for i in range(3):
        bench.submit(f"r{i}")
    with pytest.raises(OverloadedError) as caught:
        bench.submit("r3")
    assert caught.value.retry_after_s > 0
    assert bench.counters["refused"] == 1


async def test_one_tenant_that_fills_the_queue_gives_others_their_share() -> None:
    bench = Bench(max_in_flight=4)
    node = bench.join(slots=8)
    for i in range(4):
        bench.submit(f"a{i}", tenant="a")
    with pytest.raises(OverloadedError):
        bench.submit("b0", tenant="b")
    given = await works(node)
    for i in range(2):
        bench.done(node, given[i])
        with pytest.raises(OverloadedError):
            bench.submit("a-more", tenant="a")
        bench.submit(f"b{i}", tenant="b")
    bench.done(node, given[2])
    bench.submit("a-more", tenant="a")


async def test_the_same_id_joins_the_request_in_flight_and_later_gets_the_same_image() -> None:
    bench = Bench(result_ttl_s=10.0)
    node = bench.join()
    one = bench.submit(seed=1)
    two = bench.submit(seed=1, deadline_s=30.0)
    work = await one_work(node)
    bench.done(node, work)
    assert (await follow(one))[-1] == (await follow(two))[-1]
    three = bench.submit(seed=1)
    assert kinds(await follow(three)) == ["image"]
    assert bench.counters["accepted"] == 1
    bench.pass_time(11.0)
    bench.submit(seed=1)
    assert bench.counters["accepted"] == 2


async def test_the_same_id_with_other_parameters_is_refused() -> None:
    bench = Bench()
    node = bench.join()
    bench.submit(seed=1)
    with pytest.raises(InvalidArgumentError, match="request_id"):
        bench.submit(seed=2)
    bench.done(node, await one_work(node))
    with pytest.raises(InvalidArgumentError, match="request_id"):
        bench.submit(seed=2)


async def test_a_row_nobody_knows_is_cancelled_on_its_node_once() -> None:
    bench = Bench()
    node = bench.join()
    stray = cluster_pb2.Work(request_id="stray", attempt=4)
    for step in range(5):
        bench.report(node, stray, step=image_pb2.StepProgress(step=step + 1))
    bench.done(node, stray)
    (cancel,) = await sent(node)
    assert cancel is not None
    assert (cancel.cancel.request_id, cancel.cancel.attempt) == ("stray", 4)


async def test_after_closing_new_requests_are_refused_and_the_rest_can_be_ended() -> None:
    bench = Bench()
    bench.join()
    events = bench.submit()
    bench.dispatcher.close()
    with pytest.raises(UnavailableError, match="stopping"):
        bench.submit("new")
    bench.dispatcher.abort_all(UnavailableError("bye"))
    with pytest.raises(UnavailableError, match="bye"):
        await follow(events)
    await bench.dispatcher.wait_empty()


async def test_who_finds_no_room_is_told_before_anything_is_done_and_counted_once() -> None:
    bench = Bench(max_in_flight=1)
    bench.join()
    new = ImageRequest(request_id="new", prompt="p", variant="no such thing")
    bench.dispatcher.check_room(new)
    bench.submit("first")
    gives_way: list[str] = []
    bench.dispatcher.before_accept = lambda: gives_way.append("asked")
    with pytest.raises(OverloadedError) as caught:
        bench.dispatcher.check_room(new)
    assert caught.value.retry_after_s == pytest.approx(1.1)
    assert (bench.counters["refused"], gives_way) == (1, ["asked"])
