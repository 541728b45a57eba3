"""Which cached entries the nodes hold, and which the rows in flight will leave behind."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from argus.cache.keys import EntryKey, Partition
from argus.clock import Clock

T = TypeVar("T")
COMING_S = 60.0
"""A row whose states were not kept after so long was cut short, or its node had no room."""
REMEMBERED = 100_000
"""Entries of either kind; beyond, the longest untouched is forgotten."""


@dataclass(frozen=True, slots=True)
class Coming:
    """An entry that a row on its way will leave behind."""

    partition: Partition
    prompt: str
    owner: str
    until_s: float
    """When it is no longer expected."""


class Entries:
    """An account of entries by key. Held are only those that the index can find.

    Args:
        clock: where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holders: OrderedDict[EntryKey, set[str]] = OrderedDict()
        self._coming: OrderedDict[EntryKey, Coming] = OrderedDict()

    def holders(self, key: EntryKey) -> frozenset[str]:
        """Return who holds an entry."""
        return frozenset(self._holders.get(key, ()))

    def hold(self, key: EntryKey, holder: str) -> None:
        """Note that someone holds an entry."""
        _touch(self._holders, key, self._holders.get(key, set()) | {holder})

    def drop(self, key: EntryKey, holder: str) -> None:
        """Note that someone holds an entry no more."""
        left = self._holders.pop(key, set()) - {holder}
        if left:
            self._holders[key] = left

    def holds_only(self, holder: str, keys: Iterable[EntryKey]) -> None:
        """Note all that someone holds."""
        kept = set(keys)
        for key in [key for key, holders in self._holders.items() if holder in holders]:
            if key not in kept:
                self.drop(key, holder)
        for key in kept:
            self.hold(key, holder)

    def expect(self, key: EntryKey, partition: Partition, prompt: str, owner: str) -> None:
        """Note that a row will leave an entry behind."""
        coming = Coming(partition, prompt, owner, self._clock.now() + COMING_S)
        _touch(self._coming, key, coming)

    def expects(self, key: EntryKey) -> bool:
        """Whether a row is on its way that will leave the entry behind."""
        coming = self._coming.get(key)
        return coming is not None and self._clock.now() < coming.until_s

    def call_off(self, key: EntryKey) -> None:
        """Note that the row ended; should its entry come all the same, it is welcome."""
        if key in self._coming:
            self._coming[key] = replace(self._coming[key], until_s=self._clock.now())

    def arrived(self, key: EntryKey) -> Coming | None:
        """Return what is known of an entry that was expected; the next one like it is not."""
        return self._coming.pop(key, None)


def _touch(table: OrderedDict[EntryKey, T], key: EntryKey, value: T) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > REMEMBERED:
        table.popitem(last=False)
