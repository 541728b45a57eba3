"""Signed distances of the shapes, for numpy arrays and torch tensors alike.

Distances are in the unit of the coordinates, negative inside. Corners are mitred, which is what
anti-aliasing and template matching need. `xp` is the module the arrays belong to.
"""

from collections.abc import Callable
from typing import Any

SHAPES = ("circle", "square", "triangle", "cross", "ring")

SQUARE_HALF = 0.86
CROSS_ARM = 0.32
RING_MIDDLE = 0.74
RING_HALF = 0.26


def _circle(xp: Any, x: Any, y: Any, r: Any) -> Any:
    return xp.sqrt(x * x + y * y) - r


def _square(xp: Any, x: Any, y: Any, r: Any) -> Any:
    return xp.maximum(xp.abs(x), xp.abs(y)) - SQUARE_HALF * r


def _triangle(xp: Any, x: Any, y: Any, r: Any) -> Any:
    # Apex (0, -r) and base corners (±r, 0.8 r) in image coordinates, where y grows downwards.
    length = (1.8**2 + 1.0) ** 0.5
    sides = (1.8 * xp.abs(x) - y - r) / length
    return xp.maximum(sides, y - 0.8 * r)


def _cross(xp: Any, x: Any, y: Any, r: Any) -> Any:
    ax, ay = xp.abs(x), xp.abs(y)
    across = xp.maximum(ax - r, ay - CROSS_ARM * r)
    along = xp.maximum(ay - r, ax - CROSS_ARM * r)
    return xp.minimum(across, along)


def _ring(xp: Any, x: Any, y: Any, r: Any) -> Any:
    return xp.abs(xp.sqrt(x * x + y * y) - RING_MIDDLE * r) - RING_HALF * r


_DISTANCES: dict[str, Callable[[Any, Any, Any, Any], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
}


def distance(xp: Any, shape: str, x: Any, y: Any, radius: Any) -> Any:
    """Signed distance from points (x, y), relative to the shape's centre, to its outline."""
    return _DISTANCES[shape](xp, x, y, radius)
