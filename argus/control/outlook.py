"""What a new task can expect behind those who wait."""

from __future__ import annotations

import math

from argus.control.line import Waiting, WaitingLine
from argus.control.moment import Moment, avoided, soonest
from argus.control.pricing import Pricing
from argus.control.router import Decision


class Outlook:
    """Tells clients when their pictures may be there; nothing is decided here.

    Args:
        line: who waits.
        pricing: what they would choose.
    """

    def __init__(self, line: WaitingLine, pricing: Pricing) -> None:
        self._line = line
        self._pricing = pricing

    def wait_s(self, entry: Waiting, price: float, moment: Moment) -> float:
        """Return the seconds in which those before a new task would be worked through."""
        if not moment.pace or not self._line.entries:
            return 0.0
        before = self._line.share_before(entry.key)
        return before * self._pricing.waiting_s(price) / moment.pace

    def queued(self, entry: Waiting, price: float, moment: Moment) -> Decision | None:
        """Return the best decision that would be in time behind those who wait.

        Where there is none, the one that ends first; None where no node takes the task.
        """
        task, choices = entry.task, entry.choices
        remaining_s = task.deadline_at_s - moment.now_s
        wait_s = self.wait_s(entry, price, moment)
        avoid = avoided(task, choices.offers, moment)
        best: Decision | None = None
        for i in choices.by_worth(price if remaining_s < math.inf else 0.0):
            place = soonest(choices.offers[i], task, moment, avoid)
            if place is None:
                continue
            finish_s = wait_s + place.decision.predicted_finish_s
            found = Decision(choices.offers[i], place.decision.node, finish_s)
            if finish_s <= remaining_s:
                return found
            if best is None or finish_s < best.predicted_finish_s:
                best = found
        return best

    def fastest_s(self, entry: Waiting, moment: Moment) -> float:
        """Return the predicted seconds of a task's fastest level, were it next.

        Levels are asked until one is soon enough with all who wait before it.
        """
        task, choices = entry.task, entry.choices
        avoid = avoided(task, choices.offers, moment)
        enough_s = task.deadline_at_s - moment.now_s - self._line.least_sum_s / moment.pace
        best_s = math.inf
        for offer in choices.by_speed():
            place = soonest(offer, task, moment, avoid)
            if place is not None:
                best_s = min(best_s, place.decision.predicted_finish_s)
            if best_s <= enough_s:
                break
        return best_s
