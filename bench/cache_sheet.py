"""The contact sheet of `make bench-cache`: what continuing a neighbour's state looks like."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

TILE = 96
LABEL = 330
MARGIN = 22


@dataclass(frozen=True, slots=True)
class SheetRow:
    """One prompt: what it is, whether each picture states its facts, and the pictures."""

    label: str
    pictures: Sequence[NDArray[np.uint8]]
    right: Sequence[bool | None]
    """None: not judged."""


def write_sheet(path: Path, columns: Sequence[str], rows: Sequence[SheetRow]) -> None:
    """Draw one line a row and one column a picture; a red frame marks a fact that does not hold."""
    sheet = Image.new("RGB", (LABEL + TILE * len(columns), MARGIN + TILE * len(rows)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(12)
    for i, name in enumerate(columns):
        draw.text((LABEL + i * TILE + 4, 4), name, fill="black", font=font)
    for place, row in enumerate(rows):
        top = MARGIN + place * TILE
        text = "\n".join(part for line in row.label.split("\n") for part in textwrap.wrap(line, 50))
        draw.text((4, top + 6), text, fill="black", font=font)
        for i, (picture, right) in enumerate(zip(row.pictures, row.right, strict=True)):
            size = TILE - 6
            tile = Image.fromarray(picture).resize((size, size), Image.Resampling.BICUBIC)
            left = LABEL + i * TILE
            if right is False:
                draw.rectangle((left, top, left + TILE - 3, top + TILE - 3), fill=(220, 30, 30))
            sheet.paste(tile, (left + 2, top + 2))
    sheet.save(path, optimize=True)
