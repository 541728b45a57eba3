"""Which entries are held, how much good each did, and which one goes when room is short.

Least computational benefit, frequency × K / N, is the rule of NIRVANA (Agarwal et al., NSDI 2024).
Two things differ here, both because the replay (`make bench-cache-parts`, docs/cache.md) says so:

- The unit is the entry with all its states, not the single state: what predicts the next use of a
  state best is the use of its neighbours of the same prompt. So an entry's benefit is the sum of
  K / N over its uses.
- Benefit ages, since a sum never forgets and what was popular once would stay for ever. As in
  GreedyDual-Size-Frequency (Cherkasova, 1998) an entry's priority is its benefit above the
  priority of the entry evicted last, fixed anew at each use; there is no half-life to tune.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Iterator
from dataclasses import dataclass

from argus.cache.keys import EntryKey
from argus.cache.state import EntryInfo
from argus.clock import Clock


class Policy(enum.Enum):
    """What goes first when room is short."""

    BENEFIT = "benefit"
    """Least sum of K / N over its uses, aged."""
    LRU = "lru"
    """Longest unused."""
    FIFO = "fifo"
    """Oldest."""


@dataclass(frozen=True, slots=True)
class Uses:
    """How often an entry was used, and the sum of K / N over those uses."""

    count: int = 0
    benefit: float = 0.0


def first_benefit(info: EntryInfo) -> float:
    """Return what an entry is taken to be worth before its first use: mean K / N of its states."""
    return sum(info.ks) / len(info.ks) / info.steps


@dataclass(slots=True)
class _Held:
    info: EntryInfo
    uses: Uses
    expires_at_s: float
    priority: float = 0.0
    order: int = 0


class Ledger:
    """The account of one tier. Not safe for several threads: the tier that owns it locks.

    Args:
        budget_bytes: the most that may be held.
        policy: what goes first.
        ttl_s: seconds after which an entry is gone whatever its use; infinity for never.
        clock: of the time to live.
    """

    def __init__(self, budget_bytes: int, policy: Policy, ttl_s: float, clock: Clock) -> None:
        self.budget_bytes = budget_bytes
        self.bytes_used = 0
        self._policy = policy
        self._ttl_s = ttl_s
        self._clock = clock
        self._held: dict[EntryKey, _Held] = {}
        self._heap: list[tuple[float, int, EntryKey]] = []
        self._count = 0
        self._floor = 0.0

    def __len__(self) -> int:
        return len(self._held)

    def __contains__(self, key: EntryKey) -> bool:
        return key in self._held

    def __iter__(self) -> Iterator[EntryInfo]:
        return iter([held.info for held in self._held.values()])

    def info(self, key: EntryKey) -> EntryInfo:
        """Return what is known of a held entry."""
        return self._held[key].info

    def uses(self, key: EntryKey) -> Uses:
        """Return what good a held entry did."""
        return self._held[key].uses

    def fits(self, nbytes: int) -> bool:
        """Whether an entry of that size can be held at all."""
        return nbytes <= self.budget_bytes

    def add(self, info: EntryInfo, uses: Uses | None = None, age_s: float = 0.0) -> list[EntryKey]:
        """Account for an entry that `fits`; return those that must go, least worth first.

        An entry that is held already is replaced and keeps its uses.

        Args:
            uses: those to start from, for an entry read back after a restart.
            age_s: how old it is already.
        """
        known = self._held.get(info.key)
        if known is not None:
            uses = known.uses
            self.drop(info.key)
        held = _Held(info, uses or Uses(), self._clock.now() - age_s + self._ttl_s)
        self._held[info.key] = held
        self.bytes_used += info.nbytes
        self._rank(held)
        return self._make_room(info.key)

    def use(self, key: EntryKey, k: int) -> None:
        """Count a use of a held entry that saved `k` steps."""
        held = self._held[key]
        held.uses = Uses(held.uses.count + 1, held.uses.benefit + k / held.info.steps)
        if self._policy is not Policy.FIFO:
            self._rank(held)

    def drop(self, key: EntryKey) -> bool:
        """Forget an entry; return whether it was held."""
        held = self._held.pop(key, None)
        if held is None:
            return False
        self.bytes_used -= held.info.nbytes
        return True

    def expired(self, key: EntryKey) -> bool:
        """Whether the time of a held entry is over."""
        return self._clock.now() >= self._held[key].expires_at_s

    def all_expired(self) -> list[EntryKey]:
        """Return the entries whose time is over."""
        now_s = self._clock.now()
        return [key for key, held in self._held.items() if now_s >= held.expires_at_s]

    def _rank(self, held: _Held) -> None:
        self._count += 1
        held.order = self._count
        if self._policy is Policy.BENEFIT:
            held.priority = self._floor + first_benefit(held.info) + held.uses.benefit
        else:
            held.priority = float(self._count)
        heapq.heappush(self._heap, (held.priority, held.order, held.info.key))
        # Every use leaves a stale line behind.
        if len(self._heap) > 64 + 4 * len(self._held):
            self._heap = [(h.priority, h.order, key) for key, h in self._held.items()]
            heapq.heapify(self._heap)

    def _make_room(self, newest: EntryKey) -> list[EntryKey]:
        victims = []
        spared = None
        while self.bytes_used > self.budget_bytes:
            line = heapq.heappop(self._heap)
            priority, order, key = line
            held = self._held.get(key)
            if held is None or held.order != order:
                continue
            if key == newest:
                # It could never prove its worth if it went before its first chance.
                spared = line
                continue
            self._floor = priority
            self.drop(key)
            victims.append(key)
        if spared is not None:
            heapq.heappush(self._heap, spared)
        return victims
