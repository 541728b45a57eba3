from __future__ import annotations

import math
import random

import pytest

from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Policy, Uses, first_benefit
from argus.cache.state import EntryInfo
from argus.clock import ManualClock
from tests.unit.cache.build import STEPS, key


def info(name: str, nbytes: int = 1, ks: tuple[int, ...] = (5, 10)) -> EntryInfo:
    return EntryInfo(key(name), STEPS, ks, "", 0.0, nbytes)


def ledger(budget: int, policy: Policy, clock: ManualClock | None = None) -> Ledger:
    return Ledger(budget, policy, math.inf, clock or ManualClock())


@pytest.mark.parametrize(
    ("policy", "victim"), [(Policy.FIFO, "a"), (Policy.LRU, "b"), (Policy.BENEFIT, "c")]
)
def test_each_policy_evicts_by_its_own_rule(policy: Policy, victim: str) -> None:
    account = ledger(3, policy)
    for name in "abc":
        account.add(info(name))
    account.use(key("b"), 25)
    account.use(key("c"), 5)
    account.use(key("a"), 10)
    assert account.add(info("d")) == [key(victim)]


def test_benefit_counts_steps_saved_and_not_uses() -> None:
    account = ledger(2, Policy.BENEFIT)
    account.add(info("often"))
    account.add(info("much"))
    for _ in range(3):
        account.use(key("often"), 5)
    account.use(key("much"), 25)
    assert account.uses(key("often")) == Uses(3, pytest.approx(0.3))
    assert account.add(info("new")) == [key("often")]


def test_what_was_popular_once_goes_in_the_end() -> None:
    account = ledger(3, Policy.BENEFIT)
    account.add(info("old"))
    for _ in range(20):
        account.use(key("old"), 25)
    gone: list[EntryKey] = []
    needed = 0
    while key("old") not in gone:
        needed += 1
        gone += account.add(info(f"new {needed}"))
        account.use(key(f"new {needed}"), 5)
    # 10 of benefit, against 0.25 that each newcomer raises the floor by.
    assert 20 < needed < 120


class Reference:
    """The same rule over a plain list, for comparison."""

    def __init__(self, budget: int, policy: Policy) -> None:
        self.budget, self.policy = budget, policy
        self.rows: dict[EntryKey, list[float]] = {}
        self.floor = 0.0
        self.count = 0

    def rank(self, name: EntryKey, benefit: float, nbytes: float) -> None:
        self.count += 1
        by_benefit = self.policy is Policy.BENEFIT
        # In the ledger's order of addition: ties are decided by the last bit.
        priority = self.floor + first_benefit(info("any")) + benefit if by_benefit else self.count
        self.rows[name] = [priority, self.count, benefit, nbytes]

    def add(self, entry: EntryInfo) -> list[EntryKey]:
        benefit = self.rows[entry.key][2] if entry.key in self.rows else 0.0
        self.rank(entry.key, benefit, entry.nbytes)
        gone = []
        while sum(row[3] for row in self.rows.values()) > self.budget:
            victim = min((r[:2], n) for n, r in self.rows.items() if n != entry.key)[1]
            self.floor = self.rows.pop(victim)[0]
            gone.append(victim)
        return gone

    def use(self, name: EntryKey, k: int) -> None:
        _, _, benefit, nbytes = self.rows[name]
        if self.policy is Policy.FIFO:
            self.rows[name][2] += k / STEPS
        else:
            self.rank(name, benefit + k / STEPS, nbytes)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_long_random_life_equals_the_plain_reference(policy: Policy) -> None:
    rng = random.Random(3)
    account, reference = ledger(60, policy), Reference(60, policy)
    for _ in range(3000):
        name = f"prompt {int(rng.paretovariate(0.7)) % 200}"
        if key(name) in account and rng.random() < 0.8:
            k = rng.choice((5, 10, 15, 20, 25))
            account.use(key(name), k)
            reference.use(key(name), k)
        elif key(name) in account and rng.random() < 0.2:
            assert account.drop(key(name))
            del reference.rows[key(name)]
        else:
            entry = info(name, rng.randint(1, 7))
            assert account.add(entry) == reference.add(entry)
        assert account.bytes_used <= 60
    assert {held.key for held in account} == set(reference.rows)
    assert account.bytes_used == sum(row[3] for row in reference.rows.values())


def test_the_newest_stays_when_everything_older_is_worth_more() -> None:
    account = ledger(2, Policy.BENEFIT)
    for name in "ab":
        account.add(info(name))
        account.use(key(name), 25)
    assert account.add(info("c", 1, (1,))) == [key("a")]
    assert key("c") in account


def test_time_to_live_counts_from_when_the_entry_was_made() -> None:
    clock = ManualClock()
    account = Ledger(9, Policy.LRU, 10.0, clock)
    account.add(info("new"))
    account.add(info("old"), age_s=6.0)
    clock.advance(4.0)
    assert account.all_expired() == [key("old")]
    assert not account.expired(key("new"))
    account.use(key("new"), 5)
    clock.advance(6.0)
    assert account.expired(key("new"))
