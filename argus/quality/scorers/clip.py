"""How well a picture fits its prompt, by a CLIP model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from argus.quality.scorers.base import Columns, Judged
from argus.quality.scorers.clip_folder import ClipFolder


class ClipScore:
    """Column `clip`: the cosine of text and picture (Hessel et al., EMNLP 2021, times 1)."""

    name = "clip"
    columns = ("clip",)

    def __init__(self, model: ClipFolder) -> None:
        self._model = model
        self.version = f"1@{model.fingerprint}"

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the column, (n,)."""
        return {"clip": _cosines(self._model, batch)}


class PickScore:
    """Column `pickscore`: the logit of text and picture, as in PickScore.

    Kirstain et al., NeurIPS 2023, trained a CLIP model so that this number orders pictures of one
    prompt as people do. With the weights of that model it is their score.
    """

    name = "pickscore"
    columns = ("pickscore",)

    def __init__(self, model: ClipFolder) -> None:
        self._model = model
        self.version = f"1@{model.fingerprint}"

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the column, (n,)."""
        return {"pickscore": self._model.scale * _cosines(self._model, batch)}


def _cosines(model: ClipFolder, batch: Sequence[Judged]) -> NDArray[np.float64]:
    texts = model.texts([judged.prompt for judged in batch])
    pictures = model.pictures([judged.pixels for judged in batch])
    return np.asarray(np.einsum("ij,ij->i", texts, pictures), dtype=np.float64)
