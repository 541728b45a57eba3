"""Cached states in the life of requests, on a manual clock."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from local_postgres import LocalPostgres

import argus.coordinator.index_thread
import argus.coordinator.reuse
from argus.cache.index import EmbedderId
from argus.cache.index_embedded import EmbeddedIndex
from argus.config import CacheConfig
from argus.coordinator.entries import COMING_S
from argus.coordinator.views import cache_status
from argus.errors import InvalidArgumentError
from argus.v1 import cluster_pb2
from tests.unit.coordinator.bench import BASE, Bench, follow, info, kinds, works
from tests.unit.coordinator.cached import TIGHT_S, WEIGHED, Angles, CachedBench, cached_bench
from tests.unit.coordinator.polling import eventually


@pytest_asyncio.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[CachedBench]:
    async with cached_bench(monkeypatch) as bench:
        yield bench


@pytest.fixture
def server() -> Iterator[LocalPostgres]:
    server = LocalPostgres()
    yield server
    server.close()


class Held:
    """Stands in for a call of the index that lasts until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.go_on = threading.Event()

    def __call__(self, *args: object) -> dict[object, int]:
        self.reached.set()
        assert self.go_on.wait(60)
        return {}


def started(skipped: int, tier: str = "") -> cluster_pb2.WorkStarted:
    return cluster_pb2.WorkStarted(skipped=skipped, state_tier=tier, state_s=0.25 if tier else 0.0)


async def test_a_whole_row_leaves_its_states_and_a_near_prompt_starts_from_them(
    bench: CachedBench,
) -> None:
    node = bench.join_with()
    first = await bench.cache(node, "a @0")
    assert (first.skip, first.start_key, list(first.checkpoints)) == (0, "", [5])
    events = await bench.ask("b @10", deadline_s=TIGHT_S)
    (work,) = await works(node)
    assert (work.skip, work.start_key, work.steps) == (5, first.keep_key, 10)
    assert (work.keep_key, list(work.checkpoints), work.level) == ("", [], "base-skip")
    bench.report(node, work, started=started(5, "sibling"))
    bench.done(node, work)
    got = await follow(events)
    assert got[1].started.steps == 5
    image = got[-1].image
    assert (image.level, image.steps, image.skipped_steps) == ("base-skip", 5, 5)
    assert image.similarity == pytest.approx(0.9848, abs=1e-3)
    counters = bench.dispatcher.counters
    assert (counters.reused, counters.steps_saved, counters.state_misses) == (1, 5, 0)
    status = await cache_status(bench.cached)
    assert (status.entries, status.lookups, status.near) == (1, 1, 1)
    assert [(t.tier, t.p50_s) for t in status.fetches] == [("sibling", 0.25)]


async def test_a_prompt_that_is_not_near_enough_runs_every_step(bench: CachedBench) -> None:
    node = bench.join_with()
    await bench.cache(node, "a @0")
    work = await bench.work_of(node, "b @30", level="base-skip")
    assert (work.skip, work.level) == (0, "base-10")


async def test_without_a_deadline_nothing_is_looked_up_or_approximated(bench: CachedBench) -> None:
    node = bench.join_with()
    await bench.cache(node, "a @0")
    work = await bench.work_of(node, "a @0")
    assert (work.skip, work.level) == (0, "base-10")
    assert bench.cached.lookups == 0


async def test_unless_the_operator_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cached_bench(monkeypatch, mode="always") as bench:
        node = bench.join_with()
        await bench.cache(node, "a @0")
        work = await bench.work_of(node, "b @1")
        assert (work.skip, work.level) == (5, "base-skip")


