"""Who asks for what, and when: kinds of requests, mixes of them, Poisson arrivals."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

from argus.types import ResolvedRequest, VariantInfo

COLOURS = ("red", "blue", "green", "yellow", "purple", "orange", "white", "black")
SHAPES = ("circle", "square", "triangle", "ring", "star", "cross")
RELATIONS = ("left of", "right of", "above", "below")


@dataclass(frozen=True, slots=True)
class Kind:
    """Requests that a request-level batcher may put into one batch: all of this is equal.

    `weight` is the share of such requests in a mix.
    """

    sampler: str
    steps: int
    guided: bool
    weight: float = 1.0

    def shortened(self, fraction: float) -> Kind:
        """Return the same kind with that fraction of its steps, at least two."""
        steps = max(2, round(self.steps * fraction))
        return Kind(self.sampler, steps, self.guided, self.weight)


SAME = (Kind("ddim", 20, guided=True),)
"""Every request equal to every other: request-level batching at its best."""

MIXED = (
    Kind("dpmpp_2m", 20, guided=True, weight=0.30),
    Kind("dpmpp_2m", 30, guided=True, weight=0.20),
    Kind("ddim", 30, guided=True, weight=0.15),
    Kind("ddim", 50, guided=True, weight=0.15),
    Kind("dpmpp_2m", 20, guided=False, weight=0.10),
    Kind("ddim", 50, guided=False, weight=0.10),
)
"""Users who choose for themselves: two samplers, three step counts, guidance on or off; skewed, so
that the common kinds can still be batched."""


def poisson(rate: float, window_s: float, seed: int) -> list[float]:
    """Return arrival times, seconds from 0 to `window_s`, at `rate` a second; at least two."""
    rng = random.Random(seed)
    times: list[float] = []
    at = 0.0
    while True:
        at += rng.expovariate(rate)
        if at >= window_s and len(times) >= 2:
            return times
        times.append(at)


def requests(
    mix: Sequence[Kind], count: int, seed: int, variant: VariantInfo, name: str
) -> list[tuple[Kind, ResolvedRequest]]:
    """Draw `count` requests of a mix, each with a prompt of its own.

    Args:
        mix: the kinds and their weights.
        count: of requests.
        seed: of the draw.
        variant: whom the requests are for; guided ones take its default guidance.
        name: put before every request id; ids must be unique among requests in flight.
    """
    rng = random.Random(seed)
    scenes = list(itertools.product(COLOURS, SHAPES, RELATIONS, COLOURS, SHAPES))
    kinds = rng.choices(mix, [kind.weight for kind in mix], k=count)
    drawn = []
    for number, kind in enumerate(kinds):
        colour, shape, relation, colour_2, shape_2 = rng.choice(scenes)
        prompt = f"a {colour} {shape} {relation} a {colour_2} {shape_2}"
        drawn.append((kind, request(kind, variant, f"{name}-{number}", prompt, seed=number)))
    return drawn


def request(
    kind: Kind, variant: VariantInfo, request_id: str, prompt: str, seed: int
) -> ResolvedRequest:
    """Return one request of a kind at the variant's native size."""
    return ResolvedRequest(
        request_id=request_id,
        attempt=1,
        prompt=prompt,
        negative_prompt="",
        seed=seed,
        width=variant.width,
        height=variant.height,
        steps=kind.steps,
        guidance=max(1.5, variant.default_guidance) if kind.guided else 1.0,
        sampler=kind.sampler,
        variant=variant.name,
        level="reference",
    )
