"""How much memory a model folder will take, read from the headers of its files."""

from __future__ import annotations

import json
import math
import struct
from pathlib import Path

from argus.diffusion.folder import read_json
from argus.errors import ModelError

HEADER_LIMIT = 100_000_000
"""Bytes; a safetensors header that claims more is broken, as the format itself has it."""


def folder_weights_bytes(folder: Path, itemsize: int) -> int:
    """Return the bytes of a diffusers folder's weights once loaded.

    Args:
        folder: in diffusers format; only the parts that its model_index.json names count.
        itemsize: bytes of one weight in the dtype that they are loaded in.

    Raises:
        ModelError: a file is missing or its header cannot be read.
    """
    total = 0
    for name, entry in read_json(folder, "model_index.json").items():
        if isinstance(entry, list) and entry[0] is not None and (folder / name).is_dir():
            files = sorted((folder / name).glob("*.safetensors"))
            whole = [file for file in files if ".fp16." not in file.name]
            total += sum(_elements(file) for file in whole or files) * itemsize
    return total


def _elements(file: Path) -> int:
    """Return the number of weights in a safetensors file."""
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > HEADER_LIMIT:
                raise ValueError(f"its header claims {length:,} bytes")
            header = json.loads(stream.read(length))
        return sum(
            math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__"
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise ModelError(f"{file}: not a readable safetensors file: {error}") from error
