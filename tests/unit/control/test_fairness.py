"""Shares follow the weights within the published bound; nobody waits for ever or saves up."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from argus.control.fairness import HEAD_START_S, TIDY_AT, FairShares, Share

Work = tuple[str, float]


class Server:
    """One device that serves what waits by turns, one request after the other."""

    def __init__(self, shares: dict[str, Share]) -> None:
        self.fair = FairShares(lambda tenant: shares.get(tenant, Share()))
        self.waiting: dict[str, deque[float]] = {}

    def ask(self, tenant: str, cost_s: float) -> None:
        self.waiting.setdefault(tenant, deque()).append(cost_s)
        self.fair.wait(tenant)

    def serve(self) -> Work:
        tenant = min(self.waiting, key=self.fair.place_s)
        cost_s = self.waiting[tenant].popleft()
        self.fair.began(tenant, cost_s)
        if not self.waiting[tenant]:
            del self.waiting[tenant]
            self.fair.rest(tenant)
        return tenant, cost_s


def backlogged(
    shares: dict[str, Share], cost_of: Callable[[str, int], float], count: int
) -> list[Work]:
    """Return what a device serves to tenants who all have requests waiting all the time."""
    server = Server(shares)
    for tenant in shares:
        for i in range(count):
            server.ask(tenant, cost_of(tenant, i))
    return [server.serve() for _ in range(count)]


COSTS = st.floats(0.01, 10.0)


@given(
    st.lists(st.tuples(st.floats(0.1, 10.0), st.lists(COSTS, min_size=3, max_size=3)), min_size=2,
             max_size=4),
)  # fmt: skip
@settings(max_examples=30, deadline=None)
def test_two_that_wait_never_differ_by_more_than_the_theorem_allows(
    tenants: list[tuple[float, Sequence[float]]],
) -> None:
    shares = {f"t{i}": Share(weight) for i, (weight, _) in enumerate(tenants)}
    costs = {f"t{i}": cost for i, (_, cost) in enumerate(tenants)}
    served = dict.fromkeys(shares, 0.0)
    for tenant, cost_s in backlogged(shares, lambda t, i: costs[t][i % 3], 60):
        served[tenant] += cost_s
        for one in shares:
            for other in shares:
                given_one = served[one] / shares[one].weight
                given_other = served[other] / shares[other].weight
                slack = max(costs[one]) / shares[one].weight
                slack += max(costs[other]) / shares[other].weight
                assert given_one - given_other <= slack * (1 + 1e-9)


def test_a_flood_does_not_delay_one_who_asks_seldom() -> None:
    server = Server({})
    for _ in range(1000):
        server.ask("flood", 1.0)
    for _ in range(100):
        server.serve()
    server.ask("seldom", 1.0)
    assert "seldom" in {server.serve()[0] for _ in range(2)}


def test_who_was_idle_has_saved_nothing_up() -> None:
    server = Server({})
    server.ask("sleeper", 1.0)
    for _ in range(200):
        server.ask("busy", 1.0)
    for _ in range(100):
        server.serve()
    for _ in range(50):
        server.ask("sleeper", 1.0)
    first = [server.serve()[0] for _ in range(20)]
    assert abs(first.count("sleeper") - first.count("busy")) <= 2


@given(st.integers(0, 3), st.floats(0.2, 5.0))
@settings(max_examples=20, deadline=None)
def test_priority_shortens_waits_and_leaves_shares_alone(priority: int, weight: float) -> None:
    shares = {"first": Share(weight, priority), "other": Share(1.0)}
    order = backlogged(shares, lambda t, i: 1.0, 400)
    ahead = HEAD_START_S * priority
    given_first = given_other = 0.0
    for tenant, _ in order:
        given_first += (tenant == "first") / weight
        given_other += tenant == "other"
        assert given_first - given_other <= ahead + 1 / weight + 1 + 1e-9
        assert given_other - given_first <= 1 / weight + 1 + 1e-9


def test_the_smallest_weight_is_served_within_its_share_whatever_the_priority_of_others() -> None:
    shares = {"small": Share(0.01), "large": Share(1.0, 10)}
    order = backlogged(shares, lambda t, i: 1.0, 600)
    turns = [i for i, (tenant, _) in enumerate(order) if tenant == "small"]
    assert turns[0] <= HEAD_START_S * 10 + 2
    assert all(b - a <= 102 for a, b in zip(turns, turns[1:], strict=False))
    assert len(turns) >= 5


def test_what_was_lost_is_not_held_against_its_tenant() -> None:
    fair = FairShares()
    for tenant in ("a", "b"):
        fair.wait(tenant)
    fair.began("a", 100.0)
    fair.came_back("a", 100.0)
    assert fair.place_s("a") == fair.place_s("b")
    fair.came_back("unknown", 1.0)


def test_made_up_names_do_not_fill_the_memory() -> None:
    server = Server({})
    for i in range(5 * TIDY_AT):
        server.ask(f"name-{i}", 0.001)
        server.ask("real", 0.001)
        server.serve()
        server.serve()
    assert len(server.fair) <= 2 * TIDY_AT
