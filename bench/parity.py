"""One request made twice, by the engine and by diffusers' own pipeline, and how far they differ."""

from __future__ import annotations

import io
import queue
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    DiffusionPipeline,
    FlowMatchHeunDiscreteScheduler,
    FluxPipeline,
    LatentConsistencyModelPipeline,
)
from numpy.typing import NDArray
from PIL import Image

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.diffusion.flow import FLOW_SAMPLERS, make_flow_scheduler
from argus.diffusion.flux import FluxAdapter
from argus.diffusion.schedules import make_scheduler
from argus.engine.engine import Engine
from argus.engine.events import RowDone, RowFailed
from argus.types import ResolvedRequest

CPU = torch.device("cpu")
FLUX_SIDE = 8
"""Latents; FluxPipeline fixes 128 in its code, which is too much for a comparison."""
USUAL_LATENTS = 4.0
"""Largest absolute value that the latents of a trained model reach in practice."""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far the engine's result lies from diffusers'.

    Attributes:
        latents: largest absolute difference of the final latents.
        bound: what it may be: 1e-4 for latents as large as a trained model's, more in proportion
            where random weights make them grow, and never less than the spacing of float32 numbers
            as large as the noise at the start.
        pixels: largest difference of the pictures, of 255.
    """

    latents: float
    bound: float
    pixels: int


def make_request(variant: str, sampler: str, **changes: Any) -> ResolvedRequest:
    """Return a request of 32x32 pixels, 8 steps and no guidance, but for the changes."""
    fields: dict[str, Any] = {
        "request_id": f"{variant}-{sampler}",
        "attempt": 1,
        "prompt": "a red circle left of a blue square",
        "negative_prompt": "",
        "seed": 7,
        "width": 32,
        "height": 32,
        "steps": 8,
        "guidance": 1.0,
        "sampler": sampler,
        "variant": variant,
        "level": "reference",
    }
    return ResolvedRequest(**(fields | changes))


class Pair:
    """An engine over some folders, and the pipelines of the same folders."""

    def __init__(self, folders: Mapping[str, Path]) -> None:
        torch.set_num_threads(1)
        self.pipelines = {name: _pipeline(folder) for name, folder in folders.items()}
        self._configs = {
            name: {**pipeline.scheduler.config, "_class_name": type(pipeline.scheduler).__name__}
            for name, pipeline in self.pipelines.items()
        }
        adapters: list[PipelineAdapter] = []
        for name, folder in folders.items():
            if isinstance(self.pipelines[name], FluxPipeline):
                own = _pipeline(folder)
                adapters.append(FluxAdapter(name, folder, own, CPU, torch.float32))
            else:
                adapters.append(load_variant(folder, CPU, torch.float32))
        self.engine = Engine(adapters)

    def close(self) -> None:
        """Stop the engine."""
        self.engine.close()

    def compare(self, wanted: ResolvedRequest) -> Difference:
        """Make the request twice and compare."""
        latents, picture = self.ours(wanted)
        their_latents, their_picture = self.theirs(wanted)
        scale = max(1.0, their_latents.abs().max().item() / USUAL_LATENTS)
        table = self.engine.adapters[wanted.variant].step_table(
            wanted.sampler, wanted.steps, wanted.width, wanted.height
        )
        spacing = torch.finfo(torch.float32).eps * USUAL_LATENTS * table.initial_scale
        return Difference(
            (latents - their_latents).abs().max().item(),
            max(1e-4 * scale, spacing),
            int(np.abs(picture - their_picture).max()),
        )

    def ours(self, wanted: ResolvedRequest) -> tuple[torch.Tensor, NDArray[Any]]:
        """Return the final latents and the pixels that the engine makes."""
        events: queue.Queue[Any] = queue.Queue()
        with _recorded(self.engine.adapters[wanted.variant]) as latents:
            self.engine.submit(wanted, events.put)
            while not isinstance(event := events.get(timeout=120), RowDone):
                if isinstance(event, RowFailed):
                    raise RuntimeError(f"{wanted}: {event}")
        return latents[-1], np.asarray(Image.open(io.BytesIO(event.data))).astype(int)

    def theirs(self, wanted: ResolvedRequest) -> tuple[torch.Tensor, NDArray[Any]]:
        """Return the final latents and the pixels that the pipeline makes."""
        pipeline = self.pipelines[wanted.variant]
        options: dict[str, Any] = {"guidance_scale": wanted.guidance}
        pipeline.scheduler = _scheduler(wanted.sampler, self._configs[wanted.variant])
        # An empty negative prompt is none to diffusers' users, but for true guidance, which asks
        # for one.
        negative = wanted.negative_prompt or None
        if isinstance(pipeline, FluxPipeline):
            options["true_cfg_scale"] = wanted.true_guidance
            negative = wanted.negative_prompt if wanted.true_guidance > 1.0 else None
        if not isinstance(pipeline, LatentConsistencyModelPipeline):
            options["negative_prompt"] = negative
        if wanted.guidance_rescale:
            options["guidance_rescale"] = wanted.guidance_rescale
        last: list[torch.Tensor] = []

        def keep(_: Any, step: int, t: Any, values: dict[str, Any]) -> dict[str, Any]:
            last[:] = [values["latents"].clone()]
            return values

        image = pipeline(
            wanted.prompt,
            width=wanted.width,
            height=wanted.height,
            num_inference_steps=wanted.steps,
            generator=torch.Generator("cpu").manual_seed(wanted.seed),
            callback_on_step_end=keep,
            **options,
        ).images[0]
        (latents,) = last
        if isinstance(pipeline, FluxPipeline):
            scale = pipeline.vae_scale_factor
            latents = pipeline._unpack_latents(latents, wanted.height, wanted.width, scale)
        return latents, np.asarray(image).astype(int)


class HeunSteps(FlowMatchHeunDiscreteScheduler):  # type: ignore[misc]
    """Diffusers' Heun steps over the schedule of its Euler scheduler.

    The pipelines hand over sigmas and a shift, which the class itself has no arguments for.
    """

    def __init__(self, schedule: Any) -> None:
        super().__init__()
        self.register_to_config(**schedule.config)
        self._schedule = schedule

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        self._schedule.set_timesteps(num_inference_steps, device, sigmas, mu)
        points = [i for i in range(len(self._schedule.timesteps)) for _ in range(2)][1:]
        self.timesteps = self._schedule.timesteps[points]
        self.sigmas = torch.cat([self._schedule.sigmas[points], self._schedule.sigmas[-1:]])
        self.prev_derivative = self.dt = None
        self._step_index = self._begin_index = None


def _scheduler(sampler: str, config: Mapping[str, Any]) -> Any:
    if sampler not in FLOW_SAMPLERS:
        return make_scheduler(sampler, config)
    schedule = make_flow_scheduler(config)
    return HeunSteps(schedule) if sampler == "flow_heun" else schedule


def _pipeline(folder: Path) -> Any:
    absent = {}
    if folder.name == "tiny-sd3-no-t5":
        absent = {"text_encoder_3": None, "tokenizer_3": None}
    pipeline = DiffusionPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, **absent
    )
    pipeline.set_progress_bar_config(disable=True)
    if isinstance(pipeline, FluxPipeline):
        pipeline.default_sample_size = FLUX_SIDE
    return pipeline


@contextmanager
def _recorded(adapter: PipelineAdapter) -> Iterator[list[torch.Tensor]]:
    """Keep what the engine hands to an adapter's decoder."""
    latents: list[torch.Tensor] = []
    decode = adapter.decode

    def record(given: torch.Tensor, tiled: bool = False) -> torch.Tensor:
        latents.append(given.clone())
        return decode(given, tiled)

    adapter.decode = record  # type: ignore[method-assign]
    try:
        yield latents
    finally:
        del adapter.decode
