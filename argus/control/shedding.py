"""Who makes way when not all who wait can be on time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import attrgetter

from argus.control.admission import SHORTEST_RETRY_S
from argus.control.line import Waiting, WaitingLine
from argus.control.moment import Moment
from argus.control.outlook import Outlook
from argus.control.policy import GiveUp
from argus.control.prospects import Prospects
from argus.control.reserve import Reserve
from argus.control.slack import Slack
from argus.control.turns import Turns
from argus.control.waiting_room import WaitingRoom
from argus.errors import OverloadedError

WORTH_LEAST = "not all who wait can be on time, and this one is worth least"

_density = attrgetter("density")


class Shedding:
    """Lets tasks go until all who wait can be on time at their fastest levels.

    Args:
        room: that those who make way leave.
        line: of those who wait.
        turns: of their tenants.
        slack: whether they can be on time.
        outlook, prospects: when a new one could be done.
        reserve: how much time is kept free.
    """

    def __init__(
        self,
        room: WaitingRoom,
        line: WaitingLine,
        turns: Turns,
        slack: Slack,
        outlook: Outlook,
        prospects: Prospects,
        reserve: Reserve,
    ) -> None:
        self._room = room
        self._line = line
        self._turns = turns
        self._slack = slack
        self._outlook = outlook
        self._prospects = prospects
        self._reserve = reserve

    def make_way(self, entry: Waiting, moment: Moment) -> list[GiveUp]:
        """Let tasks go until a new one has a place among those who wait; return their ends.

        Raises:
            OverloadedError: it has none: it is worth least itself, would be late behind those that
                are begun, or would take the time that is kept free. Nobody is let go.
        """
        fastest_s, typical = entry.choices.fastest_s, self._prospects.typical(entry)
        reserve_s = self._reserve.share(moment.now_s) * fastest_s
        if self._slack.is_ample(entry, moment, (typical - 1.0) * fastest_s + reserve_s):
            return []
        finish_s = self._outlook.fastest_s(entry, moment) * typical
        gone: list[Waiting] = []
        ends: list[GiveUp] = []
        while (short := self._slack.short(entry, finish_s, moment)) is not None:
            able = self._line.entries[: short.before]
            others = [x for x in able if x.latest_s < math.inf and not x.task.lost]
            least = gives_way(entry, others, self._turns)
            if not _gains(entry, least, gone):
                break
            self._room.set_aside(least)
            gone.append(least)
            retry_s = max(SHORTEST_RETRY_S, short.seconds)
            error = OverloadedError(WORTH_LEAST, retry_after_s=retry_s)
            ends.append(GiveUp(least.task, error))
        # Nobody who was accepted is let go for what is only kept free.
        short = short or self._slack.short(entry, finish_s + reserve_s, moment)
        if short is None:
            for other in gone:
                self._room.settle(other)
            return ends
        for other in gone:
            self._room.add(other)
        remaining_s = entry.task.deadline_at_s - moment.now_s
        raise OverloadedError(
            f"no acceptable level can be done in {remaining_s:g} s now; the fastest needs "
            f"{remaining_s + short.seconds:.3g} s",
            retry_after_s=max(SHORTEST_RETRY_S, short.seconds),
        )


def _gains(entry: Waiting, least: Waiting, gone: Sequence[Waiting]) -> bool:
    """Whether it is worth while that `least` goes for a new task, too, beside those `gone` for it.

    Between tenants it is just; within one the new task must be worth more than it and than all.
    """
    tenant = entry.task.tenant
    if least.task.tenant != tenant:
        return True
    lost = sum(x.choices.least_quality for x in [*gone, least] if x.task.tenant == tenant)
    return least.density < entry.density and lost < entry.choices.least_quality


def gives_way(entry: Waiting, others: Sequence[Waiting], turns: Turns) -> Waiting:
    """Return the task that is to make way: one of `others`, or the new one.

    Among tenants: one of the tenant that reaches furthest in virtual time with all that it has
    waiting, if that is still further than the new one's tenant when the task is gone; so nobody is
    pushed out to and fro, and what each tenant has in the line follows the weights. Within a
    tenant: the one that is worth least for the device seconds of its cheapest level.

    Args:
        entry: the new one.
        others: who could.
        turns: of the tenants.
    """
    tenant = entry.task.tenant
    if turns.is_alone(tenant):
        return min(others, key=_density, default=entry)
    own_s = turns.reach_s(tenant, entry.choices.least_s)
    found: dict[str, Waiting] = {}
    for other in others:
        name = other.task.tenant
        if name == tenant:
            continue
        after_s = turns.reach_s(name) - turns.weighed_s(name, other.choices.least_s)
        if after_s >= own_s and (name not in found or other.density < found[name].density):
            found[name] = other
    if found:
        return found[max(found, key=turns.reach_s)]
    mine = [other for other in others if other.task.tenant == tenant]
    return min(mine, key=_density, default=entry)
