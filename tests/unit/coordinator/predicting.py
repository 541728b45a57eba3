"""A fitted predictor small enough to be checked by hand, for prompts embedded as angles."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.features import Features, Lexicon, Projection
from argus.control.learned.files import ARRAYS, JSON, predictor_files
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Neighbours
from argus.types import Level

LEVELS = (Level("base-10", "base", 1.0, 1.0), Level("base-5", "base", 0.5, 0.6))
EASY, HARD = "a red circle @0", "a red circle @90"
"""The second level keeps .9 of the first prompt's quality and .3 of the second's."""
MARGIN = 0.1


def fitted(embedder: str = "angles") -> FittedPredictor:
    """Return what the nearer of the two prompts was measured to be worth, less a tenth as bound."""
    known = np.eye(2)
    return FittedPredictor(
        profile="0123456789abcdef",
        embedder=embedder,
        dimension=2,
        coverage=0.9,
        features=Features(
            Lexicon((), {}, frozenset({"a", "red", "circle", "0", "10", "90"})),
            Projection(np.zeros(2), np.eye(2)),
            LEVELS,
        ),
        domain=Domain(100, 0.7, 0.7, known),
        model=Neighbours(
            np.array([[1.0, 0.9], [1.0, 0.3]]),
            known,
            np.zeros(2),
            np.array([1.0, 0.6]),
            np.array([1]),
            np.array([1.0]),
            np.array([0.0]),
        ),
        bounds=Bounds(
            np.array([0.0]), np.array([1.0]), np.array([0.0, MARGIN]), np.array([0.0, 0.5])
        ),
        worst=np.array([1.0, 0.2]),
        chains=(((0,), (1,)),),
    )


def write(folder: Path, predictor: FittedPredictor) -> str:
    """Write a predictor's files and return the folder as settings name it."""
    text, arrays = predictor_files(predictor)
    (folder / JSON).write_text(text)
    (folder / ARRAYS).write_bytes(arrays)
    return str(folder)
