"""The ladder of the bundled family, made from what was measured.

python -m argus.models.levels [--weights DIR]

makes levels.json anew from evaluation.json and, where there is one, from reuse.json, which
bench/cache.py writes.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from . import bundled_dir

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


def ladder(report: dict[str, Any], reuse: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the level file for an evaluation report, and for what reuse was measured to do.

    The quality of a level is the share of held-out prompts of which it gets every fact right,
    relative to the reference level's on the same prompts and seeds, and at most 1: what little
    some levels lie above the reference is within the noise of that many prompts. The quality of a
    level that continues a cached state is the same ratio over the pairs of prompts that are near
    enough for it. Steps of which nothing was harmless have no level.
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
    skipping = _skipping(reuse) if reuse else []
    rest = sorted([*levels[1:], *skipping], key=lambda level: -float(str(level["quality"])))
    found: dict[str, Any] = {"reference": {"variant": LEVELS[0][1]}, "levels": [levels[0], *rest]}
    if reuse and skipping:
        found["reuse"] = {
            "similarities": reuse["similarities"],
            "fractions": reuse["fractions"],
            "measured": f"facts lost on {reuse['prompts']} held-out prompts near cached ones, "
            f"DDIM, {reuse['steps']} steps",
        }
    return found


def _skipping(reuse: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the levels of the steps whose skipping did no harm."""
    return [
        {
            "name": f"{reuse['variant'].removeprefix('scenes-')}-skip-{row['skip_fraction']:.0%}"[
                :-1
            ],
            "variant": reuse["variant"],
            "steps_fraction": 1.0,
            "skip_fraction": row["skip_fraction"],
            "quality": row["quality"],
            "measured": f"all facts right on {row['pairs']} held-out prompts with a cached one of "
            f"similarity above {row['above']:g}",
        }
        for row in reuse["levels"]
    ]


def write_levels(weights: Path) -> None:
    """Write levels.json beside the measurements it is made from."""
    report = json.loads((weights / "evaluation.json").read_text())
    path = weights / "reuse.json"
    reuse = json.loads(path.read_text()) if path.is_file() else None
    (weights / "levels.json").write_text(json.dumps(ladder(report, reuse), indent=2) + "\n")


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=bundled_dir())
    write_levels(parser.parse_args().weights)


if __name__ == "__main__":
    main()
