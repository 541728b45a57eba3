"""What would be chosen at each price, against a search one by one; and who waits, counted anew."""

from __future__ import annotations

import random

import numpy as np
import pytest

from argus.control.choices import Choices, ChoicesTable, choices_of
from argus.control.pricing import RELATIVE_PRICES, Pricing
from tests.unit.control.build import node
from tests.unit.control.deciding import LADDER, fleet_of

PRICES = RELATIVE_PRICES / 2.0


def drawn(rng: random.Random) -> Choices:
    offers = LADDER[: rng.randint(1, len(LADDER))]
    fleet = fleet_of([node("a")])
    fleet.refresh(0.0)
    found = choices_of(offers, [rng.random() for _ in offers], fleet, bound=True)
    assert found is not None
    return found


def test_the_best_at_each_price_is_that_of_a_search() -> None:
    rng = random.Random(1)
    many = [drawn(rng) for _ in range(40)]
    told = ChoicesTable(many).at(PRICES)
    for choices, columns in zip(many, told, strict=True):
        for price, column in zip(PRICES, columns.T, strict=True):
            i = max(
                range(len(choices.offers)),
                key=lambda i, c=choices, p=price: c.qualities[i] - p * c.works_s[i],
            )
            busy_s = choices.costs[i].busy_s
            assert tuple(column) == (choices.qualities[i], choices.works_s[i], busy_s)
        assert (choices.works_at(PRICES) == columns[1]).all()


def test_who_waits_is_counted_whoever_asks_for_a_price_in_between() -> None:
    rng = random.Random(2)
    pricing, waiting = Pricing(8.0, 60.0, 1.0), []
    for second in range(64):
        come = drawn(rng)
        pricing.arrive(come, 30.0, float(second))
        pricing.wait(come)
        waiting.append(come)
        if second % 3 == 2:
            pricing.leave(waiting.pop(rng.randrange(len(waiting))))
        if second == 20:
            pricing.plan(2, float(second))
        pricing.price(rng.choice(waiting), 5.0, 2, float(second))
        price = rng.uniform(0.0, 2.0)
        expected = sum(
            np.interp(price, pricing._prices, c.works_at(pricing._prices)) for c in waiting
        )
        if second % 5 == 0:
            assert pricing.waiting_s(price) == pytest.approx(expected)


@pytest.mark.parametrize("price", [-1.0, 0.0, 0.7, 1e9])
def test_what_waits_is_read_between_prices_and_no_further(price: float) -> None:
    rng = random.Random(3)
    pricing = Pricing(8.0, 60.0, 1.0)
    assert pricing.waiting_s(price) == 0.0
    choices = drawn(rng)
    pricing.arrive(choices, 30.0, 0.0)
    pricing.wait(choices)
    expected = np.interp(price, pricing._prices, choices.works_at(pricing._prices))
    assert pricing.waiting_s(price) == pytest.approx(expected)


@pytest.mark.parametrize("earlier", [False, True])
def test_the_least_price_for_some_work_is_that_of_a_search(earlier: bool) -> None:
    rng = random.Random(4)
    for _ in range(20):
        pricing = Pricing(8.0, 60.0, 1.0)
        many = [drawn(rng) for _ in range(12)]
        for second, choices in enumerate(many):
            pricing.arrive(choices, 30.0, float(second))
        if earlier:
            pricing._earlier = ChoicesTable([drawn(rng)]).at(pricing._prices)[0]
        table = ChoicesTable(many)
        works_s = pricing._mix(table, pricing._prices)[1]
        for work_s in (0.0, *(works_s + 1e-12), *(works_s - 1e-3), np.inf):
            enough = np.flatnonzero(works_s <= work_s)
            expected = pricing._prices[enough[0] if len(enough) else -1]
            assert pricing._price_for(work_s, table, works_s[::3]) == expected
