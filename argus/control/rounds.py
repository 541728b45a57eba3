"""One round through those who wait: whom to look at next, and what was found on the way."""

from __future__ import annotations

from typing import NamedTuple

from argus.control.fleet import Fleet
from argus.control.line import Waiting, WaitingLine
from argus.control.moment import Moment
from argus.control.slack import Slack
from argus.control.turns import Turns


class Spot(NamedTuple):
    """Where a task stands: its place in the line, and how many before it come after it."""

    place: int
    passes: int = 0


FIRST = Spot(0)


class Round:
    """Goes through the line, the most urgent first, or the first one of the tenant whose turn it
    is, as long as nobody becomes late by it.

    Once a task waits for a free slot, the nodes that could have it take those behind it in free
    slots only, too: they would take every slot before it is free.

    Args:
        line: who waits; those that are begun or let go are to be taken out of it.
        turns: of the tenants.
        slack: of those that wait.
        after: the round before, whose list of those that wait for a slot this one goes on with: it
            looks at nobody else.

    Attributes:
        kept_s: by node, device seconds of those passed over that are to have it, though it is full
            now or takes nobody behind its slots.
        idle: whether nobody else wanted the slots that are still free.
    """

    def __init__(
        self, line: WaitingLine, turns: Turns, slack: Slack, after: Round | None = None
    ) -> None:
        self._line = line
        self._turns = turns
        self._slack = slack
        self._passed: dict[Waiting, None] = {}
        self._for_slot: dict[Waiting, None] = {} if after is None else after._for_slot
        self._slot_variants: set[str] = set() if after is None else after._slot_variants
        """Variants of those that wait for a free slot."""
        self.idle = after is not None
        self.kept_s: dict[str, float] = {}

    @property
    def waits_for_slot(self) -> bool:
        """Whether somebody waits for a free slot."""
        return bool(self._for_slot)

    @property
    def is_over(self) -> bool:
        """Whether everybody was looked at."""
        return len(self._passed) >= len(self._line.entries)

    def next(self, moment: Moment) -> tuple[Waiting, Spot] | None:
        """Return whom to look at next; None: nobody, or nothing is free that they may have."""
        taken = moment.taken(self._slot_variants) if self._slot_variants else None
        if not moment.has_room or (taken is not None and not taken):
            return None
        while not self.is_over:
            entry, spot = self._first(moment)
            able = taken is None or not taken.isdisjoint(entry.variants)
            if able and not entry.task.held and (not self.idle or entry in self._for_slot):
                return entry, spot
            self._passed[entry] = None
        return None

    def pass_over(self, entry: Waiting, for_slot: bool = False) -> None:
        """Leave a task waiting, `for_slot`: for a free one."""
        self._passed[entry] = None
        if for_slot:
            self._for_slot[entry] = None
            self._slot_variants |= entry.variants

    def may_have(self, node: str, fleet: Fleet) -> bool:
        """Whether the next one may be given to a node that has room."""
        return fleet[node].serving.isdisjoint(self._slot_variants) or fleet.has_slot(node)

    def _first(self, moment: Moment) -> tuple[Waiting, Spot]:
        """Return the first that was not passed over, or whose turn it is."""
        entries = self._line.entries
        if self._turns.tenants == 1:
            # Those passed over are the first of the line, even where another tenant's were looked
            # at before its last one went: each tenant's own are looked at in order.
            return entries[len(self._passed)], Spot(len(self._passed))
        index = next(i for i, entry in enumerate(entries) if entry not in self._passed)
        first = entries[index]
        fair = self._turns.next(self._passed)
        if fair is None or fair is first or first.task.lost:
            return first, Spot(index)
        place = self._line.place(fair.key)
        if self._slack.lets_pass(fair, place, moment, place - index):
            return fair, Spot(place, place - index)
        return first, Spot(index)
