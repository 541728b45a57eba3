"""The ladder of the bundled family, made from what was measured.

python -m argus.models.levels [--weights DIR]

makes levels.json anew from profile/summary.json, which `argus profile` writes, and from reuse.json,
where there is one, which bench/cache.py writes. Without a profile, after a training, the qualities
are those of evaluation.json.
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
"""Name, variant and steps of each level that runs every step; the first is the reference."""
REFERENCE_STEPS = 50
Json = dict[str, Any]


def ladder(report: Json | None, reuse: Json | None = None, summary: Json | None = None) -> Json:
    """Return the level file.

    With a profile the quality of a level is its mean relative quality there. Before there is one
    it is the share of held-out prompts of which the level gets every fact right, relative to the
    reference level's, and at most 1. Levels that continue a cached state come from the profile,
    which measured each at every similarity, and from `reuse`: up to what its pairs of prompts
    say is harmless at a similarity, their quality is that of the pairs that are near enough.

    Args:
        report: evaluation.json; needed only without a profile.
        reuse: reuse.json.
        summary: the profile's summary.json.
    """
    qualities = _profiled(summary) if summary else _evaluated(report or {})
    levels = [
        {"name": name, "variant": variant, "steps_fraction": steps / REFERENCE_STEPS}
        | qualities[name]
        for name, variant, steps in LEVELS
    ]
    skipping = {level["name"]: level for level in (_skipping(reuse) if reuse else [])}
    for name, found in qualities.items():
        share = _share(name)
        if share is not None and name not in skipping:
            skipping[name] = _skip_level(name, LEVELS[0][1], share, found)
    rest = sorted([*levels[1:], *skipping.values()], key=lambda x: -float(str(x["quality"])))
    content: Json = {"reference": {"variant": LEVELS[0][1]}, "levels": [levels[0], *rest]}
    if reuse and reuse["levels"]:
        content["reuse"] = {
            "similarities": reuse["similarities"],
            "fractions": reuse["fractions"],
            "measured": f"facts lost on {reuse['prompts']} held-out prompts near cached ones, "
            f"DDIM, {reuse['steps']} steps",
        }
    return content


def _profiled(summary: Json) -> dict[str, Json]:
    measured = f"mean relative quality by {summary['main']} on {summary['prompts']} prompts"
    return {
        level["name"]: {"quality": round(level["quality"], 4), "measured": measured}
        for level in summary["levels"]
    }


def _evaluated(report: Json) -> dict[str, Json]:
    def score(variant: str, steps: int) -> float:
        name = variant.removeprefix("scenes-")
        return float(report["results"][f"{name}, {steps} steps"]["all"]["all_facts"])

    reference = score(*LEVELS[0][1:])
    measured = f"all facts right on {report['prompts']} held-out prompts, {report['sampler']}"
    return {
        name: {
            # What little some levels lie above the reference is the noise of so few prompts.
            "quality": min(1.0, round(score(variant, steps) / reference, 4)),
            "measured": measured,
        }
        for name, variant, steps in LEVELS
    }


def _share(name: str) -> float | None:
    """Return the share of the steps that a level of the profile skips; None for others."""
    start = f"{LEVELS[0][0]}-skip-"
    return int(name.removeprefix(start)) / 100 if name.startswith(start) else None


def _skip_level(name: str, variant: str, share: float, found: Json) -> Json:
    return {"name": name, "variant": variant, "steps_fraction": 1.0, "skip_fraction": share} | found


def _skipping(reuse: Json) -> list[Json]:
    """Return the levels of the steps whose skipping did no harm."""
    prefix = reuse["variant"].removeprefix("scenes-")
    return [
        _skip_level(
            f"{prefix}-skip-{row['skip_fraction']:.0%}".rstrip("%"),
            reuse["variant"],
            row["skip_fraction"],
            {
                "quality": row["quality"],
                "measured": f"all facts right on {row['pairs']} held-out prompts with a cached one "
                f"of similarity above {row['above']:g}",
            },
        )
        for row in reuse["levels"]
    ]


def _read(path: Path) -> Json | None:
    return json.loads(path.read_text()) if path.is_file() else None


def write_levels(weights: Path) -> None:
    """Write levels.json beside the measurements it is made from."""
    content = ladder(
        _read(weights / "evaluation.json"),
        _read(weights / "reuse.json"),
        _read(weights / "profile" / "summary.json"),
    )
    (weights / "levels.json").write_text(json.dumps(content, indent=2) + "\n")


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, default=bundled_dir())
    write_levels(parser.parse_args().weights)


if __name__ == "__main__":
    main()
