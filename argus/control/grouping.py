"""Nodes that cost about the same as one group: a plan grows with kinds of nodes, not with nodes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from argus.control.allocation import Group, GroupPlan, Holding


@dataclass(frozen=True, slots=True)
class PlannedNode:
    """A node as the planner sees it.

    Attributes:
        name: of the node.
        holds: variants that are resident.
        seconds: device seconds of a picture by level, also of levels whose variant it could load.
        memory_bytes: for weights.
        load_s: seconds until a variant is loaded, those resident included: they may be dropped and
            wanted back; those it cannot load are left out.
        kind: nodes of different kinds are never put together; the device's name.
    """

    name: str
    holds: Holding
    seconds: Mapping[str, float]
    memory_bytes: float = math.inf
    load_s: Mapping[str, float] | None = None
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Kin:
    """A group with its members, by what they hold."""

    group: Group
    members: Mapping[Holding, tuple[str, ...]]


def kindred(nodes: Iterable[PlannedNode], tolerance: float = 0.1) -> tuple[Kin, ...]:
    """Return the nodes in groups.

    Members of a group are of one kind, hold and load the same variants in the same memory, and
    their costs are within about `tolerance` of each other; the group's costs are their mean. Two
    like nodes may fall on either side of a border, which costs a group more and is no error.
    """
    found: dict[object, list[PlannedNode]] = {}
    for node in sorted(nodes, key=lambda node: node.name):
        found.setdefault(_key(node, tolerance), []).append(node)
    return tuple(_kin(members) for members in found.values())


def assign(kin: Kin, plan: GroupPlan) -> dict[str, Holding]:
    """Return what each node of a group is to hold; only nodes that change."""
    changed: dict[str, Holding] = {}
    free = {holding: list(members) for holding, members in kin.members.items()}
    for move in plan.moves:
        for _ in range(move.nodes):
            changed[free[move.before].pop()] = move.after
    return changed


def _key(node: PlannedNode, tolerance: float) -> object:
    width = math.log1p(tolerance)
    costs = tuple(
        (name, round(math.log(seconds) / width)) for name, seconds in sorted(node.seconds.items())
    )
    return node.kind, node.memory_bytes, tuple(sorted(node.load_s or {})), costs


def _kin(members: Sequence[PlannedNode]) -> Kin:
    first = members[0]
    holders: dict[Holding, tuple[str, ...]] = {}
    for node in members:
        holders[node.holds] = (*holders.get(node.holds, ()), node.name)
    group = Group(
        name=first.name,
        present={holding: len(names) for holding, names in holders.items()},
        seconds=_mean([node.seconds for node in members]),
        memory_bytes=first.memory_bytes,
        load_s=_mean([node.load_s or {} for node in members]),
    )
    return Kin(group, holders)


def _mean(tables: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: math.fsum(table[name] for table in tables) / len(tables) for name in tables[0]}
