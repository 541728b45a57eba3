"""Measures what a variant costs at one size of picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

import torch

from argus.control.profile import SizeCosts, StateCosts
from argus.diffusion.adapter import GUIDANCE, PipelineAdapter
from argus.engine.images import encode_image
from argus.errors import ModelError
from argus.node.gauge import Gauge
from argus.types import ImageFormat, StepCosts

PROMPT = "a lighthouse on a cliff above a stormy sea, oil on canvas, evening light"

Say = Callable[[str], None]
Size = tuple[int, int]


def measure_size(
    adapter: PipelineAdapter, size: Size, lane_counts: Sequence[int], gauge: Gauge, say: Say
) -> SizeCosts:
    """Return what pictures of `size`, (width, height) in pixels, cost.

    Args:
        adapter: the variant.
        size: one that the variant makes.
        lane_counts: ascending; where one does not fit in memory, it and the rest are left out.
        gauge: of the adapter's device.
        say: told of every measurement.

    Raises:
        ModelError: not even the fewest lanes fit in memory.
    """
    steps, step_peaks = _steps(adapter, size, lane_counts, gauge, say)
    latents = _noise(adapter, size, 1).float()
    decode_s = gauge.best_s(lambda: adapter.decode(latents))
    decode_peak = gauge.meter.peak_of(lambda: adapter.decode(latents))
    say(f"decoding {shown_s(decode_s)}, {shown_bytes(decode_peak)} at most")
    pixels = adapter.decode(latents)[0].numpy()
    compress_s = {
        kind.value: gauge.best_s(partial(encode_image, pixels, kind)) for kind in ImageFormat
    }
    say("compressing " + ", ".join(f"{name} {shown_s(s)}" for name, s in compress_s.items()))
    return SizeCosts(
        width=size[0],
        height=size[1],
        steps=steps,
        step_peak_bytes=step_peaks,
        decode_s=decode_s,
        decode_peak_bytes=decode_peak,
        compress_s=compress_s,
        state=_state(latents[0], gauge, say),
    )


def _steps(
    adapter: PipelineAdapter, size: Size, lane_counts: Sequence[int], gauge: Gauge, say: Say
) -> tuple[StepCosts, tuple[int | None, ...]]:
    """Return seconds and peak bytes of a step by lanes.

    Seconds never fall as lanes grow: noise in one measurement would make a fuller batch look
    cheaper than an emptier one.
    """
    seconds: list[float] = []
    peaks: list[int | None] = []
    for lanes in lane_counts:
        try:
            forward = _forward(adapter, size, lanes)
            seconds.append(gauge.best_s(forward))
            peaks.append(gauge.meter.peak_of(forward))
        except torch.cuda.OutOfMemoryError as error:
            del seconds[len(peaks) :]
            if not peaks:
                raise ModelError(f"a step of {lanes} lanes does not fit in memory") from error
            say(f"{lanes} lanes do not fit in memory")
            break
        say(f"{lanes} lanes {shown_s(seconds[-1])} a step, {shown_bytes(peaks[-1])} at most")
    rising = tuple(accumulate(seconds, max))
    return StepCosts(tuple(lane_counts[: len(peaks)]), rising), tuple(peaks)


def _forward(adapter: PipelineAdapter, size: Size, lanes: int) -> Callable[[], torch.Tensor]:
    """Return a step of so many lanes, as a call without arguments."""
    latents = _noise(adapter, size, lanes).to(adapter.dtype)
    times = torch.linspace(999.0, 1.0, lanes).to(adapter.device)
    texts = dict(adapter.encode(PROMPT, False, *size).tensors)
    if GUIDANCE in adapter.conditioning:
        texts[GUIDANCE] = torch.tensor(adapter.info.default_guidance).to(latents)
    batch = {
        name: texts[name].expand(lanes, *shape).contiguous()
        for name, shape in adapter.conditioning.items()
    }
    return lambda: adapter.forward(latents, times, batch)


def _noise(adapter: PipelineAdapter, size: Size, lanes: int) -> torch.Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    noise = torch.randn((lanes, *adapter.latent_shape(*size)), generator=generator)
    return noise.to(adapter.device)


def _state(latents: torch.Tensor, gauge: Gauge, say: Say) -> StateCosts:
    """Return the costs of copying latents (channels, height, width) between host and device."""
    host = torch.empty(latents.shape, pin_memory=latents.is_cuda)
    there = latents.clone()
    to_host_s = gauge.best_s(lambda: host.copy_(there, non_blocking=True))
    to_device_s = gauge.best_s(lambda: there.copy_(host, non_blocking=True))
    say(f"copying a state {shown_s(to_host_s)} to the host, {shown_s(to_device_s)} back")
    return StateCosts(latents.numel() * latents.element_size(), to_host_s, to_device_s)


def shown_s(seconds: float) -> str:
    """Return seconds as people read them."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def shown_bytes(count: int | None) -> str:
    """Return bytes as people read them."""
    return "bytes unknown" if count is None else f"{count / 2**20:.1f} MiB"
