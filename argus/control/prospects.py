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
    """

    def __init__(self, line: WaitingLine, foresight: Foresight, late_binding: bool = True) -> None:
        self._line = line
        self._foresight = foresight
        self._late_binding = late_binding

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

    def last_resort(
        self, entry: Waiting, moment: Moment, avoid: set[str], held: Held
    ) -> Place | GiveUp | None:
        """Return the fastest level of what is not likely in time, its end, or None: it waits.

        Where others wait, a task is given up that would be late even on an idle node by the median
        of how much longer rows take than predicted: a node is not to be busy with it meanwhile. For
        the same reason it is not put behind the rows of a full node if it would be late there.
        """
        task, choices = entry.task, entry.choices
        remaining_s = task.deadline_at_s - moment.now_s
        typical = self._foresight.margins.typical if len(self._line) > 1 else 1.0
        needed_s = choices.idle_s * typical
        if needed_s > remaining_s:
            late = f"{remaining_s:.3g} s are left and at least {needed_s:.3g} s needed"
            return GiveUp(task, DeadlineError(late))
        found = [soonest(offer, task, moment, avoid, held) for offer in choices.offers]
        places = [place for place in found if place is not None]
        best = min(places, key=lambda p: p.decision.predicted_finish_s, default=None)
        if best is None or not self._late_binding:
            return best
        node = moment.fleet[best.decision.node]
        late_s = best.decision.predicted_finish_s * typical - remaining_s
        return None if late_s > 0 and len(node) >= node.info.slots else best
