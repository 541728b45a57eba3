"""The modules of a pipeline folder, loaded one by one so that nothing missing goes unnoticed."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from argus.diffusion.parts import named_parts
from argus.errors import ModelError

LONGEST_TEXT = 4096
"""Tokens; a tokenizer that claims more has lost its configuration."""
ADAPTER_MARKS = ("_ip.", "ip_adapter", "lora_", "encoder_hid_proj")
"""In names of weights that no module takes: what is left of an adapter."""


def load_modules(folder: Path, dtype: torch.dtype) -> dict[str, Any]:
    """Load every neural module that model_index.json names, from safetensors only.

    diffusers fills weights that a file does not have with random numbers and goes on, which would
    serve noise; here that is an error.

    Raises:
        ModelError: a part's folder or file, or some of its weights are missing, not finite, or not
            what the family takes.
    """
    return {
        name: _load(kind, folder, name, dtype)
        for name, kind in named_parts(folder).items()
        if issubclass(kind, torch.nn.Module)
    }


def weight_files(folder: Path, name: str, kind: type[Any]) -> list[Path]:
    """Return the files of a part's weights, found whole; none of a part that has no weights.

    Raises:
        ModelError: there is none although the part has weights, or one is cut short.
    """
    if not issubclass(kind, torch.nn.Module):
        return []
    files = sorted((folder / name).glob("*.safetensors"))
    if not files:
        raise ModelError(f"{folder}: {name}/ holds no .safetensors file, and no other is read")
    for file in files:
        _check_whole(folder, file)
    return files


def _load(kind: Any, folder: Path, name: str, dtype: torch.dtype) -> Any:
    files = weight_files(folder, name, kind)
    only_half = all(".fp16" in file.name for file in files)
    try:
        module, report = kind.from_pretrained(
            folder / name,
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            variant="fp16" if only_half else None,
            output_loading_info=True,
            # Listed in the report then, instead of raised without a name.
            ignore_mismatched_sizes=True,
        )
    except Exception as error:  # whatever a library says to a config it does not understand
        raise ModelError(f"{folder}: {name}: cannot be loaded: {first_line(error)}") from error
    _check_report(folder, name, report)
    check_finite(folder, name, module)
    return module


def first_line(error: Exception) -> str:
    """Return what an exception of a library says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _check_whole(folder: Path, file: Path) -> None:
    """Raise ModelError when a file of weights is cut short or is something else."""
    try:
        with safe_open(file, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        part = file.relative_to(folder)
        raise ModelError(f"{folder}: {part} cannot be read: {first_line(error)}") from error


def _check_report(folder: Path, name: str, report: Any) -> None:
    for what in ("missing_keys", "mismatched_keys"):
        lost = sorted(key if isinstance(key, str) else str(key[0]) for key in report[what])
        if lost:
            raise ModelError(
                f"{folder}: {name}: {len(lost)} weights are missing or of another shape, "
                f"such as {lost[0]}"
            )
    left = sorted(k for k in report["unexpected_keys"] if any(mark in k for mark in ADAPTER_MARKS))
    if left:
        raise ModelError(
            f"{folder}: {name}: {len(left)} weights of an adapter are left over, such as "
            f"{left[0]}; fuse it or remove it"
        )


def check_finite(folder: Path, name: str, module: torch.nn.Module) -> None:
    """Raise ModelError when some weight is not a finite number.

    The least and the largest of a tensor show that in one pass and without a copy.
    """
    for key, tensor in chain(module.named_parameters(), module.named_buffers()):
        if tensor.is_floating_point() and tensor.numel():
            ends = torch.stack(torch.aminmax(tensor.detach()))
            if not bool(torch.isfinite(ends).all()):
                raise ModelError(f"{folder}: {name}: the weight {key} is not finite")


def check_tokenizer(folder: Path, name: str, tokenizer: Any, text_encoder: Any) -> None:
    """Raise ModelError when a tokenizer has no usable length, or words its encoder lacks."""
    if tokenizer is None or not 0 < tokenizer.model_max_length <= LONGEST_TEXT:
        raise ModelError(f"{folder}: {name}/ is incomplete: it states no model_max_length")
    known = int(text_encoder.config.vocab_size)
    if not 0 < len(tokenizer) <= known:
        raise ModelError(
            f"{folder}: {name}/ has {len(tokenizer)} tokens, its text encoder {known} embeddings"
        )
