"""The ladder of the bundled family, made from its evaluation."""

import json
from pathlib import Path
from typing import Any

LEVELS = (
    ("base", "scenes-base", 50),
    ("base-half", "scenes-base", 25),
    ("base-fifth", "scenes-base", 10),
    ("base-tenth", "scenes-base", 5),
    ("base-25th", "scenes-base", 2),
    ("base-50th", "scenes-base", 1),
    ("small", "scenes-small", 50),
    ("small-fifth", "scenes-small", 10),
    ("small-tenth", "scenes-small", 5),
    ("small-25th", "scenes-small", 2),
)
"""Name, variant and steps of each level; the first is the reference."""
REFERENCE_STEPS = 50


def ladder(report: dict[str, Any]) -> dict[str, Any]:
    """Return the level file for an evaluation report.

    The quality of a level is the share of held-out prompts of which it gets every fact right,
    relative to the reference level's on the same prompts and seeds, and at most 1: what little
    some levels lie above the reference is within the noise of that many prompts.
    """

    def score(variant: str, steps: int) -> float:
        name = variant.removeprefix("scenes-")
        return float(report["results"][f"{name}, {steps} steps"]["all"]["all_facts"])

    reference = score(*LEVELS[0][1:])
    measured = f"all facts right on {report['prompts']} held-out prompts, {report['sampler']}"
    levels = [
        {
            "name": name,
            "variant": variant,
            "steps_fraction": steps / REFERENCE_STEPS,
            "quality": min(1.0, round(score(variant, steps) / reference, 4)),
            "measured": measured,
        }
        for name, variant, steps in LEVELS
    ]
    rest = sorted(levels[1:], key=lambda level: -float(str(level["quality"])))
    return {"reference": {"variant": LEVELS[0][1]}, "levels": [levels[0], *rest]}


def write_levels(weights: Path) -> None:
    """Write levels.json beside the evaluation it is made from."""
    report = json.loads((weights / "evaluation.json").read_text())
    (weights / "levels.json").write_text(json.dumps(ladder(report), indent=2) + "\n")
