"""What a node says of itself to probes, where `node.metrics` opens a door for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from argus.control.backlog import NodeBacklog
from argus.types import NodeInfo

if TYPE_CHECKING:
    from argus.engine.engine import Engine

STUCK_S = 60.0
STUCK_FACTOR = 20.0
"""A device thread that showed no life for so many seconds, and for so many times its longest piece
of work, is stuck. The coordinator has given the rows to others long before: twice as early."""


class NodeHealth:
    """Answers from what the engine and the daemon know now.

    Args:
        info: what the node can do.
        engine: that does it.

    Attributes:
        joined: whether a coordinator has this node among its own.
    """

    def __init__(self, info: NodeInfo, engine: Engine) -> None:
        self._stuck_s = max(STUCK_S, STUCK_FACTOR * NodeBacklog(info).slowest_s())
        self._engine = engine
        self.joined = False

    @property
    def checks(self) -> Mapping[str, Callable[[], str]]:
        """What is asked, by path: /livez is a reason to start it again, /healthz is not."""
        return {"/livez": self.dead, "/healthz": self.away}

    def dead(self) -> str:
        """Return why nothing but a new start would help, or nothing."""
        stats = self._engine.stats()
        if not stats.alive:
            return "the device thread is dead"
        if stats.device_idle_s > self._stuck_s:
            return f"the device thread has not moved for {stats.device_idle_s:.0f} s"
        return ""

    def away(self) -> str:
        """Return why it takes no work, or nothing."""
        if self._engine.draining:
            return "it is draining"
        if not self.joined:
            return "it has not joined a coordinator"
        return self.dead()
