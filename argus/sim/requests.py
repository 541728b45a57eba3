"""From prompts to tasks: what the control plane is told of each request."""

from __future__ import annotations

from argus.control.offers import Offer
from argus.control.reuse import NearState, RetrievalTimes
from argus.sim.costs import control_levels, node_name, row_shapes
from argus.sim.setting import SimSetting
from argus.sim.types import PromptTable, SimProfile

_TIER = "simulated"
_QUANTILE = 0.9
_REFRESH = 64
"""Fetches after which the expected seconds of one are worked out anew."""
_MOST_KEPT = 50_000
"""Prompts whose offers are kept for when they come again."""


class Offers:
    """The offers of each prompt: every level, with the quality that is predicted.

    Args:
        prompts: the table.
        profile: the ladder.
        setting: the nodes, all of which can read every state.
    """

    def __init__(self, prompts: PromptTable, profile: SimProfile, setting: SimSetting) -> None:
        self._prompts = prompts
        self._levels = control_levels(profile)
        self._shapes = row_shapes(profile)
        self._skips = tuple(level.skip for level in profile.levels)
        self._steps = tuple(level.steps for level in profile.levels)
        self._guidance = 7.5 if profile.batching.row_lanes > 1 else 1.0
        names = frozenset(node_name(i) for i in range(setting.nodes))
        self._readers = {skip: names for skip in self._skips if skip}
        self._kept: dict[int, tuple[Offer, ...]] = {}
        self._times = RetrievalTimes()
        self._fetch_s = setting.retrieval.seconds
        self._fetches = 0
        self._ids = prompts.ids.tolist()

    def of(self, row: int) -> tuple[Offer, ...]:
        """Return the offers of a row of the table, in the ladder's order."""
        offers = self._kept.get(row)
        if offers is None:
            offers = self._make(row)
            if len(self._kept) < _MOST_KEPT:
                self._kept[row] = offers
        return offers

    def fetched(self, seconds: float) -> None:
        """Note how long a state took, as the coordinator does."""
        self._times.add(_TIER, seconds)
        self._fetches += 1
        if self._fetches % _REFRESH == 0:
            self._fetch_s = self._times.quantile(_TIER, _QUANTILE) or 0.0
            self._kept.clear()

    def _make(self, row: int) -> tuple[Offer, ...]:
        reference = self._steps[0]
        predicted = self._prompts.predicted[row].tolist()
        similarity = float(self._prompts.similarity[row])
        near: dict[tuple[str, int], NearState] = {}
        offers = []
        for level, shape, skip, steps, quality in zip(
            self._levels, self._shapes, self._skips, self._steps, predicted, strict=True
        ):
            state = None
            if skip:
                key = (level.variant, steps)
                state = near.get(key)
                if state is None:
                    state = near[key] = NearState(
                        *key, self._ids[row], similarity, self._readers, self._fetch_s
                    )
            offers.append(
                Offer(level, shape, self._guidance, "ddim", quality, steps, reference, skip, state)
            )
        return tuple(offers)
