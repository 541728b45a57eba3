"""The modules of a pipeline folder, loaded one by one so that nothing missing goes unnoticed."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from argus.diffusion.folder import read_json
from argus.errors import ModelError

NOT_NEEDED = {"safety_checker", "image_encoder", "feature_extractor"}
LONGEST_TEXT = 4096
"""Tokens; a tokenizer that claims more has lost its configuration."""


def load_modules(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Load every neural module that model_index.json names, from safetensors only.

    diffusers fills weights that a file does not have with random numbers and goes on, which would
    serve noise; here that is an error.

    Raises:
        ModelError: a module's folder, its file, or some of its weights are missing.
    """
    modules: dict[str, Any] = {}
    for name, entry in read_json(folder, "model_index.json").items():
        if not isinstance(entry, list) or entry[0] is None or name in NOT_NEEDED:
            continue
        if not (folder / name).is_dir():
            raise ModelError(f"{folder}: the folder {name}/ is missing")
        library, class_name = entry
        kind = getattr(importlib.import_module(library), class_name, None)
        if isinstance(kind, type) and issubclass(kind, torch.nn.Module):
            modules[name] = _load(kind, folder, name, dtype)
    return modules


def _load(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> Any:
    files = list((folder / name).glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: {name}/ holds no .safetensors file, and no other is read")
    only_half = all(".fp16." in file.name for file in files)
    module, report = kind.from_pretrained(
        folder / name,
        dtype=dtype,
        local_files_only=True,
        use_safetensors=True,
        variant="fp16" if only_half else None,
        output_loading_info=True,
    )
    for what in ("missing_keys", "mismatched_keys"):
        lost = sorted(str(key) for key in report[what])
        if lost:
            raise ModelError(
                f"{folder}: {name}: {len(lost)} weights are missing or of another shape, "
                f"such as {lost[0]}"
            )
    return module


def check_tokenizer(folder: Path, name: str, tokenizer: Any) -> None:
    """Raise ModelError when a tokenizer has no usable length."""
    if tokenizer is None or not 0 < tokenizer.model_max_length <= LONGEST_TEXT:
        raise ModelError(f"{folder}: {name}/ is incomplete: it states no model_max_length")
