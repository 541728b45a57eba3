"""A request that kills nodes ends after two of them, and harms nobody who stood beside it."""

from __future__ import annotations

import random

import pytest

from argus.control import policies
from argus.coordinator.membership import Member
from argus.errors import InternalError
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import Bench, follow, kinds, works

POISON = "poison"


class Ward:
    """Nodes that make what they are given, but die of one request; each death brings a new node."""

    def __init__(self, names: str, slots: int) -> None:
        self.bench = Bench()
        self.slots = slots
        self.nodes = {name: self.bench.join(name, slots=slots) for name in names}
        self.held: list[tuple[Member, cluster_pb2.Work]] = []
        self.deaths: list[list[str]] = []

    async def read(self) -> None:
        """Let nodes take what they were sent; one that takes the poison dies with all it has."""
        for name, member in tuple(self.nodes.items()):
            taken = await works(member)
            self.held += [(member, work) for work in taken]
            if any(work.request_id == POISON for work in taken):
                self.deaths.append(list(member.backlog.row_ids))
                self.held = [pair for pair in self.held if pair[0] is not member]
                self.bench.dispatcher.node_lost(member, "its connection ended")
                self.bench.pass_time(0.4)
                self.nodes[name] = self.bench.join(name, slots=self.slots)

    def finish_one(self, rng: random.Random) -> None:
        if self.held:
            member, work = self.held.pop(rng.randrange(len(self.held)))
            self.bench.start(member, work)
            self.bench.done(member, work)


@pytest.mark.parametrize("seed", range(5))
async def test_poison_kills_two_nodes_and_only_the_poison_is_failed(seed: int) -> None:
    rng = random.Random(seed)
    ward = Ward("abc", slots=4)
    names = [f"r{i}" for i in range(11)]
    names.insert(rng.randrange(12), POISON)
    asked = {name: ward.bench.submit(name) for name in names}
    for _ in range(200):
        await ward.read()
        ward.finish_one(rng)
    with pytest.raises(InternalError, match="given up after 2 attempts"):
        await follow(asked.pop(POISON))
    for subscription in asked.values():
        assert kinds(await follow(subscription))[-1] == "image"
    assert len(ward.deaths) == 2
    assert len(ward.deaths[0]) > 2, "others stood beside it"
    assert not ward.bench.dispatcher.flights


async def test_no_two_that_may_be_poison_are_on_one_node() -> None:
    bench = Bench()
    first = bench.join("a", slots=6)
    subscriptions = [bench.submit(f"r{i}") for i in range(6)]
    assert len(await works(first)) == 6
    second, third = bench.join("b", slots=8), bench.join("c", slots=8)
    bench.dispatcher.node_lost(first, "its connection ended")
    bench.pass_time(0.4)
    made = 0
    while made < 6:
        batches = [(member, await works(member)) for member in (second, third)]
        assert all(len(batch) <= 1 for _, batch in batches)
        assert any(batch for _, batch in batches)
        for member, batch in batches:
            for work in batch:
                bench.start(member, work)
                bench.done(member, work)
                made += 1
    for subscription in subscriptions:
        assert kinds(await follow(subscription))[-1] == "image"


@pytest.mark.parametrize("policy", policies.names())
async def test_no_policy_puts_two_of_them_on_one_node(policy: str) -> None:
    bench = Bench(max_attempts=9, policy=policy)
    first = bench.join("a", slots=6)
    subscriptions = [bench.submit(f"r{i}") for i in range(6)]
    given_out = {work.request_id for work in await works(first)}
    others = [bench.join(name, slots=8) for name in "bc"]
    bench.dispatcher.node_lost(first, "its connection ended")
    bench.pass_time(0.4)
    made = 0
    for _ in range(100):
        for member in others:
            assert len(given_out & set(member.backlog.row_ids)) <= 1
            for work in await works(member):
                bench.start(member, work)
                bench.done(member, work)
                made += 1
        bench.pass_time(0.1)
    assert made == 6
    for subscription in subscriptions:
        assert kinds(await follow(subscription))[-1] == "image"


