"""Lower bounds of a picture's quality that hold with a stated coverage.

Split conformal prediction, level by level (Vovk, Gammerman and Shafer, Algorithmic Learning in a
Random World, 2005: Mondrian categories), with errors measured in units of their expected size
(Papadopoulos et al., ECML 2002): whatever the model, of prompts drawn like those it was calibrated
on at least the coverage has a picture that is not below its bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """How far below the prediction a picture may be.

    Attributes:
        qualities, sizes: (k,) expected size of an error by predicted quality, interpolated.
        margins: (l,) of each level, in those sizes.
        plain: (l,) margins below the level's mean, in quality, where nothing but that is known.
    """

    qualities: Floats
    sizes: Floats
    margins: Floats
    plain: Floats

    def size(self, predicted: Floats) -> Floats:
        """Return the expected size of the errors of predictions."""
        return np.interp(predicted, self.qualities, self.sizes)

    def lower(self, predicted: Floats) -> Floats:
        """Return the bounds of (n, l) predictions; none is below 0 or above its prediction."""
        # A level without enough measurements has an infinite margin.
        bound = predicted - self.margins * self.size(predicted)
        return np.clip(bound, 0.0, np.maximum(predicted, 0.0))

    def lower_of_means(self, means: Floats) -> Floats:
        """Return the bounds of levels' means, (l,)."""
        return np.clip(means - self.plain, 0.0, np.maximum(means, 0.0))


def margin(errors: Floats, coverage: float) -> float:
    """Return what new errors exceed with a probability of at most 1 − `coverage`.

    The ⌈(n + 1) · coverage⌉-th smallest of n errors; infinity where there are too few.

    Args:
        errors: predicted minus measured, of pictures that the model was not fitted on.
        coverage: in (0, 1).
    """
    # Rounded: 10 · 0.9 may be above 9 in floats.
    place = math.ceil(round((len(errors) + 1) * coverage, 9))
    return math.inf if place > len(errors) else float(np.sort(errors)[place - 1])
