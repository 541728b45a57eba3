"""Any policy drives the live coordinator; nothing here sleeps."""

from __future__ import annotations

import pytest

from argus.config import CoordinatorConfig
from argus.control import policies
from argus.coordinator.named import make_policy
from argus.coordinator.views import policy_status
from argus.errors import ConfigError
from tests.unit.coordinator.bench import Bench, follow, kinds, works


@pytest.mark.parametrize("name", policies.names())
async def test_every_policy_serves_and_replays_what_a_node_lost(name: str) -> None:
    bench = Bench(policy=name)
    nodes = {n: bench.join(n) for n in "ab"}
    bench.dispatcher.giving.plan()
    events = [bench.submit(f"r{i}", deadline_s=60.0, seed=i) for i in range(16)]
    await works(nodes["a"])
    bench.dispatcher.node_lost(nodes.pop("a"), "cut")
    nodes["c"] = bench.join("c")
    for _ in range(40):
        for node in nodes.values():
            for work in await works(node):
                bench.start(node, work)
                bench.done(node, work)
        bench.pass_time(0.2)
    ends = [kinds(await follow(each))[-1] for each in events]
    assert ends == ["image"] * 16
    assert bench.counters["answered"] == 16
    assert bench.counters["replayed"] > 0
    assert not bench.dispatcher.flights
    assert all(len(node.backlog) == 0 for node in nodes.values())


def test_a_policy_that_does_not_exist_is_a_wrong_setting() -> None:
    with pytest.raises(
        ConfigError, match=r"^coordinator\.policy: unknown 'argsu' \(did you mean 'argus'"
    ):
        make_policy("argsu")
    assert make_policy(CoordinatorConfig().policy) is not None


async def test_the_status_has_the_price_of_a_policy_that_has_one_and_its_plan() -> None:
    bench = Bench()
    node = bench.join(slots=1)
    policy = bench.dispatcher.policy
    before = policy_status("argus", policy, bench.clock.now())
    assert before.price == 0.0
    assert not before.HasField("plan_age_s")
    for i in range(40):
        bench.submit(f"r{i}", deadline_s=60.0)
        bench.pass_time(1.0)
        node.moved(bench.clock.now())  # for all that the coordinator knows
    bench.done(node, (await works(node))[0])
    status = policy_status("argus", policy, bench.clock.now())
    assert status.price > 0.0
    assert status.HasField("plan_age_s")
    assert status.arrivals_per_s == pytest.approx(1.0, rel=0.1)
    assert status.load == pytest.approx(status.arrivals_per_s * 1.1, rel=0.01), "1.1 s a picture"
    plain = policy_status("clipper-ht", policies.make("clipper-ht"), bench.clock.now())
    assert not plain.HasField("price")
