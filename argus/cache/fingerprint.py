"""What tells two folders of weights apart without reading gigabytes."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO

from argus.errors import ModelError

_TENSOR_SAMPLE_BYTES = 512
_LONGEST_HEADER = 100 * 2**20


def folder_fingerprint(folder: Path) -> str:
    """Return 32 hexadecimal digits for a model folder.

    They cover every JSON file, and of every safetensors file the header and the first 512 bytes
    of each tensor: training that touches a tensor changes its first values, and SDXL's 5 GB take
    a few thousand small reads.

    Raises:
        ModelError: the folder holds no safetensors file, or one that cannot be read.
    """
    total = blake2b(digest_size=16)
    weights = 0
    for path in sorted(folder.rglob("*")):
        if path.suffix not in (".json", ".safetensors") or not path.is_file():
            continue
        total.update(str(path.relative_to(folder)).encode() + b"\0")
        if path.suffix == ".json":
            total.update(path.read_bytes())
            continue
        weights += 1
        with path.open("rb") as file:
            total.update(_weights_digest(path, file))
    if not weights:
        raise ModelError(f"{folder}: no .safetensors file to take a fingerprint of")
    return total.hexdigest()


def _weights_digest(path: Path, file: BinaryIO) -> bytes:
    part = blake2b(digest_size=16)
    length = int.from_bytes(file.read(8), "little")
    if not 0 < length <= _LONGEST_HEADER:
        raise ModelError(f"{path}: not a safetensors file")
    header = file.read(length)
    part.update(header)
    try:
        tensors = json.loads(header)
        offsets = sorted(
            tuple(entry["data_offsets"]) for name, entry in tensors.items() if name[:2] != "__"
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: its safetensors header cannot be read: {error}") from error
    for start, end in offsets:
        file.seek(8 + length + start)
        part.update(file.read(min(_TENSOR_SAMPLE_BYTES, end - start)))
    return part.digest()
