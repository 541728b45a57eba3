"""Who may come in where the number in flight is bounded."""

from __future__ import annotations

import random

from argus.control.crowd import PRESSING_S, Crowd
from argus.control.fairness import Share


def fill(crowd: Crowd, tenant: str, count: int, now_s: float = 0.0) -> int:
    entered = 0
    for _ in range(count):
        if crowd.may_enter(tenant, now_s):
            crowd.enter(tenant)
            entered += 1
    return entered


def test_one_alone_may_have_all() -> None:
    assert fill(Crowd(10), "a", 20) == 10


def test_room_is_kept_for_whoever_was_turned_away_and_has_less_than_its_share() -> None:
    crowd = Crowd(10)
    fill(crowd, "a", 10)
    assert not crowd.may_enter("b", 0.0)
    crowd.leave("a")
    assert not crowd.may_enter("a", 1.0)
    assert crowd.may_enter("b", 1.0)


def test_room_is_not_kept_for_ever() -> None:
    crowd = Crowd(10)
    fill(crowd, "a", 10)
    assert not crowd.may_enter("b", 0.0)
    crowd.leave("a")
    assert crowd.may_enter("a", PRESSING_S)


def test_places_follow_the_weights_when_all_want_more_than_there_is() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 5.0}
    crowd = Crowd(80, lambda tenant: Share(weights[tenant]))
    rng = random.Random(3)
    inside = [name for name in "a" for _ in range(fill(crowd, "a", 80))]
    for turn in range(4000):
        leaving = inside.pop(rng.randrange(len(inside)))
        crowd.leave(leaving)
        for tenant in rng.sample("abc", 3):
            for _ in range(fill(crowd, tenant, 2, 0.01 * turn)):
                inside.append(tenant)
        assert len(inside) <= 80
    counts = {tenant: inside.count(tenant) for tenant in weights}
    for tenant, weight in weights.items():
        assert abs(counts[tenant] - 10 * weight) <= 2, counts
