"""Scorers by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from argus.errors import NotFoundError
from argus.models import SCORER, bundled_dir
from argus.quality.scorers.base import Columns, Judged, Scorer
from argus.quality.scorers.clip import ClipScore, PickScore
from argus.quality.scorers.clip_folder import ClipFolder
from argus.quality.scorers.distance import FeatureDistance, PixelDistance
from argus.quality.scorers.facts import FactScorer
from argus.quality.scorers.no_reference import AntonymQuality

__all__ = ["DEFAULT", "Columns", "Judged", "Scorer", "names", "open_scorers"]

ALONE: dict[str, Callable[[], Scorer]] = {"facts": FactScorer, "pixels": PixelDistance}
BY_CLIP: dict[str, Callable[[ClipFolder], Scorer]] = {
    "clip": ClipScore,
    "pickscore": PickScore,
    "qualiclip": AntonymQuality,
    "features": FeatureDistance,
}
DEFAULT = ("facts", "clip", "pixels", "features")


def names() -> tuple[str, ...]:
    """Return the names of all scorers."""
    return (*ALONE, *BY_CLIP)


def open_scorers(wanted: Sequence[str] = DEFAULT, clip: Path | None = None) -> tuple[Scorer, ...]:
    """Return scorers; those that need a CLIP model share one.

    Args:
        wanted: their names.
        clip: folder of the CLIP model; None: the bundled family's scorer.

    Raises:
        NotFoundError: there is no scorer of that name.
        ModelError: the folder is not what it should be.
    """
    for name in wanted:
        if name not in names():
            raise NotFoundError("scorers", name, names())
    needed = any(name in BY_CLIP for name in wanted)
    model = ClipFolder(clip or bundled_dir() / SCORER) if needed else None
    opened: list[Scorer] = []
    for name in wanted:
        if name in ALONE:
            opened.append(ALONE[name]())
        elif model is not None:
            opened.append(BY_CLIP[name](model))
    return tuple(opened)
