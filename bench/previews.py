"""Measure how far the bundled family's previews resemble its pictures."""

from __future__ import annotations

import argparse
import random

import numpy as np
import torch
from diffusers import DiffusionPipeline
from record import table

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.models import bundled_variants
from argus.models.captions import facts_of, write_caption
from argus.models.scenes import scene_at

SEED = 20261125
"""Names a list of scenes that nothing else draws from."""
STEPS = 10


def prompts(count: int, *, held_out: bool) -> list[str]:
    """Return captions of scenes on one side of the family's split."""
    found = []
    for i in range(count):
        dice = random.Random(i)
        scene = scene_at(SEED, i, held_out=held_out)
        found.append(write_caption(facts_of(scene, dice, full=True), dice))
    return found


def draw(adapter: PipelineAdapter, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
    """Let diffusers' pipeline draw, with the variant's own guidance.

    Returns:
        The latents (n, channels, h, w), and the pictures averaged to one pixel for each latent,
        (n, h, w, 3) from 0 to 255.
    """
    folder = bundled_variants()[adapter.info.name]
    pipeline = DiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    latents = pipeline(
        texts,
        num_inference_steps=STEPS,
        guidance_scale=adapter.info.default_guidance,
        generator=[torch.Generator().manual_seed(i) for i in range(len(texts))],
        output_type="latent",
    ).images
    planes = torch.stack(list(adapter.decode(latents))).float().movedim(-1, 1)
    factor = planes.shape[-1] // latents.shape[-1]
    return latents, torch.nn.functional.avg_pool2d(planes, factor).movedim(1, -1)


def correlations(previews: torch.Tensor, pictures: torch.Tensor) -> list[float]:
    """Return the correlation of each preview's values with its picture's."""
    pairs = zip(previews.flatten(1), pictures.flatten(1), strict=True)
    return [float(np.corrcoef(a.double(), b.double())[0, 1]) for a, b in pairs]


def fitted(latents: torch.Tensor, pictures: torch.Tensor) -> torch.Tensor:
    """Return the least-squares map (channels + 1, 3) from latents to these very pictures."""
    return torch.linalg.lstsq(_columns(latents), pictures.double().flatten(0, 2)).solution


def _columns(latents: torch.Tensor) -> torch.Tensor:
    flat = latents.double().movedim(1, -1).flatten(0, 2)
    return torch.cat([flat, torch.ones(len(flat), 1, dtype=flat.dtype)], 1)


def lines(name: str, count: int) -> list[dict[str, object]]:
    """Return a line for the map that is served, and one for a map fitted to other pictures."""
    adapter = load_variant(bundled_variants()[name], torch.device("cpu"), torch.float32)
    best = fitted(*draw(adapter, prompts(count, held_out=False)))
    latents, pictures = draw(adapter, prompts(count, held_out=True))
    ways = {
        "served": torch.stack([adapter.preview(one) for one in latents]).float(),
        "fitted to pictures": (_columns(latents) @ best).reshape(pictures.shape),
    }
    found = []
    for way, previews in ways.items():
        values = correlations(previews, pictures)
        least, tenth, median = np.quantile(values, (0.0, 0.1, 0.5)).tolist()
        found.append(
            {
                "variant": name,
                "map": way,
                "n": count,
                "mean": float(np.mean(values)),
                "median": median,
                "10 %": tenth,
                "least": least,
                "difference of 255": float((previews - pictures).abs().mean()),
            }
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=48, help="held-out prompts (%(default)s)")
    count = parser.parse_args().count
    torch.set_num_threads(1)
    print(table([line for name in ("scenes-base", "scenes-small") for line in lines(name, count)]))


if __name__ == "__main__":
    main()
