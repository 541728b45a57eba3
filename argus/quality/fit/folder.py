"""A profile's folder as fit data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from argus.errors import ConfigError
from argus.quality.costs import image_seconds
from argus.quality.fit.data import Embedder, FitData, read_data
from argus.quality.live import beside, read_live
from argus.quality.matrix import ScoreMatrix
from argus.quality.profile import COSTS, NEIGHBOURS, SCORES, read_costs, reference_steps


def read_profile(
    folder: Path,
    embedder: Embedder | None,
    live: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> FitData:
    """Return a profile as predictors are fitted to it.

    Args:
        folder: that `argus profile --prompts` wrote.
        embedder: of the prompts; None: none is used.
        live: folder where a coordinator keeps scores of live requests, which are then further train
            prompts; None: there are none.
        say: told what live requests were found.

    Raises:
        ConfigError: a file is missing or wrong, or there is too little in it.
    """
    for name in (SCORES, COSTS):
        if not (folder / name).is_file():
            raise ConfigError(f"{folder}: has no {name}; is it a profile's folder?")
    matrix = ScoreMatrix.read(folder / SCORES)
    cached = folder / NEIGHBOURS
    neighbours = ScoreMatrix.read(cached) if cached.is_file() else None
    costs = image_seconds(read_costs(folder / COSTS), matrix.levels, reference_steps(matrix))
    if live is not None:
        matrix = _with_live(matrix, live, say)
    return read_data(matrix, neighbours, costs, embedder)


def _with_live(profile: ScoreMatrix, folder: Path, say: Callable[[str], None]) -> ScoreMatrix:
    found = read_live(folder, profile)
    for reason, number in sorted(found.left_out.items()):
        say(f"{number} live pictures left out: {reason}")
    if found.matrix is None:
        raise ConfigError(f"{folder}: holds no live picture that fits the profile")
    say(f"{len(found.matrix.prompts.ids)} live pictures are learned from, too")
    return beside(profile, found.matrix)