async def test_what_was_well_on_its_way_is_replayed_at_once_and_bears_no_blame() -> None:
    bench = Bench(max_attempts=9)
    node = bench.join("a")
    for i in range(3):
        bench.submit(f"r{i}")
    for times in range(3):
        lost = await works(node)
        assert len(lost) == 3, f"after {times} losses"
        for work in lost:
            bench.start(node, work)
            bench.report(node, work, step=image_pb2.StepProgress(step=4, steps=10))
        bench.dispatcher.node_lost(node, "its connection ended")
        bench.pass_time(0.4)
        node = bench.join("a")


async def test_new_requests_do_not_wait_for_those_that_may_be_poison() -> None:
    bench = Bench()
    first = bench.join("a")
    for i in range(3):
        bench.submit(f"r{i}")
    await works(first)
    second = bench.join("b", slots=8)
    bench.dispatcher.node_lost(first, "its connection ended")
    bench.pass_time(0.4)
    bench.submit("new")
    assert [w.request_id for w in await works(second)] == ["r0", "new"]


async def test_one_that_ends_while_it_is_kept_leaves_nothing_behind() -> None:
    bench = Bench(reattach_grace_s=0.1)
    first = bench.join("a")
    kept = [bench.submit(f"r{i}") for i in range(3)]
    bench.dispatcher.node_lost(first, "its connection ended")
    bench.pass_time(0.4)
    for subscription in kept:
        bench.dispatcher.unsubscribe(subscription)
    bench.pass_time(0.2)
    assert not bench.dispatcher.flights
    second = bench.join("b")
    bench.submit("new")
    assert [w.request_id for w in await works(second)] == ["new"]


async def test_none_joins_another_when_the_node_it_waits_for_is_gone() -> None:
    bench = Bench(max_attempts=9)
    first = bench.join("a", slots=1)
    kept = [bench.submit(f"r{i}") for i in range(3)]
    assert len(await works(first)) == 3
    second, third = bench.join("b", slots=1), bench.join("c", slots=1)
    others = [bench.submit(f"other{i}") for i in range(6)]
    running = await works(second)
    assert len(running) == len(await works(third)) == 3
    bench.dispatcher.node_lost(first, "its connection ended")
    bench.pass_time(0.4)
    # Two were let go of, one for each node, and wait for room there; now one node is left.
    bench.dispatcher.node_lost(third, "it was not heard", died=False)
    bench.pass_time(0.4)
    made = []
    while len(made) < 9:
        for work in running:
            bench.start(second, work)
            bench.done(second, work)
            made.append(work.request_id)
        suspects = {"r0", "r1", "r2"} & set(second.backlog.row_ids)
        assert len(suspects) <= 1, f"after {made}"
        running = await works(second)
    for subscription in (*kept, *others):
        assert kinds(await follow(subscription))[-1] == "image"


async def test_nodes_that_die_together_convict_nobody_of_it() -> None:
    """A row of one would have gone to the other at once, which is dead already."""
    bench = Bench()
    first, second = bench.join("a"), bench.join("b")
    asked = [bench.submit(f"r{i}") for i in range(2)]
    assert len(await works(first)) + len(await works(second)) == 2
    bench.dispatcher.node_lost(first, "its connection ended")
    second.beat(cluster_pb2.Heartbeat(), bench.clock.now())  # it was under way
    bench.dispatcher.giving.give_out()
    assert not await works(second)
    bench.clock.advance(0.1)
    bench.dispatcher.node_lost(second, "its connection ended")
    third = bench.join("c")
    bench.pass_time(0.4)
    for work in await works(third):
        bench.start(third, work)
        bench.done(third, work)
    bench.pass_time(0.1)
    for work in await works(third):
        bench.start(third, work)
        bench.done(third, work)
    for subscription in asked:
        assert kinds(await follow(subscription))[-1] == "image"
