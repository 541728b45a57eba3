"""The bound is above every schedule, and tight where the best schedule is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus.errors import InvalidArgumentError
from argus.sim.bound import clairvoyant_bound


def best_schedule(
    arrival: list[float], slo: float, quality: list[list[float]], cost: list[float], nodes: int
) -> float:
    """Return the most that any order, choice of levels and choice of what to leave out gives."""
    n, best = len(arrival), 0.0
    choices = [None, *range(len(cost))]
    for order in itertools.permutations(range(n)):
        for levels in itertools.product(choices, repeat=n):
            free, total = [0.0] * nodes, 0.0
            for i in order:
                level = levels[i]
                if level is None:
                    continue
                node = min(range(nodes), key=lambda k: free[k])
                finish = max(free[node], arrival[i]) + cost[level]
                if finish > arrival[i] + slo:
                    break
                free[node], total = finish, total + quality[i][level]
            else:
                best = max(best, total)
    return best


@settings(max_examples=40, deadline=None)
@given(
    gaps=st.lists(st.floats(0, 2), min_size=1, max_size=3),
    slo=st.floats(1, 4),
    nodes=st.integers(1, 2),
    data=st.data(),
    bin_s=st.sampled_from([0.25, 1.0]),
)
def test_no_schedule_is_better(
    gaps: list[float], slo: float, nodes: int, data: st.DataObject, bin_s: float
) -> None:
    arrival = list(itertools.accumulate(gaps))
    cost = [2.0, 1.0]
    worth = st.floats(0, 1)
    quality = [[data.draw(worth), data.draw(worth)] for _ in arrival]
    bound = clairvoyant_bound(
        arrival, np.array(arrival) + slo, quality, cost, nodes=nodes, bin_s=bin_s
    )
    assert bound.quality >= best_schedule(arrival, slo, quality, cost, nodes) - 1e-7


def test_ample_nodes_give_every_request_its_best_level() -> None:
    quality = [[1.0, 0.9], [0.7, 0.8], [1.0, 0.2]]
    bound = clairvoyant_bound([0, 1, 2], [9, 10, 11], quality, [2.0, 1.0], nodes=10)
    assert bound.quality == pytest.approx(2.8)
    assert bound.mean_quality == pytest.approx(2.8 / 3)


def test_what_is_gained_by_work_is_the_concave_hull_of_the_levels() -> None:
    # Levels of 4, 2 and 1 s; the middle one of the first is below the line of its neighbours, and
    # the best one of the second is no better than its middle one.
    quality = [[1.0, 0.5, 0.4], [0.9, 0.9, 0.3]]
    # 4 s in all: 1 s gives .4 for the first, 2 s .9 for the second; the fourth goes on with the
    # first towards its best level, at (1 − .4) / 3 a second.
    bound = clairvoyant_bound([0, 0], [4, 4], quality, [4.0, 2.0, 1.0], nodes=1)
    assert bound.quality == pytest.approx(1.3 + 0.2)


def test_a_crowd_at_once_shares_what_can_be_done_before_its_deadline() -> None:
    # 100 at once, one node, 60 seconds: 10 at 2 s and 40 at 1 s would be as good as 50 at 1 s and
    # so on; per second the fast level gives .9 and the slow one .5, so 60 are made fast.
    bound = clairvoyant_bound(
        np.zeros(100), np.full(100, 60.0), np.tile([1.0, 0.9], (100, 1)), [2.0, 1.0], nodes=1
    )
    assert bound.quality == pytest.approx(54.0)


def test_what_no_node_makes_in_time_is_worth_nothing() -> None:
    bound = clairvoyant_bound([0.0], [1.5], [[1.0, 0.4]], [2.0, 1.0], nodes=5)
    assert bound.quality == pytest.approx(0.4)


def test_worths_next_to_nothing_still_give_a_bound() -> None:
    quality = [[0.0, 1e-17], [1e-300, 0.0], [0.0, 0.0], [0.5, 0.5]]
    bound = clairvoyant_bound(np.zeros(4), np.full(4, 9.0), quality, [2.0, 1.0], nodes=1)
    assert bound.quality == pytest.approx(0.5)


def test_windows_in_any_order_still_give_a_bound() -> None:
    # The second fits only before the first, or not at all; the third after it.
    arrival, deadline = [0.0, 0.5, 1.0], [9.0, 2.5, 4.5]
    bound = clairvoyant_bound(arrival, deadline, np.ones((3, 1)), [2.0], nodes=1, bin_s=0.5)
    assert bound.quality >= 3 - 1e-9


def test_no_requests_have_no_quality() -> None:
    assert clairvoyant_bound([], [], np.zeros((0, 2)), [2.0, 1.0], nodes=1).quality == 0


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("arrival_s", {"arrival_s": [1.0, 0.0]}),
        ("deadline_s", {"deadline_s": [3.0]}),
        ("deadline_s", {"deadline_s": [-1.0, 5.0]}),
        ("quality", {"quality": [[1.0], [1.0]]}),
        ("quality", {"quality": [[1.0, -0.1], [1.0, 0.5]]}),
        ("cost_s", {"cost_s": [1.0, float("nan")]}),
        ("nodes", {"nodes": 0}),
        ("bin_s", {"bin_s": 0.0}),
    ],
)
def test_what_is_wrong_is_named(field: str, changes: dict[str, object]) -> None:
    good = {
        "arrival_s": [0.0, 1.0],
        "deadline_s": [4.0, 5.0],
        "quality": [[1.0, 0.5], [1.0, 0.5]],
        "cost_s": [2.0, 1.0],
        "nodes": 1,
    }
    with pytest.raises(InvalidArgumentError) as caught:
        clairvoyant_bound(**(good | changes))
    assert caught.value.field == field