async def test_a_state_that_was_not_there_is_a_miss_and_the_picture_is_a_whole_one(
    bench: CachedBench,
) -> None:
    node = bench.join_with()
    await bench.cache(node, "a @0")
    events = await bench.ask("b @10", deadline_s=TIGHT_S)
    (work,) = await works(node)
    before_s = node.backlog.drained_s()
    bench.report(node, work, started=started(0))
    assert before_s == pytest.approx(0.6)
    assert node.backlog.drained_s() == pytest.approx(1.1)
    bench.done(node, work)
    got = await follow(events)
    assert (got[1].started.level, got[1].started.steps) == ("base-10", 10)
    image = got[-1].image
    assert (image.level, image.steps, image.skipped_steps) == ("base-10", 10, 0)
    assert (image.similarity, image.predicted_quality) == (0.0, 1.0)
    counters = bench.dispatcher.counters
    assert (counters.reused, counters.steps_saved, counters.state_misses) == (0, 0, 1)
    assert counters.answered_by_level["base-10"] == 2


@pytest.mark.parametrize("word", ["gone", "unreadable"])
async def test_what_a_node_lost_is_not_offered_and_is_kept_anew(
    bench: CachedBench, word: str
) -> None:
    node = bench.join_with()
    first = await bench.cache(node, "a @0")
    bench.say(node, **{word: [first.keep_key]})
    await bench.settled()
    work = await bench.work_of(node, "b @10", level="base-skip")
    assert work.skip == 0
    again = await bench.work_of(node, "a @0", request_id="again")
    assert again.keep_key == first.keep_key


async def test_a_row_that_ends_without_a_picture_does_not_keep_others_from_leaving_states(
    bench: CachedBench,
) -> None:
    node = bench.join_with()
    first = await bench.work_of(node, "a @0", request_id="1")
    meanwhile = await bench.work_of(node, "a @0", request_id="2")
    assert first.keep_key
    assert not meanwhile.keep_key
    bench.fail(node, first, cluster_pb2.WORK_FAILURE_LATE)
    after = await bench.work_of(node, "a @0", request_id="3")
    assert after.keep_key == first.keep_key


async def test_states_that_never_come_are_waited_for_a_minute(bench: CachedBench) -> None:
    node = bench.join_with()
    first = await bench.work_of(node, "a @0", request_id="1")
    bench.done(node, first)
    bench.clock.advance(COMING_S - 1)
    assert not (await bench.work_of(node, "a @0", request_id="2")).keep_key
    bench.clock.advance(1)
    assert (await bench.work_of(node, "a @0", request_id="3")).keep_key


async def test_a_replayed_row_leaves_its_states_on_its_new_node(bench: CachedBench) -> None:
    one, two = bench.join_with("n1"), bench.join_with("n2")
    first = await bench.work_of(one, "a @0")
    bench.dispatcher.node_lost(one, "test")
    bench.pass_time(0.4)
    (again,) = await works(two)
    assert (again.keep_key, again.attempt) == (first.keep_key, 2)


async def test_nodes_of_one_machine_read_what_a_dead_one_of_them_left(bench: CachedBench) -> None:
    one = bench.join_with("n1", group="machine")
    two = bench.join_with("n2", group="machine")
    first = await bench.cache(one, "a @0")
    bench.dispatcher.node_lost(one, "test")
    work = await bench.work_of(two, "b @10", level="base-skip")
    assert (work.skip, work.start_key) == (5, first.keep_key)


async def test_what_only_a_dead_node_had_is_run_whole_and_kept_anew(bench: CachedBench) -> None:
    one, two = bench.join_with("n1"), bench.join_with("n2")
    first = await bench.cache(one, "a @0")
    events = await bench.ask("a @0", level="base-skip")
    (lost,) = await works(one)
    assert lost.skip == 5
    bench.dispatcher.node_lost(one, "test")
    bench.pass_time(0.4)
    (work,) = await works(two)
    assert (work.skip, work.level, work.keep_key) == (0, "base-10", first.keep_key)
    bench.start(two, work)
    bench.done(two, work)
    image = (await follow(events))[-1].image
    assert (image.level, image.similarity, image.attempts) == ("base-10", 0.0, 2)


async def test_a_shared_state_is_given_to_nodes_that_have_a_cache_only(bench: CachedBench) -> None:
    plain = info("a", variant=WEIGHED)
    bench.catalog.learn(plain, bench.membership.holds)
    without = bench.membership.join(plain, cluster_pb2.NodeHello(node="a"))
    one, two = bench.join_with("n1"), bench.join_with("n2")
    first = await bench.work_of(without, "a @0", request_id="1")
    bench.holds(one, first, shared=True)
    bench.done(without, first)
    await bench.settled()
    bench.dispatcher.node_lost(one, "test")
    work = await bench.work_of(two, "b @10", level="base-skip")
    assert work.start_key == first.keep_key
    assert not await works(without)


