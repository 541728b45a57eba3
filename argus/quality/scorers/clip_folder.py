"""A CLIP model in transformers' format, from a local folder."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.cache.fingerprint import folder_fingerprint
from argus.errors import ModelError
from argus.quality.scorers.base import Pixels

Floats = NDArray[np.float32]
BATCH = 32
REMEMBERED = 4096
"""Pictures whose features are kept."""
TOKENIZER_FILES = ("tokenizer.json", "vocab.json")
_DIGITS = 12


class ClipFolder:
    """Features of texts and pictures, of length 1, in one space.

    Args:
        folder: model, tokenizer and image processor as `save_pretrained` writes them. Only
            safetensors are read, nothing is downloaded, and no code of the folder is run.

    Raises:
        ModelError: names the folder and what is missing or does not fit.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ModelError(f"{folder}: no such folder")
        if not list(folder.glob("*.safetensors")):
            raise ModelError(f"{folder}: holds no .safetensors file, and no other is read")
        # After what needs no seconds of imports.
        import torch
        import transformers

        _check_kind(folder)
        loader: Any = transformers.CLIPModel
        try:
            model, report = loader.from_pretrained(
                folder,
                dtype=torch.float32,
                local_files_only=True,
                use_safetensors=True,
                output_loading_info=True,
                # They are named below, instead of by a table in the log.
                ignore_mismatched_sizes=True,
            )
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise ModelError(f"{folder}: cannot be loaded as a CLIP model: {error}") from error
        for what, keys in (("missing", "missing_keys"), ("of the wrong shape", "mismatched_keys")):
            # transformers would draw such weights by lot and say so in a log line.
            if report[keys]:
                one = min(str(k if isinstance(k, str) else k[0]) for k in report[keys])
                raise ModelError(f"{folder}: {len(report[keys])} weights are {what}, such as {one}")
        self._model = model.eval()
        if not any((folder / name).is_file() for name in TOKENIZER_FILES):
            # transformers would go on with a tokenizer that knows no word.
            raise ModelError(
                f"{folder}: holds no tokenizer, neither {' nor '.join(TOKENIZER_FILES)}"
            )
        self._tokenizer = _part(transformers.AutoTokenizer, folder, "tokenizer")
        self._processor = _part(transformers.AutoImageProcessor, folder, "image processor")
        _check_tokens(folder, self._tokenizer, model.config.text_config.vocab_size)
        self._longest = int(model.config.text_config.max_position_embeddings)
        self.fingerprint = folder_fingerprint(folder)[:_DIGITS]
        self._known: dict[bytes, Floats] = {}

    @property
    def scale(self) -> float:
        """What cosines are multiplied with to become logits: the learned temperature."""
        return float(self._model.logit_scale.detach().exp())

    def texts(self, texts: Sequence[str]) -> Floats:
        """Return (n, dimension) features; texts are cut where they are too long."""
        import torch

        parts = []
        for start in range(0, len(texts), BATCH):
            encoded = self._tokenizer(
                list(texts[start : start + BATCH]),
                padding=True,
                truncation=True,
                max_length=self._longest,
                return_tensors="pt",
            )
            with torch.inference_mode():
                hidden = self._model.text_model(
                    input_ids=encoded["input_ids"], attention_mask=encoded["attention_mask"]
                ).pooler_output
                parts.append(_unit(self._model.text_projection(hidden)))
        return np.concatenate(parts) if parts else self._nothing()

    def pictures(self, pictures: Sequence[Pixels]) -> Floats:
        """Return (n, dimension) features of pictures of any sizes.

        Those of the last pictures are remembered: scorers share them, and every level is compared
        with the same reference.
        """
        if not pictures:
            return self._nothing()
        keys = [_key(picture) for picture in pictures]
        new = {k: p for k, p in zip(keys, pictures, strict=True) if k not in self._known}
        waiting = list(new.items())
        for start in range(0, len(waiting), BATCH):
            part = waiting[start : start + BATCH]
            for (key, _), vector in zip(part, self._look_at([p for _, p in part]), strict=True):
                self._known[key] = vector
        found = np.stack([self._known[key] for key in keys])
        for key in list(self._known)[: max(0, len(self._known) - REMEMBERED)]:
            del self._known[key]
        return found

    def _look_at(self, pictures: Sequence[Pixels]) -> Floats:
        import torch

        values = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            hidden = self._model.vision_model(pixel_values=values).pooler_output
            return _unit(self._model.visual_projection(hidden))

    def _nothing(self) -> Floats:
        return np.zeros((0, int(self._model.config.projection_dim)), dtype=np.float32)


def _key(picture: Pixels) -> bytes:
    shape = str(picture.shape).encode()
    return blake2b(shape + np.ascontiguousarray(picture).tobytes(), digest_size=16).digest()


def _check_kind(folder: Path) -> None:
    """Raise ModelError where the folder's config is not that of a CLIP model."""
    import transformers

    try:
        config = transformers.AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise ModelError(f"{folder}: config.json cannot be read: {error}") from error
    if config.model_type != "clip":
        raise ModelError(f"{folder}: config.json: model_type is {config.model_type!r}, not 'clip'")


def _part(kind: Any, folder: Path, what: str) -> Any:
    try:
        return kind.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder}: holds no {what} that can be read: {error}") from error


def _check_tokens(folder: Path, tokenizer: Any, known: int) -> None:
    if len(tokenizer) > known:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} tokens, the model knows {known}"
        )


def _unit(features: Any) -> Floats:
    array: Floats = features.float().numpy()
    lengths: Floats = np.linalg.norm(array, axis=1, keepdims=True)
    return np.asarray(array / lengths.clip(min=1e-12), dtype=np.float32)
