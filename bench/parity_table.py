"""Measure how far the engine's results lie from diffusers' own, and write docs/parity.md."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from parity import Pair, make_request
from record import circumstances, table
from tiny_models import TINY

from argus.models import bundled_variants

ABOUT = """\
# Parity with diffusers

Each line is one request made twice in float32 on the CPU: by the engine, and by the `__call__` of
the folder's own diffusers pipeline with the same prompt, seed and steps. The numbers are the
largest differences over all values of the final latents (allowed: see `bench/parity.py`) and of
the pictures, of 255 (allowed: 1). `make parity-table` writes this page.

diffusers' Heun class for flow matching takes neither the sigmas nor the shift that the pipelines
of SD3 and FLUX may hand over; its steps are run over the schedule of the Euler class there.

The `tiny` variants have random weights (`bench/tiny_models.py`), which let every family be checked
without a download; `scenes-base` is the bundled one. `tests/parity` holds the same comparison.
"""
BUNDLED = "scenes-base"


def rows(pair: Pair, variant: str, **changes: Any) -> Iterator[dict[str, Any]]:
    """Yield a line for every sampler of a variant, without guidance and with."""
    info = pair.engine.adapters[variant].info
    for sampler in info.samplers:
        line: dict[str, Any] = {"variant": variant, "sampler": sampler}
        for name, guidance in (("without", 1.0), ("guided", 5.0)):
            found = pair.compare(make_request(variant, sampler, guidance=guidance, **changes))
            line |= {
                f"{name}: latents": found.latents,
                f"{name}: allowed": found.bound,
                f"{name}: pixels": found.pixels,
            }
        yield line


def guided(pair: Pair) -> Iterator[dict[str, Any]]:
    """Yield a line for each further way of guidance."""
    for variant, adapter in pair.engine.adapters.items():
        ways = {
            "guidance_rescale": {"guidance": 9.0, "guidance_rescale": 0.7},
            "true_guidance": {"guidance": 3.5, "true_guidance": 4.0, "negative_prompt": "blue"},
        }
        for way in ways.keys() & set(adapter.info.accepts):
            sampler = adapter.info.default_sampler
            found = pair.compare(make_request(variant, sampler, **ways[way]))
            yield {
                "variant": variant,
                "sampler": sampler,
                "way": way,
                "latents": found.latents,
                "allowed": found.bound,
                "pixels": found.pixels,
            }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/parity.md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        pair = Pair({name: save(Path(folder) / name) for name, save in TINY.items()})
        try:
            tiny = [line for name in TINY for line in rows(pair, name)]
            ways = list(guided(pair))
        finally:
            pair.close()
    pair = Pair({BUNDLED: bundled_variants()[BUNDLED]})
    try:
        trained = list(rows(pair, BUNDLED, steps=20, width=64, height=64))
    finally:
        pair.close()
    facts = circumstances()
    versions = ", ".join(f"{name} {number}" for name, number in facts.pop("versions").items())
    parts = [ABOUT]
    parts += ["\n".join([*(f"- {k}: {v}" for k, v in facts.items()), f"- versions: {versions}"])]
    parts += ["", "## Random weights, 8 steps", "", table(tiny)]
    parts += ["", "## Other ways of guidance, 8 steps", "", table(ways)]
    parts += ["", "## The bundled base, 20 steps", "", table(trained), ""]
    arguments.out.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
