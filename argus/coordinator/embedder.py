"""What embeds prompts, and of which variants it understands the prompts."""

from __future__ import annotations

from pathlib import Path

from argus.cache.embedder import Embedder
from argus.cache.embedders import ClipTextEmbedder, MeanPoolingEmbedder
from argus.config import CacheConfig
from argus.errors import ModelError
from argus.models import bundled_variants
from argus.types import VariantInfo


def understands(config: CacheConfig, variant: VariantInfo) -> bool:
    """Whether the configured embedder is for the prompts of a variant whose states are cached."""
    return bool(variant.weights) and (bool(config.embedder) or variant.name in bundled_variants())


def open_embedder(config: CacheConfig) -> Embedder:
    """Load the embedder that the settings name; takes seconds.

    From then on torch uses one thread in this process. A batch of prompts is too little work for
    more, and threads that wait for each other on cores that others use too take many times as long.

    Raises:
        ModelError: the folder is no text encoder, or there is none at all.
    """
    # Seconds of imports that nobody should wait for who embeds nothing.
    import torch

    torch.set_num_threads(1)
    if config.embedder:
        folder = Path(config.embedder)
        try:
            return ClipTextEmbedder(folder)
        except ModelError:
            return MeanPoolingEmbedder(folder)
    bundled = list(bundled_variants().values())
    if not bundled:
        raise ModelError("cache.embedder is not set, and there is no bundled family")
    return ClipTextEmbedder(bundled[0] / "text_encoder")
