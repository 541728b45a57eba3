"""Ways in which a model folder gets broken. Each takes the folder, and changes one thing in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file

Spoil = Callable[[Path], None]


def weights_of(folder: Path, part: str) -> Path:
    (file,) = (folder / part).glob("*.safetensors")
    return file


def change_weights(part: str, change: Callable[[dict[str, torch.Tensor]], None]) -> Spoil:
    def spoil(folder: Path) -> None:
        file = weights_of(folder, part)
        weights = load_file(file)
        change(weights)
        save_file(weights, file, metadata={"format": "pt"})

    return spoil


def lose_weight(part: str, name: str) -> Spoil:
    return change_weights(part, lambda weights: weights.pop(name))


def reshape_weight(part: str, name: str) -> Spoil:
    return change_weights(part, lambda weights: weights.update({name: torch.ones(3, 2)}))


def poison_weight(part: str, name: str, value: float) -> Spoil:
    def poison(weights: dict[str, torch.Tensor]) -> None:
        weights[name].view(-1)[-1] = value

    return change_weights(part, poison)


def add_weight(part: str, name: str) -> Spoil:
    return change_weights(part, lambda weights: weights.update({name: torch.ones(2)}))


def truncate(part: str, keep: float) -> Spoil:
    def spoil(folder: Path) -> None:
        file = weights_of(folder, part)
        data = file.read_bytes()
        file.write_bytes(data[: int(len(data) * keep)])

    return spoil


def pickle(part: str) -> Spoil:
    def spoil(folder: Path) -> None:
        file = weights_of(folder, part)
        torch.save(load_file(file), file.with_suffix(".bin"))
        file.unlink()

    return spoil


def remove(path: str) -> Spoil:
    def spoil(folder: Path) -> None:
        target = folder / path
        shutil.rmtree(target) if target.is_dir() else target.unlink()

    return spoil


def write(path: str, text: str) -> Spoil:
    return lambda folder: (folder / path).write_text(text) and None


def configure(path: str, **changes: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / path
        file.write_text(json.dumps(json.loads(file.read_text()) | changes))

    return spoil


def unname(part: str) -> Spoil:
    def spoil(folder: Path) -> None:
        file = folder / "model_index.json"
        index = json.loads(file.read_text())
        del index[part]
        file.write_text(json.dumps(index))

    return spoil


def lose_a_shard(part: str) -> Spoil:
    def spoil(folder: Path) -> None:
        file = weights_of(folder, part)
        index = {"metadata": {}, "weight_map": {"a": file.name, "b": "part-2.safetensors"}}
        file.with_name(f"{file.name}.index.json").write_text(json.dumps(index))

    return spoil


def rebuild_unet(**changes: Any) -> Spoil:
    """Another UNet in the place of the folder's, whole in itself."""

    def spoil(folder: Path) -> None:
        config = UNet2DConditionModel.load_config(folder / "unet")
        shutil.rmtree(folder / "unet")
        UNet2DConditionModel.from_config(config, **changes).save_pretrained(folder / "unet")

    return spoil
