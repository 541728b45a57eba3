"""Checks a picture against what its caption states. numpy and scipy only, no learned part.

Pixels are split into background and objects by colour; each object is compared with the analytic
outline of every shape, fitted to it. An object that fits none well, or two about equally well, is
"unknown": a blob is nobody's circle.
"""

from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from .captions import Facts, ObjectFact
from .scenes import BACKGROUNDS, COLOURS
from .shapes import SHAPES, distance

UNKNOWN = "unknown"
# Least overlap (soft intersection over union) with the fitted outline. Set at the 2nd to 5th
# percentile over reconstructions by the autoencoder before its decoder was polished;
# `evaluate.calibrate` reports where reconstructions lie now.
LEAST_OVERLAP = {"circle": 0.90, "square": 0.88, "triangle": 0.86, "cross": 0.80, "ring": 0.82}
LEAST_MARGIN = 0.02
# Nothing in this world is smaller; a speck of a few pixels fits a circle by chance.
LEAST_RADIUS = 0.095
_LARGEST_COLOUR_ERROR = 70.0
_SPECK_SHARE = 0.003
_SMALL_BELOW = {1: 0.175, 2: 0.146, 3: 0.146}

Array = NDArray[np.float32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class SeenObject:
    """An object found in a picture; lengths in picture widths, `overlap` of the best shape."""

    shape: str
    colour: str
    x: float
    y: float
    radius: float
    overlap: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which of the stated facts hold, by name, and what was seen."""

    facts: dict[str, bool]
    objects_right: tuple[bool, ...]
    seen: tuple[SeenObject, ...]
    background: str

    @property
    def all_facts(self) -> bool:
        """Whether everything the caption states is so."""
        return all(self.facts.values())

    @property
    def score(self) -> float:
        """Share of the stated facts that hold, 0 to 1."""
        return sum(self.facts.values()) / len(self.facts)


def _nearest(colour: Array, palette: dict[str, tuple[int, int, int]]) -> str:
    names = list(palette)
    errors = np.linalg.norm(np.array([palette[n] for n in names]) - colour, axis=1)
    best = int(errors.argmin())
    return names[best] if errors[best] <= _LARGEST_COLOUR_ERROR else UNKNOWN


def _object_masks(pixels: Array, backdrop: Array) -> list[Mask]:
    """One mask per object: connected foreground, cut where two plain colours touch."""
    palette = np.array([backdrop, *COLOURS.values()], dtype=np.float32)
    errors = np.linalg.norm(pixels[:, :, None] - palette, axis=-1)
    contrast = np.linalg.norm(palette[1:] - backdrop, axis=1).min()
    label = errors[..., 1:].argmin(-1)
    foreground = errors[..., 0] > max(40.0, 0.5 * min(contrast, 160.0))
    components, number = ndimage.label(foreground)
    masks: list[Mask] = []
    for index in range(1, number + 1):
        component = components == index
        # Blended edges look like other colours; only the inside says which colours there are.
        inside = ndimage.binary_erosion(component, iterations=1) & (errors[..., 1:].min(-1) < 60)
        counts = np.bincount(label[inside], minlength=len(COLOURS))
        kinds = np.flatnonzero(counts > 0.2 * max(1, counts.sum()))
        if len(kinds) < 2:
            masks.append(component)
            continue
        cores = [inside & (label == kind) for kind in kinds]
        reach = np.stack([ndimage.distance_transform_edt(~core) for core in cores])
        masks += [component & (reach.argmin(0) == i) for i in range(len(kinds))]
    return masks


def _overlaps(cover: Array, xs: Array, ys: Array, shape: str, tries: Array) -> Array:
    """Soft intersection over union of a cover map with outlines at each (x, y, radius)."""
    x, y, radius = (tries[:, i, None, None] for i in range(3))
    outline = distance(np, shape, xs[None, None, :] - x, ys[None, :, None] - y, radius)
    drawn = np.clip(0.5 - outline, 0, 1)
    shared = np.minimum(drawn, cover).sum((1, 2))
    overlap: Array = shared / np.maximum(drawn, cover).sum((1, 2))
    return overlap


def _fit(cover: Array, shape: str) -> tuple[float, tuple[float, float, float]]:
    """Best overlap of a shape with a cover map, and its centre and radius in pixels."""
    solid = cover > 0.5
    columns, rows = np.flatnonzero(solid.any(0)), np.flatnonzero(solid.any(1))
    x0, x1 = columns[0], columns[-1] + 1
    y0, y1 = rows[0], rows[-1] + 1
    reach = max(x1 - x0, y1 - y0) / 2
    radius = reach / 0.86 if shape == "square" else reach
    centre_y = (y0 + y1) / 2 + (0.1 * radius if shape == "triangle" else 0.0)
    best = np.array([(x0 + x1) / 2, centre_y, radius], dtype=np.float32)
    xs = np.arange(cover.shape[1], dtype=np.float32) + 0.5
    ys = np.arange(cover.shape[0], dtype=np.float32) + 0.5
    top = -1.0
    for step in (1.0, 0.5, 0.25):
        shifts = np.array([-step, 0.0, step], dtype=np.float32)
        grid = np.stack(np.meshgrid(shifts, shifts, 0.8 * shifts, indexing="ij"), -1)
        tries = best + grid.reshape(-1, 3)
        tries[:, 2] = np.maximum(tries[:, 2], 1.0)
        overlap = _overlaps(cover, xs, ys, shape, tries)
        top, best = float(overlap.max()), tries[int(overlap.argmax())]
    return top, (float(best[0]), float(best[1]), float(best[2]))


def _look_at(pixels: Array, backdrop: Array, mask: Mask) -> SeenObject:
    height, width = mask.shape
    core = ndimage.binary_erosion(mask)
    own = np.median(pixels[core if core.sum() >= 5 else mask], axis=0)
    away = own - backdrop
    near = ndimage.binary_dilation(mask)
    share = (pixels - backdrop) @ away / max(1.0, float(away @ away))
    cover: Array = np.where(near & (share > 0.08), share.clip(0, 1), 0).astype(np.float32)
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    top, left = max(0, rows[0] - 4), max(0, columns[0] - 4)
    crop = cover[top : rows[-1] + 5, left : columns[-1] + 5]
    if not (crop > 0.5).any():
        return SeenObject(UNKNOWN, UNKNOWN, 0.5, 0.5, 0.0, 0.0)
    fits = {shape: _fit(crop, shape) for shape in SHAPES}
    ranked = sorted(fits, key=lambda s: fits[s][0], reverse=True)
    overlap, (x, y, radius) = fits[ranked[0]]
    clear = overlap >= LEAST_OVERLAP[ranked[0]] and overlap - fits[ranked[1]][0] >= LEAST_MARGIN
    shape = ranked[0] if clear and radius / width >= LEAST_RADIUS else UNKNOWN
    colour = _nearest(own, COLOURS)
    return SeenObject(
        shape, colour, (x + left) / width, (y + top) / height, radius / width, overlap
    )


def see(image: NDArray[np.uint8]) -> tuple[tuple[SeenObject, ...], str]:
    """Find the objects and the background's name in an image (H, W, 3) uint8."""
    pixels = image.astype(np.float32)
    frame = max(1, image.shape[0] // 32)
    border = np.ones(image.shape[:2], dtype=bool)
    border[frame:-frame, frame:-frame] = False
    backdrop = np.median(pixels[border], axis=0).astype(np.float32)
    background = _nearest(backdrop, BACKGROUNDS)
    least = _SPECK_SHARE * image.shape[0] * image.shape[1]
    masks = [m for m in _object_masks(pixels, backdrop) if m.sum() > least]
    return tuple(_look_at(pixels, backdrop, m) for m in masks), background


def _size(item: SeenObject, count: int) -> str:
    return "small" if item.radius < _SMALL_BELOW.get(count, 0.146) else "large"


def _relation_holds(relation: str, first: SeenObject, second: SeenObject) -> bool:
    dx, dy = second.x - first.x, second.y - first.y
    along = {"left of": dx, "right of": -dx, "above": dy, "below": -dy}[relation]
    across = dy if relation in ("left of", "right of") else dx
    return bool(along > abs(across))


def _compare(fact: ObjectFact, item: SeenObject | None, count: int) -> dict[str, bool]:
    verdicts: dict[str, bool] = {}
    if fact.colour:
        verdicts["colour"] = item is not None and item.colour == fact.colour
    # "A red shape" still asks for some shape: a blob is none.
    verdicts["shape"] = item is not None and (
        item.shape == fact.shape if fact.shape else item.shape != UNKNOWN
    )
    if fact.size:
        verdicts["size"] = item is not None and _size(item, count) == fact.size
    return verdicts


def verify(image: NDArray[np.uint8], facts: Facts) -> Verdict:
    """Check an image (H, W, 3) uint8 against stated facts.

    Objects of the caption are matched with those seen in the way that makes most facts true.
    """
    seen, background = see(image)
    shared: dict[str, bool] = {"count": len(seen) == len(facts.objects)}
    if facts.background:
        shared["background"] = background == facts.background
    number = len(facts.objects)
    # More than four finds is a failed picture whatever the match; this bounds the search.
    slots: list[SeenObject | None] = [*seen[:4], *[None] * number]
    best: tuple[int, dict[str, bool], tuple[bool, ...]] | None = None
    for items in permutations(slots, number):
        verdicts = dict(shared)
        right = []
        for i, (fact, item) in enumerate(zip(facts.objects, items, strict=True)):
            found = _compare(fact, item, len(seen))
            right.append(all(v for k, v in found.items() if k != "size"))
            verdicts |= {f"object {i + 1} {k}": v for k, v in found.items()}
        if facts.relation:
            first, second = items[0], items[1]
            verdicts["relation"] = (
                first is not None
                and second is not None
                and _relation_holds(facts.relation, first, second)
            )
        total = sum(verdicts.values())
        if best is None or total > best[0]:
            best = (total, verdicts, tuple(right))
    assert best is not None
    return Verdict(best[1], best[2], seen, background)
