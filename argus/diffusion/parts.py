"""Which parts a pipeline folder must name, and which libraries may provide them.

Checked before anything is loaded, so that a folder that would be drawn wrong, or would run code of
its own, is refused with the part named.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from argus.diffusion.folder import read_json
from argus.errors import ModelError

LIBRARIES = ("diffusers", "transformers")
"""Libraries whose classes a folder may name; no other code is imported."""
UNUSED = frozenset({"safety_checker", "image_encoder", "feature_extractor"})
"""Parts that every family may name and none needs."""
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model", "vocab.txt")
"""Files that can hold a tokenizer's words; one is needed."""


@dataclass(frozen=True, slots=True)
class FamilyParts:
    """Names in a family's model_index.json: those that must be there and those that may be."""

    needed: frozenset[str]
    optional: frozenset[str] = frozenset()


_STABLE_DIFFUSION = FamilyParts(
    frozenset({"unet", "vae", "scheduler", "text_encoder", "tokenizer"}),
)
_FLOW = frozenset({"transformer", "vae", "scheduler"})
_TWO_TEXTS = frozenset({"text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"})

PARTS: Mapping[str, FamilyParts] = {
    "StableDiffusionPipeline": _STABLE_DIFFUSION,
    "LatentConsistencyModelPipeline": _STABLE_DIFFUSION,
    "StableDiffusionXLPipeline": FamilyParts(frozenset({"unet", "vae", "scheduler"}) | _TWO_TEXTS),
    "StableDiffusion3Pipeline": FamilyParts(
        _FLOW | _TWO_TEXTS, frozenset({"text_encoder_3", "tokenizer_3"})
    ),
    "FluxPipeline": FamilyParts(_FLOW | _TWO_TEXTS),
}


def named_parts(folder: Path) -> dict[str, type[Any]]:
    """Return the class of every part that the folder names and its family uses.

    Raises:
        ModelError: a part is missing or not known to the family, its class is not one of
            `LIBRARIES`, or its files are not there.
    """
    index = read_json(folder, "model_index.json")
    family = PARTS[index["_class_name"]]
    named = {name: entry for name, entry in index.items() if isinstance(entry, list)}
    used = {n: e for n, e in named.items() if n not in UNUSED and e != [None, None]}
    for name in sorted(family.needed - set(used)):
        if name.startswith("text_encoder") and name in named:
            raise ModelError(
                f"{folder}: model_index.json states no {name}; a folder without it, such as a "
                "refiner's, is not served"
            )
        raise ModelError(f"{folder}: model_index.json names no {name}")
    for name in sorted(set(used) - family.needed - family.optional):
        raise ModelError(
            f"{folder}: model_index.json names {name}, which {index['_class_name']} does not use; "
            "adapters and control networks are not served"
        )
    classes = {name: _class(folder, name, entry) for name, entry in used.items()}
    for name in classes:
        _check_files(folder, name)
    return classes


def _class(folder: Path, name: str, entry: list[Any]) -> type[Any]:
    if len(entry) != 2 or not all(isinstance(word, str) for word in entry):
        raise ModelError(f"{folder}: {name}: model_index.json must name a library and a class")
    library, class_name = entry
    if library not in LIBRARIES:
        raise ModelError(
            f"{folder}: {name}: model_index.json names {class_name} of {library!r}; only classes "
            f"of {' and '.join(LIBRARIES)} are read, no other code is run"
        )
    found = getattr(importlib.import_module(library), class_name, None)
    if not isinstance(found, type):
        raise ModelError(f"{folder}: {name}: {library} has no class {class_name}")
    return found


def _check_files(folder: Path, name: str) -> None:
    """Raise ModelError when the files that say what a part is are not there."""
    part = folder / name
    if not part.is_dir():
        raise ModelError(f"{folder}: the folder {name}/ is missing")
    if name == "scheduler":
        _read_part(folder, name, "scheduler_config.json")
    elif name.startswith("tokenizer"):
        if not any((part / file).is_file() for file in VOCABULARIES):
            raise ModelError(
                f"{folder}: {name}/ is incomplete: it holds none of {', '.join(VOCABULARIES)}"
            )
        if _only(part, "vocab.json") and not (part / "merges.txt").is_file():
            raise ModelError(f"{folder}: {name}/ is incomplete: merges.txt is missing")
    else:
        _read_part(folder, name, "config.json")
        _check_shards(folder, name)


def _only(part: Path, file: str) -> bool:
    return [name for name in VOCABULARIES if (part / name).is_file()] == [file]


def _read_part(folder: Path, name: str, file: str) -> None:
    if not (folder / name / file).is_file():
        raise ModelError(f"{folder}: {name}/ is incomplete: {file} is missing")
    read_json(folder, f"{name}/{file}")


def _check_shards(folder: Path, name: str) -> None:
    """Raise ModelError when an index of sharded weights names a file that is not there."""
    for index in sorted((folder / name).glob("*.safetensors.index*.json")):
        shards = read_json(folder, f"{name}/{index.name}").get("weight_map")
        if not isinstance(shards, dict):
            raise ModelError(f"{folder}: {name}/{index.name} holds no weight_map")
        for shard in sorted(set(shards.values())):
            if not (folder / name / str(shard)).is_file():
                raise ModelError(f"{folder}: {name}/ is incomplete: {shard} is missing")
