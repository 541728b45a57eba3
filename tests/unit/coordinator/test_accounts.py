"""Counters and backlogs under random lives, on a manual clock; nothing here sleeps."""

from __future__ import annotations

import contextlib
import random

import pytest

from argus.coordinator.flight import Phase
from argus.coordinator.subscription import Subscription
from argus.errors import (
    DeadlineError,
    OverloadedError,
    UnavailableError,
)
from argus.v1 import cluster_pb2
from tests.unit.coordinator.bench import Bench, works


class RandomLife:
    """Does random things to a bench and keeps what nodes were given."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.bench = Bench(max_in_flight=40, max_attempts=3, reattach_grace_s=0.1)
        self.nodes = {name: self.bench.join(name, slots=3) for name in "ab"}
        self.subscriptions: list[Subscription] = []
        self.held: list[tuple[str, cluster_pb2.Work]] = []
        self.asked = 0

    def ask(self) -> None:
        self.asked += 1
        deadline_s = self.rng.choice([None, 2.0, 10.0])
        with contextlib.suppress(OverloadedError, DeadlineError, UnavailableError):
            subscription = self.bench.submit(f"r{self.asked}", deadline_s=deadline_s)
            self.subscriptions.append(subscription)

    def leave(self) -> None:
        if self.subscriptions:
            index = self.rng.randrange(len(self.subscriptions))
            self.bench.dispatcher.unsubscribe(self.subscriptions.pop(index))

    def lose(self) -> None:
        name = self.rng.choice("ab")
        self.bench.dispatcher.node_lost(self.nodes[name], "cut")
        self.nodes[name] = self.bench.join(name, slots=3)

    def wait(self) -> None:
        self.bench.pass_time(0.1)

    def work(self) -> None:
        if not self.held:
            return
        name, work = self.held.pop(self.rng.randrange(len(self.held)))
        self.bench.start(self.nodes[name], work)
        if self.rng.random() < 0.8:
            self.bench.done(self.nodes[name], work)
        else:
            self.bench.fail(self.nodes[name], work, self.rng.randint(1, 6), "prompt: no")

    async def act(self) -> None:
        actions = [self.ask, self.leave, self.lose, self.wait, self.work]
        self.rng.choices(actions, [35, 20, 2, 8, 35])[0]()
        for name, member in self.nodes.items():
            self.held += [(name, work) for work in await works(member)]


@pytest.mark.parametrize("seed", range(5))
async def test_counters_and_backlogs_never_drift(seed: int) -> None:
    """Random lives; whatever happens, the sums hold and at the end nothing is left."""
    life = RandomLife(seed)
    bench, nodes = life.bench, life.nodes
    for _ in range(2000):
        await life.act()
        c, flights = bench.counters, bench.dispatcher.flights
        assert c["accepted"] == c["answered"] + c["cancelled"] + c["failed"] + len(flights)
        on_nodes = sum(len(member.backlog) for member in nodes.values())
        assert on_nodes == sum(f.phase in {Phase.ASSIGNED, Phase.RUNNING} for f in flights.values())
    for subscription in life.subscriptions:
        bench.dispatcher.unsubscribe(subscription)
    bench.pass_time(2 * bench.config.reattach_grace_s)
    assert not bench.dispatcher.flights
    assert all(len(member.backlog) == 0 for member in nodes.values())
    assert bench.counters["cancelled"] > 20
