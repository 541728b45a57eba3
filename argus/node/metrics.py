"""A node's own metrics: the same that the coordinator shows of it, and those of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Metric, ProcessCollector

from argus.metrics.nodes import NodeMoment, node_families
from argus.node.translate import heartbeat_message
from argus.types import NodeInfo

if TYPE_CHECKING:
    from argus.engine.stats import EngineStats
    from argus.node.cache import NodeCache


class NodeMetrics:
    """Puts the families together when they are asked for.

    Args:
        info: the node.
        stats: returns what its engine is doing.
        cache: of states; None where it is off.
    """

    def __init__(
        self, info: NodeInfo, stats: Callable[[], EngineStats], cache: NodeCache | None
    ) -> None:
        self._info = info
        self._stats = stats
        self._cache = cache
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)

    async def families(self) -> AsyncIterator[Metric]:
        """Iterate over all families, as things stand now."""
        tiers = self._cache.tiers() if self._cache is not None else ()
        beat = heartbeat_message(0, self._stats(), tiers).heartbeat
        info = self._info
        for family in node_families([NodeMoment(info.name, info.slots, info.max_lanes, beat)]):
            yield family
        for family in self._process.collect():
            yield family
