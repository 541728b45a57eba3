"""The replayed stream is what it says, and on it the benefit policy saves the most steps."""

from __future__ import annotations

import math

import cache_replay
import numpy as np
import prompt_stream
import pytest

from argus.cache.ledger import Ledger, Policy
from argus.clock import ManualClock


def test_neighbours_of_the_stream_are_those_of_its_embeddings() -> None:
    stream = prompt_stream.make(1500, 3)
    vectors = prompt_stream.embeddings(stream, 4096, 3)
    cosines = vectors @ vectors.T
    for i, near in enumerate(stream.near):
        for j, likeness in near:
            assert cosines[i, j] == pytest.approx(likeness, abs=0.08)
        earlier = np.flatnonzero(cosines[i, :i] > 0.75)
        assert {int(stream.same_as[j]) for j in earlier} <= {j for j, _ in near}


def test_the_stream_has_the_published_mix_of_likeness() -> None:
    stream = prompt_stream.draw(50_000, 4)
    quantiles = np.quantile(stream.likeness, [0.05, 0.25, 0.5, 0.75, 0.9, 0.95])
    assert quantiles == pytest.approx([0.573, 0.657, 0.712, 0.784, 0.888, 0.965], abs=0.01)
    assert np.mean(stream.same_as != np.arange(50_000)) == pytest.approx(0.032, abs=0.003)


@pytest.mark.parametrize("seed", [11, 12])
@pytest.mark.parametrize("share", cache_replay.BUDGET_SHARES)
def test_benefit_saves_at_least_as_many_steps_as_lru_and_fifo(seed: int, share: float) -> None:
    stream = prompt_stream.make(4000, seed)
    budget = int(share * 4000 * 0.5) * len(cache_replay.KS) * cache_replay.STATE_BYTES
    saved = {}
    for policy in Policy:
        cache = cache_replay.Cache(Ledger(budget, policy, math.inf, ManualClock()))
        skips = cache_replay.replay(stream, cache)
        saved[policy] = sum(k * count for k, count in skips.items())
        assert cache.ledger.bytes_used <= budget
    assert saved[Policy.BENEFIT] >= saved[Policy.LRU] >= saved[Policy.FIFO] > 0
