"""From predicted qualities to expected ones, learned from pairs that were scored.

A predictor that names the deepest level without loss, and is wrong now and then, is right on the
average of prompts but too sure of each: the level it names is expected to lose a little, the one
before it less. Where a little of a price would choose the first, the second may be worth more. So
predictions are put into classes by the deepest level that they call harmless, and within a class
and for each level the true quality is expected to be what it was on average:

    E[q_l | class] = (n · mean of true q_l + κ · predicted q_l) / (n + κ)

with κ pairs' worth of trust in the prediction itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from argus.control.offers import Offer
from argus.errors import InvalidArgumentError

Floats = NDArray[np.float64]

_HARMLESS = 0.002
"""A level within so much of the best one predicted counts as without loss."""
_TRUST = 8.0


class Recalibration:
    """Expected qualities, by class of prediction.

    Args:
        levels: names in the ladder's order.
        predicted: (n, levels) as the predictor said.
        true: (n, levels) as scored.

    Raises:
        InvalidArgumentError: the shapes do not fit.
    """

    def __init__(self, levels: Sequence[str], predicted: Floats, true: Floats) -> None:
        if predicted.ndim != 2 or predicted.shape != true.shape or not len(predicted):
            raise InvalidArgumentError(
                "true", f"of the shape of predicted, {predicted.shape}, not {true.shape}"
            )
        if predicted.shape[1] != len(levels):
            raise InvalidArgumentError("levels", f"{predicted.shape[1]} names are needed")
        self._index = {name: i for i, name in enumerate(levels)}
        classes = _classes(predicted)
        shape = (len(levels), len(levels))
        self._bias: Floats = np.zeros(shape)
        for c in range(len(levels)):
            off = (true - predicted)[classes == c]
            self._bias[c] = off.sum(axis=0) / (len(off) + _TRUST)

    def __call__(self, offers: Sequence[Offer]) -> tuple[float, ...]:
        """Return the expected quality of each offer; levels that were not scored are trusted."""
        at = [self._index.get(offer.level.name, -1) for offer in offers]
        known = [i for i in at if i >= 0]
        if not known:
            return tuple(offer.quality for offer in offers)
        best = max(offer.quality for offer in offers)
        harmless = [
            i for i, offer in zip(at, offers, strict=True) if offer.quality >= best - _HARMLESS
        ]
        bias = self._bias[max(harmless)]
        return tuple(
            offer.quality + (float(bias[i]) if i >= 0 else 0.0)
            for i, offer in zip(at, offers, strict=True)
        )


def _classes(predicted: Floats) -> NDArray[np.intp]:
    """Return (n,) the deepest level that each prediction calls harmless."""
    harmless = predicted >= predicted.max(axis=1, keepdims=True) - _HARMLESS
    return np.asarray(predicted.shape[1] - 1 - harmless[:, ::-1].argmax(axis=1))
