"""Lane buckets: the sizes a forward is padded to, found by measurement.

Numerical libraries pick another kernel, with another order of summation, for another batch size.
An image would then depend on who shares its batch. Some also have another kernel for the last rows
of a product, so that it would depend on its lane. The probe runs every size up to the limit, with
its rows in several orders, and keeps the largest family of sizes whose outputs are equal bit for
bit, in every lane; forwards are padded up to the next size of that family, so a row's picture is
the same alone or in company.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from argus.diffusion.adapter import GUIDANCE, PipelineAdapter
from argus.engine.forwards import Forwards
from argus.types import StepCosts

log = logging.getLogger(__name__)

Forward = Callable[[torch.Tensor, torch.Tensor, Mapping[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Buckets:
    """Sizes a forward may have.

    Attributes:
        sizes: ascending lane counts.
        exact: whether a lane's output is bitwise the same in all of them.
        costs: measured seconds of a step for each size.
    """

    sizes: tuple[int, ...]
    exact: bool
    costs: StepCosts

    @property
    def max_lanes(self) -> int:
        """Lanes of the widest forward."""
        return self.sizes[-1]

    def size_for(self, lanes: int) -> int:
        """Return the smallest bucket that holds `lanes` lanes."""
        return self.sizes[bisect_left(self.sizes, lanes)]


ONE_GUIDED_ROW = 2
"""Lanes."""
SLOW_FORWARD_S = 0.5
"""Where one lane takes longer than this, fewer sizes are tried and each is timed once."""
SMALL_LATENT = 16 * 16
"""Up to so many places of a latent every size is tried even so: they add seconds, not minutes, and
the fewer sizes there are, the less likely it is that some agree."""


def probe_sizes(max_lanes: int, slow: bool = False) -> list[int]:
    """Return the lane counts worth trying: all up to 8, then every second, then every fourth.

    For a slow model only powers of two, since every size costs seconds of warm-up.
    """
    sizes = [*range(1, 9), *range(10, 17, 2), *range(20, 4097, 4)]
    if slow:
        sizes = [1, 2, 4, 8, 16, 32, 64]
    return [n for n in sizes if n < max_lanes] + [max_lanes]


def probe_buckets(
    adapter: PipelineAdapter,
    max_lanes: int,
    repeats: int = 2,
    now_s: Callable[[], float] = time.perf_counter,
    forward: Forward | None = None,
) -> Buckets:
    """Run a variant at its native size with every lane count, compare and time the outputs.

    Also the warm-up: every bucket has been run once when it returns. Sizes that memory does not
    hold are left out, as long as one guided row fits.

    Args:
        adapter: the variant.
        max_lanes: lanes of the widest forward.
        repeats: timed runs of a size, after one that is not, each with the rows in another order.
        now_s: the clock.
        forward: how forwards are run; None: by the adapter itself.

    Raises:
        torch.OutOfMemoryError: not even a guided row fits.
    """
    forward = forward or adapter.forward
    shape = adapter.latent_shape(adapter.info.width, adapter.info.height)
    generator = torch.Generator("cpu").manual_seed(0)
    latents = torch.randn((max_lanes, *shape), generator=generator)
    latents = latents.to(adapter.device, adapter.dtype)
    times = torch.linspace(999.0, 1.0, max_lanes).to(adapter.device)
    texts = {
        name: torch.randn((max_lanes, *rest), generator=generator).to(
            adapter.device, torch.float32 if name == GUIDANCE else adapter.dtype
        )
        for name, rest in adapter.conditioning.items()
    }

    def run(lanes: int, order: torch.Tensor | None = None) -> tuple[torch.Tensor, float]:
        rows = slice(lanes) if order is None else order.to(adapter.device)
        own = {name: tensor[rows] for name, tensor in texts.items()}
        start_s = now_s()
        out = forward(latents[rows], times[rows], own).float().cpu()
        return out, now_s() - start_s

    run(1)
    # The machine may be busy for a moment: one fast forward of two shows what the model takes.
    slow = all(run(1)[1] > SLOW_FORWARD_S for _ in range(2))
    sizes_tried = probe_sizes(max_lanes, slow and shape[1] * shape[2] > SMALL_LATENT)
    log.info("warming %s up with %s lanes", adapter.info.name, describe(sizes_tried))
    outputs: dict[int, torch.Tensor] = {}
    by_lane: set[int] = set()
    seconds: dict[int, float] = {}
    for lanes in sizes_tried:
        taken_s = []
        try:
            outputs[lanes], first_s = run(lanes)
            taken_s.append(first_s)
            for order in _orders(lanes)[: 0 if slow else repeats]:
                out, last_s = run(lanes, order)
                taken_s.append(last_s)
                if not torch.equal(out, outputs[lanes][order]):
                    by_lane.add(lanes)
        except torch.OutOfMemoryError:
            if lanes <= ONE_GUIDED_ROW:
                raise
            log.warning("%s: %d lanes do not fit into memory", adapter.info.name, lanes)
            outputs.pop(lanes, None)
            break
        # The first run of a size may compile or allocate.
        seconds[lanes] = min(taken_s[1:] or taken_s)
    sizes, exact = choose_sizes(outputs, by_lane)
    return Buckets(sizes, exact, _costs(sizes, seconds))


def time_buckets(
    forwards: Forwards, latent: tuple[int, int, int], buckets: Buckets, repeats: int = 3
) -> Buckets:
    """Return the buckets with the cost of their forwards as they are run, graphs included."""
    device = forwards.adapter.device
    seconds: dict[int, float] = {}
    for lanes in buckets.sizes:
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            forwards.run(latent, lanes)
            torch.cuda.synchronize(device)
            taken.append(time.perf_counter() - start)
        seconds[lanes] = min(taken)
    return Buckets(buckets.sizes, buckets.exact, _costs(buckets.sizes, seconds))


def _costs(sizes: tuple[int, ...], seconds: Mapping[int, float]) -> StepCosts:
    """Return the costs, which never fall as lanes grow.

    A padded forward costs what its bucket costs, and noise in one measurement must not make a
    fuller batch look cheaper than an emptier one.
    """
    cost = torch.tensor([seconds[n] for n in sizes]).cummax(0).values.tolist()
    return StepCosts(sizes, tuple(cost))


def _orders(lanes: int) -> list[torch.Tensor]:
    """Return orders of the lanes in which most have another place than in any other order."""
    ascending = torch.arange(lanes)
    return [ascending.roll(1), ascending.flip(0), ascending.roll(lanes // 2)]


def choose_sizes(
    outputs: dict[int, torch.Tensor], by_lane: Collection[int] = ()
) -> tuple[tuple[int, ...], bool]:
    """Return the sizes to use and whether they agree bit for bit.

    Args:
        outputs: by lane count, the outputs (lanes, …) for the same leading inputs.
        by_lane: lane counts with which a row's output depends on its lane.
    """
    families: list[list[int]] = []
    for lanes in sorted(outputs.keys() - set(by_lane)):
        for family in families:
            if _agree(outputs[family[0]], outputs[lanes]):
                family.append(lanes)
                break
        else:
            families.append([lanes])
    best = max(families, key=lambda f: (len(f), f[-1]), default=[0])
    widest = max(outputs)
    # A guided row needs two lanes; a family of one would pad every forward to the widest.
    if best[-1] >= 2 and (len(best) > 1 or widest == 2):
        return tuple(best), True
    return tuple(sorted(n for n in outputs if n & (n - 1) == 0 or n == widest)), False


def _agree(a: torch.Tensor, b: torch.Tensor) -> bool:
    shared = min(len(a), len(b))
    return torch.equal(a[:shared], b[:shared])


def describe(sizes: Sequence[int]) -> str:
    """Return sizes as people read them: '4-8, 10, 12'."""
    parts: list[str] = []
    start = previous = sizes[0]
    for n in [*sizes[1:], -1]:
        if n == previous + 1:
            previous = n
            continue
        parts.append(str(start) if start == previous else f"{start}-{previous}")
        start = previous = n
    return ", ".join(parts)
