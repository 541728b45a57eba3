"""What a task can still hope for: a node that is likely to end it in time, or the least evil."""

from __future__ import annotations

from argus.control.foresight import Foresight
from argus.control.line import Waiting, WaitingLine
from argus.control.moment import Held, Moment, Place, soonest
from argus.control.offers import Offer
from argus.control.policy import GiveUp, Task
from argus.errors import DeadlineError

_NODES_ASKED = 3
"""For a row that would be in time were nobody to join it: nodes that may fill up are many."""


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
        self, offer: Offer, task: Task, moment: Moment, avoid: set[str], held: Held
    ) -> Place | None:
        """Return the node that ends an offer first, or another one, if it is likely in time.

        The one that would end first may fill up, and one that cannot end a little later.
        """
        now_s = moment.now_s
        for _ in range(_NODES_ASKED):
            place = soonest(offer, task, moment, avoid, held)
            if place is None:
                return None
            decision, node = place.decision, moment.fleet[place.decision.node]
            if self._foresight.may_be_in_time(decision, task, node, now_s):
                if node.info.slots == 1 or not self._late_binding:
                    return place
                held_s = held.get(decision.node, 0.0)
                if self._foresight.is_in_time(decision, task, node, now_s, held_s):
                    return place
            elif len(moment.groups) == 1:
                return None  # the others are later, with the same margin
            avoid = avoid | {decision.node}
        return None

    def typical(self, task: Task) -> float:
        """Return the factor on predicted seconds by which half of the rows end, at least 1."""
        return 1.0 if task.lost or not self._shed else self._foresight.margins.typical

    def end(self, entry: Waiting, now_s: float) -> GiveUp | None:
        """Return the end of a task that is hopeless: it would be late even on an idle node.

        Where others wait, what is likelier late than not is, too, so that no node is busy with it
        meanwhile; not where a node lost it, for it is never let go for another.
        """
        remaining_s = entry.task.deadline_at_s - now_s
        needed_s = entry.choices.idle_s
        if remaining_s < needed_s * self.typical(entry.task) and self._others(entry):
            needed_s *= self.typical(entry.task)
        if needed_s <= remaining_s:
            return None
        late = f"{remaining_s:.3g} s are left and at least {needed_s:.3g} s needed"
        return GiveUp(entry.task, DeadlineError(late))

    def last_resort(
        self, entry: Waiting, moment: Moment, avoid: set[str], held: Held
    ) -> Place | GiveUp | None:
        """Return the fastest level of what is not likely in time, its end, or None: it waits.

        It is tried in a free slot where it is predicted in time, and not likelier late than not
        with the company that rows get, or no others wait for the slot. It is never put behind the
        rows of a node: it would be made for nothing before those that can be on time.
        """
        task = entry.task
        end = self.end(entry, moment.now_s)
        if end is not None:
            return end
        in_slot = self._late_binding
        found = [
            soonest(offer, task, moment, avoid, held, in_slot=in_slot)
            for offer in entry.choices.offers
        ]
        places = [place for place in found if place is not None]
        best = min(places, key=lambda p: p.decision.predicted_finish_s, default=None)
        if best is None or not in_slot:
            return best
        decision, remaining_s = best.decision, task.deadline_at_s - moment.now_s
        late = decision.predicted_finish_s > remaining_s
        if not late and self._shed and not task.lost and self._others(entry):
            late = self._foresight.is_late(
                decision, task, moment.fleet[decision.node], moment.now_s
            )
        return None if late else best

    def _others(self, entry: Waiting) -> bool:
        """Whether others wait that could be started."""
        return any(x is not entry and not x.task.held for x in self._line.entries)
