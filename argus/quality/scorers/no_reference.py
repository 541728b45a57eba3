"""How good a picture is by itself, whatever was asked for."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argus.quality.scorers.base import Columns, Judged
from argus.quality.scorers.clip_folder import ClipFolder

ANTONYMS = (
    ("Good photo.", "Bad photo."),
    ("High-quality image.", "Low-quality image."),
    ("A sharp image.", "A blurry image."),
    ("A clean image.", "A noisy image."),
    ("Good picture.", "Bad picture."),
    ("High-resolution image.", "Low-resolution image."),
)
"""Pairs of prompts of opposite meaning."""


class AntonymQuality:
    """Column `qualiclip`: the share of a picture's likeness that falls to the good antonyms.

    After CLIP-IQA (Wang et al., AAAI 2023) and QualiCLIP (Agnolucci et al., 2024), whose weights
    fit here: for each pair the softmax over the two logits, averaged over the pairs; 0 … 1. A
    model whose text tower does not know such words says nothing by it (docs/quality.md).
    """

    name = "qualiclip"
    columns = ("qualiclip",)

    def __init__(self, model: ClipFolder) -> None:
        self._model = model
        self._texts = model.texts([text for pair in ANTONYMS for text in pair])
        self.version = f"1@{model.fingerprint}"

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the column, (n,)."""
        pictures = self._model.pictures([judged.pixels for judged in batch])
        logits = self._model.scale * (pictures @ self._texts.T).astype(np.float64)
        good, bad = logits[:, 0::2], logits[:, 1::2]
        return {"qualiclip": (1 / (1 + np.exp(bad - good))).mean(axis=1)}
