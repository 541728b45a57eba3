"""Who makes way when not all who wait can be on time."""

from __future__ import annotations

from collections.abc import Sequence
from operator import attrgetter

from argus.control.line import Waiting
from argus.control.turns import Turns

_density = attrgetter("density")


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
