"""What a scorer is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""(height, width, 3), red, green, blue."""
Columns = Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class Judged:
    """One picture to be scored.

    Attributes:
        prompt: what was asked for.
        pixels: the picture.
        reference: the reference level's picture of the same prompt and seed; None where there is
            none, or where it is the picture itself.
    """

    prompt: str
    pixels: Pixels
    reference: Pixels | None = None


class Scorer(Protocol):
    """Says how good pictures are, in one or more columns."""

    @property
    def name(self) -> str:
        """What it is called in settings and files."""
        ...

    @property
    def version(self) -> str:
        """Of its code and weights: scores of two versions must not be mixed."""
        ...

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what it says. Distances are better when lower, all else when higher."""
        ...

    def score(self, batch: Sequence[Judged]) -> Columns:
        """Return (n,) values by column; NaN where one is not defined for a picture."""
        ...
