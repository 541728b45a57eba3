"""Text encoders from local folders: nothing is downloaded and no code of a folder is run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from argus.cache.fingerprint import folder_fingerprint
from argus.errors import ModelError

if TYPE_CHECKING:
    import torch

_FINGERPRINT_DIGITS = 12


def _load(model_class: str, folder: Path, tokenizer_folder: Path) -> tuple[Any, Any]:
    """Return the encoder in float32 and its tokenizer.

    Raises:
        ModelError: something is missing or cannot be loaded.
    """
    # Imported here: who only keeps an index should not wait for torch.
    import torch
    import transformers

    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: holds no .safetensors file, and no other is read")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            tokenizer_folder, local_files_only=True, trust_remote_code=False
        )
        model, report = getattr(transformers, model_class).from_pretrained(
            folder,
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded as a text encoder: {error}") from error
    lost = sorted(str(key) for key in report["missing_keys"])
    if lost:
        raise ModelError(f"{folder}: {len(lost)} weights are missing, such as {lost[0]}")
    return model.eval(), tokenizer


def _tokens(tokenizer: Any, prompts: Sequence[str], longest: int) -> dict[str, torch.Tensor]:
    encoded = tokenizer(
        list(prompts), padding=True, truncation=True, max_length=longest, return_tensors="pt"
    )
    return {name: encoded[name] for name in ("input_ids", "attention_mask")}


def _unit(vectors: torch.Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = vectors.float().numpy()
    lengths: NDArray[np.float32] = np.linalg.norm(array, axis=1, keepdims=True)
    return np.asarray(array / lengths.clip(min=1e-12), dtype=np.float32)


class ClipTextEmbedder:
    """A CLIP text model: its projected embedding where the folder has a projection, else pooled.

    Args:
        folder: the text model, of a CLIP or of a Stable Diffusion pipeline (`text_encoder`).
        tokenizer_folder: its tokenizer; None: the same folder, or `tokenizer` beside it.

    Raises:
        ModelError: something is missing or cannot be loaded.
    """

    def __init__(self, folder: Path, tokenizer_folder: Path | None = None) -> None:
        if tokenizer_folder is None:
            beside = folder.parent / "tokenizer"
            tokenizer_folder = beside if beside.is_dir() else folder
        projected = has_projection(folder)
        kind = "CLIPTextModelWithProjection" if projected else "CLIPTextModel"
        self._model, self._tokenizer = _load(kind, folder, tokenizer_folder)
        self._output = "text_embeds" if projected else "pooler_output"
        config = self._model.config
        self._longest = int(config.max_position_embeddings)
        self.dimension = int(config.projection_dim if projected else config.hidden_size)
        self.name = f"clip-{self._output}@{folder_fingerprint(folder)[:_FINGERPRINT_DIGITS]}"

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a prompt, (n, dimension)."""
        import torch

        with torch.inference_mode():
            output = self._model(**_tokens(self._tokenizer, prompts, self._longest))
            return _unit(getattr(output, self._output))


class MeanPoolingEmbedder:
    """An encoder of the sentence-transformers kind (MiniLM): mean of the last states of all tokens.

    Args:
        folder: model and tokenizer.
        longest: tokens after which a prompt is cut.

    Raises:
        ModelError: something is missing or cannot be loaded.
    """

    def __init__(self, folder: Path, longest: int = 256) -> None:
        self._model, self._tokenizer = _load("AutoModel", folder, folder)
        self._longest = min(longest, int(self._model.config.max_position_embeddings))
        self.dimension = int(self._model.config.hidden_size)
        self.name = f"mean@{folder_fingerprint(folder)[:_FINGERPRINT_DIGITS]}"

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector of length 1 a prompt, (n, dimension)."""
        import torch

        with torch.inference_mode():
            tokens = _tokens(self._tokenizer, prompts, self._longest)
            states = self._model(**tokens).last_hidden_state
            mask = tokens["attention_mask"].unsqueeze(-1).to(states.dtype)
            return _unit((states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0))


def has_projection(folder: Path) -> bool:
    """Return whether a CLIP text folder's weights hold a text projection.

    Raises:
        ModelError: a weights file cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="numpy") as weights:
                names = set(weights.keys())
            if "text_projection.weight" in names:
                return True
        except (OSError, SafetensorError) as error:
            raise ModelError(f"{path}: cannot be read: {error}") from error
    return False
