"""Writes the model card and the sheet of sample pictures from measured results."""

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

_TILE = 160
_LABEL = 40
_SHEET_PROMPTS = 15

_INTRO = """# The bundled scenes family

Two small text-to-image pipelines, `scenes-base` and `scenes-small`, and a CLIP-like scorer,
`scenes-clip`, in standard diffusers and transformers folders. They draw 64x64 pictures of one to
three flat shapes on a plain background. They exist so that a server can be run, measured and
tested with real models where no weights can be downloaded; they know nothing else.

```python
from diffusers import StableDiffusionPipeline
from argus.models import bundled_variants

pipeline = StableDiffusionPipeline.from_pretrained(bundled_variants()["scenes-base"])
pipeline("a large red circle on a white background", guidance_scale=1.5).images[0]
```

![samples](samples.png)
"""


def write_sheet(path: Path, prompts: Sequence[str], columns: dict[str, NDArray[np.uint8]]) -> None:
    """Draw the first prompts' pictures enlarged, a row for each prompt, a column for each run.

    Nothing is chosen by hand: the prompts are the first ones of the evaluation.
    """
    shown = min(_SHEET_PROMPTS, len(prompts))
    across = 3
    block_width = _TILE * len(columns)
    rows = -(-shown // across)
    sheet = Image.new("RGB", (across * (block_width + 16), 24 + rows * (_TILE + _LABEL)), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(13)
    for place in range(shown):
        left = (place % across) * (block_width + 16)
        top = 24 + (place // across) * (_TILE + _LABEL)
        for i, (name, images) in enumerate(columns.items()):
            if place < across:
                draw.text((left + i * _TILE + 4, 4), f"{name} steps", fill="black", font=font)
            tile = Image.fromarray(images[place]).resize((_TILE, _TILE), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left + i * _TILE, top))
        label = "\n".join(textwrap.wrap(prompts[place], 68))
        draw.text((left + 4, top + _TILE + 3), label, fill="black", font=font)
    sheet.save(path, optimize=True)


def _ordered(results: dict[str, Any]) -> list[tuple[str, Any]]:
    """Runs with the bounds first, then each model from many steps to few."""

    def place(item: tuple[str, Any]) -> tuple[int, int]:
        model, _, rest = item[0].partition(", ")
        steps = rest.partition(" ")[0]
        group = ("base", "small").index(model) + 1 if model in ("base", "small") else 0
        return (3, 0) if "shuffled" in rest else (group, -int(steps or 0))

    return sorted(results.items(), key=place)


def _score_table(results: dict[str, Any]) -> list[str]:
    lines = [
        "| run | n | all facts: 1 object | 2 objects | 3 objects | all | object right, 1 / 2 / 3 "
        "| mean fact score | scorer cosine |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, rows in _ordered(results):
        by_count = [f"{rows[k]['all_facts']:.2f}" for k in ("1", "2", "3", "all")]
        objects = " / ".join(f"{rows[k]['object']:.2f}" for k in ("1", "2", "3"))
        total = rows["all"]
        lines.append(
            f"| {name} | {total['n']} | {' | '.join(by_count)} | {objects} "
            f"| {total['mean_score']:.2f} | {total['scorer_cosine']:.2f} |"
        )
    return lines


def _fact_table(results: dict[str, Any]) -> list[str]:
    kinds = ("count", "colour", "shape", "size", "relation", "background")
    lines = ["| run | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for name, rows in _ordered(results):
        facts = rows["all"]["facts"]
        lines.append(f"| {name} | " + " | ".join(f"{facts[k]:.2f}" for k in kinds) + " |")
    return lines


def write_card(weights: Path) -> None:
    """Write README.md beside the weights folder from evaluation.json and training.json."""
    report = json.loads((weights / "evaluation.json").read_text())
    results, steps = report["results"], report["unet_step"]
    numbers = results["renderings"]
    n = " / ".join(str(numbers[k]["n"]) for k in ("1", "2", "3"))
    lines = [_INTRO, "## Scores", ""]
    lines += [
        f"{report['prompts']} held-out prompts (n = {n} with one / two / three objects), one"
        f" picture each, {report['sampler']}, guidance {report['guidance']}, fixed seeds."
        " *All facts*: everything the prompt states is so by `verifier.py`, which rejects objects"
        " of no clear shape. *Object right*: its colour and shape. Renderings are the upper bound;"
        " shuffled captions, the lower.",
        "",
        *_score_table(results),
        "",
        "Share of stated facts that hold, by kind:",
        "",
        *_fact_table(results),
        "",
    ]
    recall = ", ".join(
        f"{v['recall']:.2f} of {v['n']} with {k} object{'s' * (k != '1')}"
        for k, v in report["scorer_recall_at_1"].items()
    )
    lines += [
        f"Scorer, held-out captions that rank their own picture first: {recall}.",
        "",
        "| UNet | parameters | one call, 1 lane | 8 lanes |",
        "|---|---|---|---|",
    ]
    for name, times in steps.items():
        millions = report["unet_parameters"][name] / 1e6
        lines.append(
            f"| {name} | {millions:.2f} M | {times['lanes_1_ms']} ms | {times['lanes_8_ms']} ms |"
        )
    lines += ["", f"float32, one CPU thread ({report['cpu']}).", ""]
    lines += ["| trained part | samples | minutes |", "|---|---|---|"]
    record = json.loads((weights / "training.json").read_text())
    lines += [f"| {k} | {v['samples']:,} | {v['minutes']} |" for k, v in record.items()]
    lines.append("")
    lines.append((Path(__file__).parent / "card.md").read_text())
    (weights.parent / "README.md").write_text("\n".join(lines))
