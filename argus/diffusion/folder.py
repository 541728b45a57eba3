"""What a model folder says of itself, read without loading torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from argus.errors import ModelError
from argus.types import MAX_GUIDANCE, MAX_STEPS

FAMILIES = (
    "StableDiffusionPipeline",
    "LatentConsistencyModelPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusion3Pipeline",
    "FluxPipeline",
)
"""Pipeline classes of model_index.json that are served."""
NOT_TEXT_TO_IMAGE = ("Img2Img", "Inpaint", "ControlNet", "Upscale", "Kontext", "Fill", "Adapter")
"""Marks, in a pipeline's name, of one that needs more than a text."""


def pipeline_class(folder: Path) -> str:
    """Return the pipeline class of a diffusers folder.

    Raises:
        ModelError: the folder is missing or broken, or its class is not served.
    """
    kind = read_json(folder, "model_index.json").get("_class_name")
    if kind in FAMILIES:
        return str(kind)
    why = "is not served"
    if any(mark in str(kind) for mark in NOT_TEXT_TO_IMAGE):
        why = "needs more than a text, such as a picture, and is not served"
    raise ModelError(f"{folder}: pipeline {kind!r} {why}; served: {', '.join(FAMILIES)}")


def read_json(folder: Path, name: str) -> dict[str, Any]:
    """Return the JSON object in `folder`/`name`.

    Raises:
        ModelError: it is missing or is not a JSON object.
    """
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    try:
        data = json.loads((folder / name).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: not a diffusers folder, {name} is missing") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{folder}: {name} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{folder}: {name} must hold a JSON object")
    return data


def own_defaults(folder: Path) -> dict[str, Any]:
    """Return default_steps and default_guidance where an argus.json in the folder states them.

    Raises:
        ModelError: it cannot be read, or states something else.
    """
    own = read_json(folder, "argus.json") if (folder / "argus.json").exists() else {}
    unknown = set(own) - {"default_steps", "default_guidance"}
    if unknown:
        raise ModelError(f"{folder}: argus.json: unknown {', '.join(sorted(unknown))}")
    steps, guidance = own.get("default_steps", 1), own.get("default_guidance", 0.0)
    if type(steps) is not int or not 1 <= steps <= MAX_STEPS:
        raise ModelError(
            f"{folder}: argus.json: default_steps must be 1 to {MAX_STEPS:,}, not {steps!r}"
        )
    if type(guidance) not in (int, float) or not 0.0 <= guidance <= MAX_GUIDANCE:
        raise ModelError(
            f"{folder}: argus.json: default_guidance must be 0 to {MAX_GUIDANCE:g}, "
            f"not {guidance!r}"
        )
    return own
