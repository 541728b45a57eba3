"""Nodes of the same hardware: the emptiest of them is found without asking each for a forecast."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from argus.control.backlog import NodeBacklog

Floats = NDArray[np.float64]

MOST_ASKED = 3
"""Nodes that are asked for a forecast where rows share forwards: how rows mix there decides."""
_MOST_MASKS = 256
_FEW = 24
"""Nodes up to which arrays take longer to add up than they save."""


def hardware(node: NodeBacklog) -> object:
    """Return what makes two nodes equal but for the rows they hold."""
    info = node.info
    same = info.device_name, info.slots, info.max_lanes, info.variants, info.costs
    return *same, node.serving


class Group:
    """Equal nodes, by name.

    `ends_s` is when each would be done with its rows, if its batches are full: what is left then
    falls by a second a second, so nothing has to be written while nodes only go on.
    """

    def __init__(self, nodes: Sequence[NodeBacklog]) -> None:
        self.nodes = tuple(nodes)
        self._index = {node.info.name: i for i, node in enumerate(nodes)}
        self._ends_s = np.zeros(len(nodes))
        self._open = [False] * len(nodes)
        self._taking = [True] * len(nodes)
        self._open_ends_s = np.full(len(nodes), np.inf)
        """The same for nodes with room; infinity for the others."""
        self._closed_ends_s = np.full(len(nodes), np.inf)
        self._slot_ends_s = np.full(len(nodes), np.inf)
        """For nodes with room and a free slot."""
        self._has_slot = [False] * len(nodes)
        info = nodes[0].info
        self._masks: dict[frozenset[str], NDArray[np.bool_] | None] = {}
        self.serial = info.slots == 1
        """Whether rows are made one after the other, so that no forecast is needed."""
        self._asked = 1 if self.serial else MOST_ASKED
        self.open = 0
        """How many have room."""
        self.with_slot = 0
        """How many of these have a free slot."""
        self.taking = len(nodes)
        """How many take rows, now or later."""

    def update(self, name: str, ends_s: float, is_open: bool, takes: bool, has_slot: bool) -> bool:
        """Write down when a node will be done, whether it takes rows, has room, and a free slot;
        return whether it took rows before."""
        i = self._index[name]
        took = self._taking[i]
        self.open += is_open - self._open[i]
        self.taking += takes - took
        self._ends_s[i] = ends_s if takes else 0.0
        self._open[i], self._taking[i] = is_open, takes
        self._open_ends_s[i] = ends_s if is_open else np.inf
        self._closed_ends_s[i] = ends_s if takes and not is_open else np.inf
        self.with_slot += has_slot - self._has_slot[i]
        self._has_slot[i] = has_slot
        self._slot_ends_s[i] = ends_s if has_slot else np.inf
        return took

    def work_s(self, now_s: float) -> float:
        """Return the device seconds that are left to its nodes."""
        if len(self.nodes) <= _FEW:
            left_s = [end_s - now_s for end_s in self._ends_s.tolist() if end_s > now_s]
            return sum(left_s, 0.0)
        return float(np.add.reduce(np.maximum(self._ends_s - now_s, 0.0)))

    def candidates(
        self,
        now_s: float,
        within: frozenset[str] | None,
        avoid: Collection[str],
        held: Mapping[str, float],
    ) -> Iterator[tuple[NodeBacklog, float, bool]]:
        """Yield the nodes that may be done first, when, and whether each has room.

        Those with room come first, the emptiest before the others, among equals by name; one with a
        free slot is among them, where there is any, though the rows that it has may take longer.
        Then the full ones that are done sooner than the first of those.

        Args:
            now_s: on the clock of `update`.
            within: names of the nodes that can; None: all.
            avoid: names of nodes that are left out.
            held: device seconds that wait for one node each, by its name.
        """
        soonest = np.inf
        if self.open:
            ends_s = np.maximum(self._open_ends_s, now_s)
            found = self._best(ends_s, within, avoid, held, self._asked)
            if found:
                _, soonest = found[0]
                # Where all with room have a slot, or none has, there is nothing to look for.
                few = 0 < self.with_slot < self.open
                if few and not any(len(node) < node.info.slots for node, _ in found):
                    found += self._best(self._slot_ends_s, within, avoid, held, 1)
            for node, end_s in found:
                yield node, end_s, True
        if self.open < self.taking:
            for node, end_s in self._best(self._closed_ends_s, within, avoid, held, self._asked):
                if end_s < soonest:
                    yield node, end_s, False

    def _best(
        self,
        ends_s: Floats,
        within: frozenset[str] | None,
        avoid: Collection[str],
        held: Mapping[str, float],
        count: int,
    ) -> list[tuple[NodeBacklog, float]]:
        """Return the nodes that end first, and when, with what waits for them done, too."""
        mask = None if within is None else self._mask(within)
        if count > 1 or mask is not None or avoid or held:
            ends_s = ends_s.copy() if mask is None else np.where(mask, ends_s, np.inf)
        for name in avoid:
            if name in self._index:
                ends_s[self._index[name]] = np.inf
        for name, seconds in held.items():
            if name in self._index:
                ends_s[self._index[name]] += seconds
        found: list[tuple[NodeBacklog, float]] = []
        for _ in range(count):
            i = int(ends_s.argmin())
            end_s = float(ends_s[i])
            if end_s == np.inf:
                break
            found.append((self.nodes[i], end_s))
            if count > 1:
                ends_s[i] = np.inf
        return found

    def _mask(self, within: frozenset[str]) -> NDArray[np.bool_] | None:
        """Return which nodes are meant; None: all. The same sets come again and again."""
        try:
            return self._masks[within]
        except KeyError:
            mask = np.array([name in within for name in self._index])
            if len(self._masks) >= _MOST_MASKS:
                self._masks.clear()
            known = self._masks[within] = None if mask.all() else mask
            return known
