"""Which lane counts a variant is probed with, and which of them are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain, repeat
from typing import Any

import pytest
import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.buckets import choose_sizes, describe, probe_buckets, probe_sizes


def test_buckets_are_the_largest_family_of_equal_sizes() -> None:
    base = torch.arange(8.0).view(8, 1)
    outputs = {n: base[:n] + (1e-6 if n < 4 else 0.0) for n in range(1, 9)}
    outputs[1] = base[:1] - 1e-6
    assert choose_sizes(outputs) == ((4, 5, 6, 7, 8), True)


def test_without_a_family_buckets_are_powers_of_two() -> None:
    outputs = {n: torch.full((n, 1), float(n)) for n in (1, 2, 3, 4, 5, 6)}
    assert choose_sizes(outputs) == ((1, 2, 4, 6), False)
    assert choose_sizes({1: outputs[1], 2: outputs[2]}) == ((2,), True)


def test_probe_sizes_end_at_the_limit() -> None:
    assert probe_sizes(6) == [1, 2, 3, 4, 5, 6]
    assert probe_sizes(11) == [1, 2, 3, 4, 5, 6, 7, 8, 10, 11]
    assert describe([4, 5, 6, 8, 10, 11]) == "4-6, 8, 10-11"
    assert describe([2]) == "2"


class Paced:
    """A variant whose forwards take as long as written down, by a clock of their own."""

    def __init__(self, adapter: PipelineAdapter, taken_s: Iterator[float], side: int) -> None:
        self._adapter = adapter
        self._taken_s = taken_s
        self._side = side
        self.now_s = 0.0
        self.lanes: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._adapter, name)

    def latent_shape(self, width: int, height: int) -> tuple[int, int, int]:
        return (4, self._side, self._side)

    def forward(
        self, latents: torch.Tensor, times: torch.Tensor, texts: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        self.lanes.append(len(latents))
        self.now_s += next(self._taken_s)
        return self._adapter.forward(latents, times, texts)


@pytest.mark.parametrize(
    ("taken_s", "side", "first", "sizes", "runs"),
    [
        pytest.param([9.0], 18, 2, range(1, 6), 3, id="slow while cold"),
        pytest.param([9.0, 9.0], 18, 3, range(1, 6), 3, id="one slow forward of two"),
        pytest.param([9.0, 9.0, 9.0], 18, 3, [1, 2, 4, 5], 1, id="slow"),
        pytest.param([9.0, 9.0, 9.0], 16, 3, range(1, 6), 1, id="slow but small"),
    ],
)
def test_only_a_variant_that_stays_slow_and_is_large_is_probed_with_fewer_sizes(
    tiny_adapters: list[PipelineAdapter],
    taken_s: list[float],
    side: int,
    first: int,
    sizes: Sequence[int],
    runs: int,
) -> None:
    variant = Paced(tiny_adapters[0], chain(taken_s, repeat(0.1)), side)
    buckets = probe_buckets(variant, 5, now_s=lambda: variant.now_s)
    assert variant.lanes[:first] == [1] * first
    assert variant.lanes[first:] == [n for n in sizes for _ in range(runs)]
    assert buckets.costs.seconds == pytest.approx([0.1] * len(buckets.sizes))
