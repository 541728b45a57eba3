"""The world the family is trained on: scenes of one to three flat shapes, and their pictures.

Lengths are fractions of the picture's width, so one scene can be drawn at any resolution.
"""

import hashlib
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .shapes import SHAPES, distance

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 28, 36),
    "green": (34, 150, 58),
    "blue": (44, 84, 226),
    "yellow": (248, 216, 28),
    "purple": (132, 44, 168),
    "orange": (246, 132, 20),
}
BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (252, 252, 252),
    "gray": (150, 150, 154),
    "black": (12, 12, 14),
    "pink": (255, 190, 208),
}
SIZES = ("small", "large")
POOR_CONTRAST = frozenset({("purple", "black")})
HELD_OUT_SHARE = 0.15

_COUNT_WEIGHTS = (0.45, 0.40, 0.15)
_RADII = {
    ("one", "small"): (0.120, 0.150),
    ("one", "large"): (0.200, 0.250),
    ("pair", "small"): (0.110, 0.128),
    ("pair", "large"): (0.165, 0.192),
    ("three", ""): (0.125, 0.142),
}
_CENTRES = {
    "one": ((0.5, 0.5),),
    "row": ((0.266, 0.5), (0.734, 0.5)),
    "column": ((0.5, 0.266), (0.5, 0.734)),
    "row of three": ((0.18, 0.5), (0.5, 0.5), (0.82, 0.5)),
    "triangle": ((0.5, 0.27), (0.25, 0.73), (0.75, 0.73)),
}
# Largest shift of a centre along x and y for each layout: small enough that nothing overlaps.
_JITTER = {
    "one": (0.09, 0.09),
    "row": (0.03, 0.06),
    "column": (0.06, 0.03),
    "row of three": (0.012, 0.06),
    "triangle": (0.03, 0.03),
}


@dataclass(frozen=True, slots=True)
class SceneObject:
    """One shape; `size` is empty in scenes of three, where all are of middle size."""

    shape: str
    colour: str
    size: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True, slots=True)
class Scene:
    """Objects in reading order (left to right, else top to bottom) on a plain background."""

    objects: tuple[SceneObject, ...]
    background: str
    layout: str


def is_held_out(scene: Scene) -> bool:
    """Say whether a scene's combination of attributes is kept out of all training.

    One object: its shape, colour and background. More: the set of shapes with their colours,
    whatever the order, sizes and background.
    """
    parts = sorted(f"{o.colour} {o.shape}" for o in scene.objects)
    if len(parts) == 1:
        parts.append(scene.background)
    digest = hashlib.blake2b("|".join(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 < HELD_OUT_SHARE


def _draw_scene(rng: random.Random, count: int | None) -> Scene:
    number = count or rng.choices((1, 2, 3), _COUNT_WEIGHTS)[0]
    background = rng.choice(tuple(BACKGROUNDS))
    colours = [c for c in COLOURS if (c, background) not in POOR_CONTRAST]
    if number == 1:
        layout, group = "one", "one"
    elif number == 2:
        layout, group = rng.choice(("row", "column")), "pair"
    else:
        layout, group = rng.choice(("row of three", "triangle")), "three"
    kinds = [(rng.choice(SHAPES), rng.choice(colours)) for _ in range(number)]
    sizes = [rng.choice(SIZES) if number < 3 else "" for _ in range(number)]
    if number > 1 and rng.random() < 0.12:
        kinds, sizes = [kinds[0]] * number, [sizes[0]] * number
    jitter_x, jitter_y = _JITTER[layout]
    objects = []
    for (shape, colour), size, (x, y) in zip(kinds, sizes, _CENTRES[layout], strict=True):
        objects.append(
            SceneObject(
                shape,
                colour,
                size,
                x + rng.uniform(-jitter_x, jitter_x),
                y + rng.uniform(-jitter_y, jitter_y),
                rng.uniform(*_RADII[group, size]),
            )
        )
    return Scene(tuple(objects), background, layout)


def scene_at(seed: int, index: int, *, held_out: bool = False, count: int | None = None) -> Scene:
    """Return scene `index` of the endless list that `seed` names, from one side of the split."""
    rng = random.Random((seed << 32) + index)
    while True:
        scene = _draw_scene(rng, count)
        if is_held_out(scene) == held_out:
            return scene


def _rgb(value: tuple[int, int, int], device: torch.device) -> Tensor:
    return torch.tensor(value, dtype=torch.float32, device=device) / 255


def render(scenes: Sequence[Scene], resolution: int, device: str | torch.device = "cpu") -> Tensor:
    """Draw scenes with anti-aliased edges: float32 (N, 3, resolution, resolution) in [0, 1]."""
    where = torch.device(device)
    palette = torch.stack([_rgb(BACKGROUNDS[s.background], where) for s in scenes])
    images = palette[:, :, None, None].repeat(1, 1, resolution, resolution)
    grid = (torch.arange(resolution, dtype=torch.float32, device=where) + 0.5) / resolution
    for shape in SHAPES:
        found = [(i, o) for i, s in enumerate(scenes) for o in s.objects if o.shape == shape]
        if not found:
            continue
        numbers = torch.tensor([(o.x, o.y, o.radius) for _, o in found], device=where)
        x = grid[None, None, :] - numbers[:, 0, None, None]
        y = grid[None, :, None] - numbers[:, 1, None, None]
        outline = distance(torch, shape, x, y, numbers[:, 2, None, None])
        cover = (0.5 - outline * resolution).clamp(0, 1)[:, None]
        colour = torch.stack([_rgb(COLOURS[o.colour], where) for _, o in found])[:, :, None, None]
        rows = torch.tensor([i for i, _ in found], device=where)
        # Objects never overlap, so adding each one's change to its picture draws them all.
        change = cover * (colour - palette[rows][:, :, None, None])
        images.index_add_(0, rows, change)
    return images


def cell_labels(scenes: Sequence[Scene], cells: int) -> tuple[Tensor, Tensor]:
    """Say what covers each cell of a coarse grid: int64 shape and colour maps (N, cells, cells).

    An object covers the cells whose centre lies in its bounding square, a ring's hole included.
    Shape 0 is background, then SHAPES; colours are BACKGROUNDS, then COLOURS.
    """
    backgrounds, colours = tuple(BACKGROUNDS), tuple(COLOURS)
    shape_map = torch.zeros(len(scenes), cells, cells, dtype=torch.int64)
    first = torch.tensor([backgrounds.index(s.background) for s in scenes])
    colour_map = first[:, None, None].repeat(1, cells, cells)
    for i, scene in enumerate(scenes):
        for item in scene.objects:
            reach = item.radius + 0.25 / cells
            x0, x1 = (round(v * cells) for v in (item.x - reach, item.x + reach))
            y0, y1 = (round(v * cells) for v in (item.y - reach, item.y + reach))
            shape_map[i, y0:y1, x0:x1] = 1 + SHAPES.index(item.shape)
            colour_map[i, y0:y1, x0:x1] = len(backgrounds) + colours.index(item.colour)
    return shape_map, colour_map
