"""A profile's folder as fit data."""

from __future__ import annotations

from pathlib import Path

from argus.errors import ConfigError
from argus.quality.costs import image_seconds
from argus.quality.fit.data import Embedder, FitData, read_data
from argus.quality.matrix import ScoreMatrix
from argus.quality.profile import COSTS, NEIGHBOURS, SCORES, read_costs, reference_steps


def read_profile(folder: Path, embedder: Embedder | None) -> FitData:
    """Return a profile as predictors are fitted to it.

    Args:
        folder: that `argus profile --prompts` wrote.
        embedder: of the prompts; None: none is used.

    Raises:
        ConfigError: a file is missing or wrong, or there is too little in it.
    """
    for name in (SCORES, COSTS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: has no {name}; is it a profile's folder?")
    matrix = ScoreMatrix.read(folder / SCORES)
    beside = folder / NEIGHBOURS
    neighbours = ScoreMatrix.read(beside) if beside.is_file() else None
    costs = image_seconds(read_costs(folder / COSTS), matrix.levels, reference_steps(matrix))
    return read_data(matrix, neighbours, costs, embedder)
