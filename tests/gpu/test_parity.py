"""The engine on CUDA against diffusers' own pipelines on CUDA, every family, float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from argus.engine.engine import Engine

from .rows import SIDE, load, picture, start, wish

FAMILIES = [
    "StableDiffusionPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
]
PICTURE_STEPS = 1
"""Of 255. Batches of another size take other kernels of cuDNN and cuBLAS, so that a value next to
the middle between two steps may be rounded to the other one."""


def theirs(kind: str, folder: Path, device: torch.device) -> Any:
    parts: dict[str, Any] = {"dtype": torch.float32, "local_files_only": True}
    if kind == "StableDiffusionPipeline":
        parts["safety_checker"] = None
    pipeline = getattr(diffusers, kind).from_pretrained(folder, **parts).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.mark.parametrize("guidance", [1.0, 5.0])
@pytest.mark.parametrize("kind", FAMILIES)
def test_pictures_equal_those_of_diffusers(
    folders: dict[str, Path], device: torch.device, kind: str, guidance: float
) -> None:
    adapter = load(folders[kind], device)
    engine = Engine([adapter])
    try:
        wanted = wish(adapter, "parity", guidance=guidance)
        ours = picture(start(engine, wanted))
    finally:
        engine.close()
    expected = theirs(kind, folders[kind], device)(
        wanted.prompt,
        width=SIDE,
        height=SIDE,
        num_inference_steps=wanted.steps,
        guidance_scale=guidance,
        generator=torch.Generator("cpu").manual_seed(wanted.seed),
    ).images[0]
    assert np.abs(ours - np.asarray(expected).astype(int)).max() <= PICTURE_STEPS


@pytest.mark.parametrize("kind", FAMILIES)
def test_company_does_not_change_a_picture(
    folders: dict[str, Path], device: torch.device, kind: str
) -> None:
    adapter = load(folders[kind], device)
    engine = Engine([adapter])
    try:
        wishes = [
            wish(adapter, f"row-{n}", seed=n, steps=4 + n, guidance=1.0 + 3.0 * (n % 3))
            for n in range(12)
        ]
        together = [picture(events) for events in [start(engine, wanted) for wanted in wishes]]
        alone = [picture(start(engine, wanted)) for wanted in wishes]
    finally:
        engine.close()
    for mixed, single in zip(together, alone, strict=True):
        assert np.abs(mixed - single).max() <= PICTURE_STEPS
    # The rows are not all one picture, which would be equal in any company.
    assert np.abs(alone[0] - alone[1]).max() > PICTURE_STEPS
