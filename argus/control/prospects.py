"""What a task can still hope for: a node that is likely to end it in time, or the least evil."""

from __future__ import annotations

import enum
import math

from argus.control.foresight import Foresight
from argus.control.line import Waiting, WaitingLine
from argus.control.moment import Held, Moment, Place, soonest
from argus.control.offers import Offer
from argus.control.policy import GiveUp
from argus.errors import DeadlineError

_NODES_ASKED = 3
"""For a row that would be in time were nobody to join it: nodes that may fill up are many."""


class Wait(enum.Enum):
    """What a task waits for that is not to be begun now."""

    FOR_SLOT = enum.auto()


class Prospects:
    """Looks for nodes.

    Args:
        line: who waits.
        foresight: when rows end.
        late_binding: off: what would be late takes its node all the same, since it was settled.
        shed: off: nobody is given up before it is certain that it is too late.
    """

    def __init__(
        self,
        line: WaitingLine,
        foresight: Foresight,
        late_binding: bool = True,
        shed: bool = True,
    ) -> None:
        self._line = line
        self._foresight = foresight
        self._late_binding = late_binding
        self._shed = shed and late_binding

    def in_time(
        self,
        offer: Offer,
        entry: Waiting,
        moment: Moment,
        avoid: set[str],
        held: Held,
    ) -> Place | None:
        """Return the node that ends an offer first, or another one, if it is likely in time.

        The one that would end first may fill up, and one that cannot end a little later.
        """
        now_s = moment.now_s
        for _ in range(_NODES_ASKED):
            place = soonest(offer, entry.task, moment, avoid, held)
            if place is None:
                return None
            decision, node = place.decision, moment.fleet[place.decision.node]
            if self._foresight.may_be_in_time(decision, entry, node, now_s):
                if node.info.slots == 1 or not self._late_binding:
                    return place
                held_s = held.get(decision.node, 0.0)
                if self._foresight.is_in_time(decision, entry, node, now_s, held_s):
                    return place
            elif len(moment.groups) == 1:
                return None  # the others are later, with the same margin
            avoid = avoid | {decision.node}
        return None

    def typical(self, entry: Waiting) -> float:
        """Return the factor on predicted seconds that a task is judged by.

        Where others wait for the same nodes it is the median of how much longer rows take, at least
        1: no node is to be busy with what is likelier late than not. What a node lost is never let
        go for another.
        """
        if entry.task.lost or not self._shed:
            return 1.0
        typical = self._foresight.margins.typical
        return typical if typical > 1.0 and self._others(entry) else 1.0

    def end(self, entry: Waiting, now_s: float) -> GiveUp | None:
        """Return the end of a task that is hopeless: it would be late even on an idle node."""
        remaining_s = entry.task.deadline_at_s - now_s
        if remaining_s == math.inf:
            return None
        needed_s = entry.choices.idle_s * self.typical(entry)
        if needed_s <= remaining_s:
            return None
        late = f"{remaining_s:.3g} s are left and at least {needed_s:.3g} s needed"
        return GiveUp(entry.task, DeadlineError(late))

    def last_resort(
        self, entry: Waiting, moment: Moment, avoid: set[str], held: Held, *, idle: bool = False
    ) -> Place | GiveUp | Wait | None:
        """Return the fastest level of what is not likely in time, its end, or what it waits for.

        It is tried in a free slot where it is predicted in time, and not likelier late than not
        with the company that rows get, or no others want the slot: `idle` says so. It is never put
        behind the rows of a node: it would be made for nothing before those that can be on time.
        None: no node takes it.
        """
        task = entry.task
        end = self.end(entry, moment.now_s)
        if end is not None:
            return end
        in_slot = self._late_binding
        best = _soonest_of(entry, moment, avoid, held, in_slot)
        if best is None or not in_slot:
            waits = in_slot and _soonest_of(entry, moment, avoid, held, False) is not None
            return Wait.FOR_SLOT if waits else best
        decision, remaining_s = best.decision, task.deadline_at_s - moment.now_s
        late = decision.predicted_finish_s * self.typical(entry) > remaining_s
        if not (late or idle or task.lost) and self._shed and self._others(entry):
            node = moment.fleet[decision.node]
            predicted = self._foresight.predict(decision, task, node, moment.now_s)
            late = self._foresight.is_late(predicted, task, moment.now_s)
        return Wait.FOR_SLOT if late else best

    def _others(self, entry: Waiting) -> bool:
        """Whether others wait that could be started where this one can."""
        for other in self._line.entries:
            if other is entry or other.task.held:
                continue
            if not entry.variants.isdisjoint(other.variants):
                return True
        return False


def _soonest_of(
    entry: Waiting, moment: Moment, avoid: set[str], held: Held, in_slot: bool
) -> Place | None:
    """Return the place in which the first of a task's levels ends."""
    found = [
        soonest(offer, entry.task, moment, avoid, held, in_slot=in_slot)
        for offer in entry.choices.offers
    ]
    places = [place for place in found if place is not None]
    return min(places, key=lambda place: place.decision.predicted_finish_s, default=None)
