"""How far a picture is from the reference level's, of the same prompt and seed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from argus.errors import InvalidArgumentError
from argus.quality.scorers.base import Columns, Judged
from argus.quality.scorers.clip_folder import ClipFolder


class PixelDistance:
    """Column `pixels`: root mean square difference of the values, which reach from 0 to 1."""

    name = "pixels"
    version = "1"
    columns = ("pixels",)

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the column, (n,); NaN without a reference.

        Raises:
            InvalidArgumentError: a picture and its reference differ in size.
        """
        values = np.full(len(batch), np.nan)
        for i, judged in enumerate(batch):
            if judged.reference is None:
                continue
            if judged.pixels.shape != judged.reference.shape:
                raise InvalidArgumentError(
                    "reference", f"{judged.reference.shape} is not {judged.pixels.shape}"
                )
            difference = judged.pixels.astype(np.float64) - judged.reference
            values[i] = np.sqrt(np.mean(difference**2)) / 255
        return {"pixels": values}


class FeatureDistance:
    """Column `features`: one less the cosine of the two pictures' features, 0 … 2."""

    name = "features"
    columns = ("features",)

    def __init__(self, model: ClipFolder) -> None:
        self._model = model
        self.version = f"1@{model.fingerprint}"

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return the column, (n,); NaN without a reference."""
        values = np.full(len(batch), np.nan)
        pairs = [(i, j.pixels, j.reference) for i, j in enumerate(batch) if j.reference is not None]
        if pairs:
            places, pictures, references = zip(*pairs, strict=True)
            own, other = self._model.pictures(pictures), self._model.pictures(references)
            values[list(places)] = 1 - np.einsum("ij,ij->i", own, other)
        return {"features": values}