async def test_one_report_may_say_that_a_node_and_the_server_have_an_entry(
    bench: CachedBench,
) -> None:
    one, two = bench.join_with("n1"), bench.join_with("n2")
    first = await bench.work_of(one, "a @0", request_id="1")
    entries = [
        cluster_pb2.CacheEntry(key=first.keep_key, steps=[5], shared=shared)
        for shared in (False, True)
    ]
    bench.say(one, held=entries)
    bench.done(one, first)
    await bench.settled()
    bench.dispatcher.node_lost(one, "test")
    work = await bench.work_of(two, "b @10", level="base-skip")
    assert work.start_key == first.keep_key
    bench.say(two, gone_shared=[first.keep_key])
    await bench.settled()
    work = await bench.work_of(two, "b @10", level="base-skip", request_id="2")
    assert work.skip == 0


async def test_an_entry_whose_prompt_nobody_remembers_is_kept_anew(
    bench: CachedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await bench.cache(bench.join_with(), "a @0")
    entry = cluster_pb2.CacheEntry(key=first.keep_key, steps=[5])
    async with cached_bench(monkeypatch) as restarted:
        node = restarted.join_with(held=[entry])
        restarted.say(node, held=[entry])
        await restarted.settled()
        assert await restarted.cached.entries() == 0
        again = await restarted.work_of(node, "a @0", level="base-skip")
        assert (again.skip, again.keep_key) == (0, first.keep_key)


async def test_an_index_in_a_folder_outlives_the_coordinator(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached_bench(monkeypatch, folder=str(tmp_path)) as bench:
        first = await bench.cache(bench.join_with(), "a @0")
        gone = await bench.cache(bench.membership.members[0], "x @90")
    entry = cluster_pb2.CacheEntry(key=first.keep_key, steps=[5])
    async with cached_bench(monkeypatch, folder=str(tmp_path)) as restarted:
        node = restarted.join_with(held=[entry])
        await restarted.settled()
        work = await restarted.work_of(node, "b @10", level="base-skip")
        assert (work.skip, work.start_key) == (5, first.keep_key)
        assert await restarted.cached.entries() == 1
        again = await restarted.work_of(node, "x @90", request_id="x")
        assert again.keep_key == gone.keep_key


async def test_tenants_do_not_read_each_others_entries(bench: CachedBench) -> None:
    node = bench.join_with()
    await bench.cache(node, "a @0", tenant="one")
    for tenant in ("two", ""):
        work = await bench.work_of(
            node, "a @0", level="base-skip", tenant=tenant, request_id=f"of {tenant}"
        )
        assert work.skip == 0
        assert work.keep_key
    own = await bench.work_of(node, "a @0", level="base-skip", tenant="one", request_id="own")
    assert own.skip == 5


async def test_tenants_that_opted_in_share_one_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    async with cached_bench(monkeypatch, shared_tenants=("one", "two")) as bench:
        node = bench.join_with()
        await bench.cache(node, "a @0", tenant="one")
        skips = [
            (await bench.work_of(node, "a @0", level="base-skip", tenant=t, request_id=t)).skip
            for t in ("two", "three")
        ]
        assert skips == [5, 0]


async def life(bench: CachedBench, node: Any, **fields: Any) -> list[Any]:
    """Return the events of a request, each as it came."""
    events = await bench.ask("a @0", seed=1, **fields)
    (work,) = await works(node)
    bench.report(node, work, started=started(work.skip))
    bench.done(node, work)
    return await follow(events)


async def test_the_events_of_a_tenant_say_nothing_about_anothers_entries(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = []
    for others in (False, True):
        async with cached_bench(monkeypatch) as bench:
            node = bench.join_with()
            if others:
                await bench.cache(node, "a @0", tenant="other")
            mine = {"tenant": "mine", "deadline_s": 5.0}
            heard.append(
                [await life(bench, node, request_id="1", **mine),
                 await life(bench, node, request_id="2", level="base-skip", **mine)]
            )  # fmt: skip
    assert kinds(heard[0][0]) == ["queued", "started", "image"]
    assert heard[0] == heard[1]


async def test_a_broken_embedder_costs_a_look_up_and_no_request(bench: CachedBench) -> None:
    node = bench.join_with()
    await bench.cache(node, "a @0")
    bench.embedder.broken = True
    work = await bench.work_of(node, "b @10", level="base-skip")
    assert work.skip == 0
    assert bench.cached.near == 0


async def test_a_key_that_is_none_is_the_nodes_mistake(bench: CachedBench) -> None:
    node = bench.join_with()
    with pytest.raises(InvalidArgumentError, match="key"):
        bench.say(node, gone=["no key"])


async def test_requests_that_are_wrong_are_not_looked_up(bench: CachedBench) -> None:
    bench.join_with()
    for fields in ({"variant": "none"}, {"level": "none"}, {"width": 7}):
        request: dict[str, Any] = {"deadline_s": 1.0} | fields
        with pytest.raises(Exception, match=r"none|width"):
            await bench.ask("a @0", **request)
    assert bench.cached.lookups == 0


async def test_an_account_in_parts_counts_when_it_is_whole(bench: CachedBench) -> None:
    node = bench.join_with()
    entries = [(await bench.cache(node, f"a @{angle}")).keep_key for angle in (0, 90)]
    held = [cluster_pb2.CacheEntry(key=key, steps=[5]) for key in entries]
    bench.dispatcher.node_lost(node, "test")
    again = bench.join_with(held=held[:1], more=True)
    assert not again.caches
    assert await bench.cached.entries() == 2
    bench.say(again, complete=True, held=held[1:])
    await bench.settled()
    assert await bench.cached.entries() == 2
    for angle, key in zip((0, 90), entries, strict=True):
        work = await bench.work_of(again, f"b @{angle}", level="base-skip", request_id=str(angle))
        assert work.start_key == key


async def test_no_embedder_is_loaded_for_variants_that_it_is_not_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = []
    monkeypatch.setattr(argus.coordinator.reuse, "open_embedder", loaded.append)
    reuse = Bench(cache=CacheConfig()).reuse
    assert reuse is not None
    reuse.meet([WEIGHED, replace(BASE, name="scenes-base")])
    assert not reuse.busy
    reuse.meet([replace(WEIGHED, name="scenes-base")])
    assert reuse.busy
    await reuse.stop()
    assert len(loaded) <= 1


@pytest.mark.parametrize("said", ["held", "all"])
async def test_what_a_server_that_was_away_was_not_told_is_kept_anew(
    monkeypatch: pytest.MonkeyPatch, server: LocalPostgres, said: str
) -> None:
    async with cached_bench(monkeypatch, server=server.dsn) as bench:
        node = bench.join_with()
        await bench.settled()
        await asyncio.to_thread(server.stop)
        first = await bench.cache(node, "a @0")
        if said == "all":
            entry = cluster_pb2.CacheEntry(key=first.keep_key, steps=[5])
            bench.say(node, complete=True, held=[entry])
            await bench.settled()
        await asyncio.to_thread(server.start)
        bench.clock.advance(60.0)
        again = await bench.work_of(node, "a @0", request_id="again")
        assert again.keep_key == first.keep_key
        bench.holds(node, again)
        bench.done(node, again)
        await bench.settled()
        work = await bench.work_of(node, "b @10", level="base-skip", request_id="near")
        assert work.start_key == first.keep_key


async def test_what_a_node_did_not_find_on_the_server_either_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with cached_bench(monkeypatch, folder=str(tmp_path)) as bench:
        node = bench.join_with()
        keys = []
        for prompt in ("a @0", "x @90"):
            work = await bench.work_of(node, prompt, request_id=prompt)
            bench.holds(node, work, shared=True)
            bench.done(node, work)
            await bench.settled()
            keys.append(work.keep_key)
        assert await bench.cached.entries() == 2
        bench.say(node, unreadable=keys[:1])
        assert await bench.cached.entries() == 1
    async with cached_bench(monkeypatch, folder=str(tmp_path)) as restarted:
        node = restarted.join_with()
        await restarted.settled()
        assert await restarted.cached.entries() == 1
        restarted.say(node, unreadable=keys[1:])
        assert await restarted.cached.entries() == 0, "whatever the new account knew"


async def test_what_another_machine_holds_stays_when_a_node_cannot_read_it(
    bench: CachedBench,
) -> None:
    one, two = bench.join_with("n1"), bench.join_with("n2")
    first = await bench.cache(one, "a @0")
    bench.say(two, unreadable=[first.keep_key])
    assert await bench.cached.entries() == 1


@pytest.mark.parametrize("call", ["nearest", "count_use", "forget", "reconcile"])
async def test_whatever_the_index_raises_no_request_fails(
    bench: CachedBench,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    call: str,
) -> None:
    def fail(*args: object) -> None:
        raise RuntimeError("a bug in the graph")

    node = bench.join_with()
    first = await bench.cache(node, "a @0")
    monkeypatch.setattr(EmbeddedIndex, call, fail)
    work = await bench.work_of(node, "b @10", level="base-skip")
    assert work.skip == (0 if call == "nearest" else 5)
    bench.report(node, work, started=started(work.skip, "sibling"))
    bench.done(node, work)
    bench.say(node, gone=[first.keep_key])
    bench.say(node, complete=True)
    await bench.settled()
    assert "a bug in the graph" in caplog.text
    again = await bench.work_of(node, "a @0", request_id="again")
    assert again.keep_key == first.keep_key


async def test_an_entry_that_broke_the_index_is_kept_anew(
    bench: CachedBench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*args: object, **named: object) -> None:
        raise RuntimeError("a bug in the graph")

    node = bench.join_with()
    with monkeypatch.context() as broken:
        broken.setattr(EmbeddedIndex, "record", fail)
        first = await bench.cache(node, "a @0")
    assert "a bug in the graph" in caplog.text
    again = await bench.work_of(node, "a @0", request_id="again")
    assert again.keep_key == first.keep_key
    bench.holds(node, again)
    await bench.settled()
    assert await bench.cached.entries() == 1


async def test_an_index_that_cannot_be_opened_leaves_no_thread_of_an_embedder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    EmbeddedIndex(EmbedderId("another", 2), tmp_path / ".index").close()
    before = set(threading.enumerate())
    monkeypatch.setattr(argus.coordinator.reuse, "open_embedder", lambda config: Angles())
    reuse = Bench(cache=CacheConfig(embedder="angles", folder=str(tmp_path))).reuse
    assert reuse is not None
    reuse.meet([WEIGHED])
    await eventually(lambda: not reuse.busy)
    assert reuse.embedder_name == ""
    assert "embedder" not in {thread.name for thread in set(threading.enumerate()) - before}
    await reuse.stop()


async def test_look_ups_do_not_wait_for_a_save(
    bench: CachedBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    save = Held()
    monkeypatch.setattr(EmbeddedIndex, "save", save)
    monkeypatch.setattr(argus.coordinator.index_thread, "SAVE_EVERY", 1)
    node = bench.join_with()
    first = await bench.cache(node, "a @0")
    assert await asyncio.to_thread(save.reached.wait, 60)
    work = await bench.work_of(node, "b @10", level="base-skip")
    assert work.start_key == first.keep_key
    save.go_on.set()


async def test_an_index_that_does_not_answer_holds_up_neither_a_status_nor_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    partitions = Held()
    monkeypatch.setattr(argus.coordinator.reuse, "COUNT_S", 0.01)
    monkeypatch.setattr(argus.coordinator.index_thread, "CLOSE_S", 0.01)
    async with cached_bench(monkeypatch) as bench:
        node = bench.join_with()
        await bench.settled()
        monkeypatch.setattr(EmbeddedIndex, "partitions", partitions)
        assert (await cache_status(bench.cached)).entries == 0
        assert node.caches
    assert not partitions.go_on.is_set()
    partitions.go_on.set()
