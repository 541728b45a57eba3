"""Whether the arrays of a predictor fit together; what does not is refused before it is used."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from argus.control.learned.features import Inputs, level_numbers
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Harmless, Neighbours, Network, Staircase, Trees, arrays_of
from argus.errors import ConfigError

Shape = tuple[int | None, ...]
"""None: any length."""
_MAY_LACK = {"model.qualities"}
"""Arrays in which NaN stands for a missing measurement."""


def check_shapes(predictor: FittedPredictor, source: str) -> None:
    """Raise ConfigError, which names the array, where one does not fit or is not finite."""
    arrays: dict[str, NDArray[np.generic]] = {
        f"model.{name}": array for name, array in arrays_of(predictor.model).items()
    }
    bounds, projection = predictor.bounds, predictor.features.projection
    arrays |= {
        "bounds.qualities": bounds.qualities,
        "bounds.sizes": bounds.sizes,
        "bounds.margins": bounds.margins,
        "bounds.plain": bounds.plain,
        "worst": predictor.worst,
    }
    wanted = _wanted(predictor)
    if projection is not None:
        arrays |= {"projection.mean": projection.mean, "projection.axes": projection.axes}
    if predictor.domain.embeddings is not None:
        arrays["domain.embeddings"] = predictor.domain.embeddings
    for name, array in arrays.items():
        _check(f"{source}: {name}", array, wanted[name], lacking=name in _MAY_LACK)
    for name in ("bounds.qualities", *(["model.similarities"] if _stairs(predictor) else [])):
        if (np.diff(np.asarray(arrays[name], np.float64), axis=-1) < 0).any():
            raise ConfigError(f"{source}: {name}: must ascend")
    if isinstance(predictor.model, Trees):
        _check_trees(predictor.model, _width(predictor), source)


def _stairs(predictor: FittedPredictor) -> bool:
    return isinstance(predictor.model, Staircase)


def _width(predictor: FittedPredictor) -> int:
    features = predictor.features
    blank = np.zeros((1, features.prompt_width))
    levels = level_numbers(features.levels)
    return Inputs(blank, None, np.zeros(1), levels, np.zeros(len(levels), np.bool_)).width


def _wanted(predictor: FittedPredictor) -> dict[str, Shape]:
    """Return the shape of every array that there may be."""
    count, d = len(predictor.levels), predictor.dimension
    sizes = len(predictor.bounds.qualities)
    shapes: dict[str, Shape] = {
        "bounds.qualities": (sizes,),
        "bounds.sizes": (sizes,),
        "bounds.margins": (count,),
        "bounds.plain": (count,),
        "worst": (count,),
        "projection.mean": (d,),
        "projection.axes": (d, None),
        "domain.embeddings": (None, d),
        "model.means": (count,),
    }
    own = _of_model(predictor, count, d)
    return shapes | {f"model.{name}": shape for name, shape in own.items()}


def _of_model(predictor: FittedPredictor, count: int, d: int) -> dict[str, Shape]:
    model, width = predictor.model, _width(predictor)
    match model:
        case Staircase():
            corners = model.similarities.shape[-1]
            return {"similarities": (count, corners), "qualities": (count, corners)}
        case Neighbours():
            m = len(model.qualities)
            one = {"k": (1,), "weight": (1,), "prior": (1,)}
            return {"qualities": (m, count), "embeddings": (m, d), "similarity": (m,), **one}
        case Trees():
            shape = model.feature.shape
            return dict.fromkeys(("feature", "threshold", "left", "right", "value"), shape)
        case Network():
            e, h = model.inner_bias.shape if model.inner_bias.ndim == 2 else (-1, -1)
            return {
                "shift": (width,),
                "scale": (width,),
                "inner": (e, width, h),
                "inner_bias": (e, h),
                "outer": (e, h),
                "outer_bias": (e,),
            }
        case Harmless():
            f = predictor.features.prompt_width + 3
            s, c = model.bias.shape if model.bias.ndim == 2 else (-1, -1)
            return {
                "rank": (s, count),
                "shift": (f,),
                "scale": (f,),
                "weights": (s, c, f),
                "bias": (s, c),
                "harmed": (count,),
            }
        case _:
            return {}


def _check(where: str, array: NDArray[np.generic], wanted: Shape, *, lacking: bool) -> None:
    fits = len(array.shape) == len(wanted) and all(
        w in (None, n) for n, w in zip(array.shape, wanted, strict=True)
    )
    if not fits or 0 in array.shape:
        shape = " × ".join("any" if w is None else str(w) for w in wanted)
        raise ConfigError(f"{where}: shape must be {shape}, not {array.shape}")
    numbers = np.asarray(array, dtype=np.float64)
    if not lacking and not np.isfinite(numbers).all():
        raise ConfigError(f"{where}: holds a number that is not finite")


def _check_trees(model: Trees, width: int, source: str) -> None:
    """Children come after their parents, so that every walk ends."""
    if model.feature.ndim != 2 or model.feature.max(initial=0) >= width:
        raise ConfigError(f"{source}: model.feature: features are 0 to {width - 1}")
    nodes = np.arange(model.feature.shape[1])
    inside = model.feature >= 0
    for name, child in (("left", model.left), ("right", model.right)):
        later = (child > nodes) & (child < len(nodes))
        if not later[inside].all():
            raise ConfigError(f"{source}: model.{name}: a child must come after its parent")
