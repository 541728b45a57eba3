"""`make bench-gpu`: the engine against diffusers, eager and compiled, at the sizes people serve.

Random weights of the real architectures, everything in one run on one GPU. Every system gets
modules of its own, built anew, so that what one does to its modules never helps or hurts another.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import record
import torch
from arrivals import Kind, requests
from baselines import Pipeline
from limits import peak_flop_s
from load import closed_loop
from ours import EngineServer
from random_models import (
    SD15,
    SDXL,
    TINY_SD15,
    TINY_SDXL,
    Recipe,
    build_adapter,
    build_pipeline,
    forward_flop,
)

from argus.engine.engine import Engine, EngineOptions
from argus.types import VariantInfo

SEED = 1
NOT_AVAILABLE = "not available"
SWITCHES = {
    "CUDA graphs": ("graph",),
    "fused guidance and update kernel": ("fused", "update_kernel"),
    "GroupNorm+SiLU kernel": ("norm",),
}
"""What the engine may let one switch: words by which a field of EngineOptions is known."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    """One workload: a model and the kind of requests it gets, at its native size."""

    name: str
    recipe: Recipe
    kind: Kind

    @property
    def lanes(self) -> int:
        """Lanes a row takes."""
        return 2 if self.kind.guided else 1


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how much is measured.

    Attributes:
        device: of all models.
        dtype: of all models.
        rows: images in flight at once, ascending.
        waves: images per row in a measurement.
        compile_box_s: seconds after which no further compiled size is begun; 0 for none at all.
    """

    device: torch.device
    dtype: torch.dtype
    rows: tuple[int, ...]
    waves: int
    compile_box_s: float

    def wait(self) -> None:
        """Wait for the device."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def cases(tiny: bool) -> list[Case]:
    """Return the workloads; tiny ones have the same shape and no size."""
    xl, sd = (TINY_SDXL, TINY_SD15) if tiny else (SDXL, SD15)
    long = 3 if tiny else 30
    xl_name, sd_name = (
        f"{family} {native(recipe).width}²" for family, recipe in (("SDXL", xl), ("SD-1.5", sd))
    )
    return [
        Case(f"{xl_name}, guided", xl, Kind("euler", long, guided=True)),
        Case(f"{sd_name}, guided", sd, Kind("dpmpp_2m", long, guided=True)),
        Case(f"{sd_name}, no guidance", sd, Kind("dpmpp_2m", long, guided=False)),
        Case(f"{sd_name}, LCM in 4 steps", sd, Kind("lcm", 4, guided=False)),
    ]


def native(recipe: Recipe) -> VariantInfo:
    """Return what requests need to know of a recipe, without building it."""
    scale = 2 ** (len(recipe.vae["block_out_channels"]) - 1)
    side = recipe.unet["sample_size"] * scale
    return VariantInfo(
        recipe.name, "", side, side, scale, side, (), "", default_steps=1, default_guidance=5.0
    )


def row(
    case: Case, system: str, rows: int | str, rate: float | str, latencies: Sequence[float]
) -> Row:
    """Return one line of a case's table; without latencies `rate` says why there are none."""
    return {
        "workload": case.name,
        "system": system,
        "rows": rows,
        "images/s": rate,
        "image p50 ms": 1000 * statistics.median(latencies) if latencies else "",
        "image slowest ms": 1000 * max(latencies) if latencies else "",
    }


@contextlib.contextmanager
def emptied(place: Place) -> Iterator[None]:
    """Free what a system held on the device when it is done."""
    try:
        yield
    finally:
        gc.collect()
        if place.device.type == "cuda":
            torch.cuda.empty_cache()


def measure_ours(
    case: Case, place: Place, system: str, rows: Sequence[int], switches: Mapping[str, bool]
) -> list[Row]:
    """Return a line for each number of rows kept in flight in the engine."""
    options = EngineOptions(
        slots=max(place.rows), max_lanes=case.lanes * max(place.rows), max_waiting=1024
    )
    options = dataclasses.replace(options, **switches)
    with emptied(place), tempfile.TemporaryDirectory() as folder:
        adapter = build_adapter(case.recipe, place.device, place.dtype, SEED, Path(folder))
        server = EngineServer(Engine([adapter], options), system)
        lines = []
        for count in rows:
            name = f"{case.recipe.name}-{count}"
            drawn = requests([case.kind], count * place.waves, count, adapter.info, name)
            run = closed_loop(server, [wanted for _, wanted in drawn], count)
            lines.append(row(case, system, count, run.images_per_s, run.latencies_s))
        server.close()
        return lines


def measure_diffusers(case: Case, place: Place, compiled: bool) -> list[Row]:
    """Return a line for each batch size of diffusers' own pipeline; pictures are not compressed."""
    system = "diffusers, compiled" if compiled else "diffusers, eager"
    start = time.perf_counter()
    lines = []
    with emptied(place):
        pipeline = build_pipeline(case.recipe, place.device, place.dtype, SEED)
        if compiled:
            pipeline.unet.compile()
        drawer = Pipeline(pipeline)
        for count in place.rows:
            if compiled and time.perf_counter() - start > place.compile_box_s:
                lines.append(row(case, system, count, "not run: time box spent", ()))
                continue
            drawn = requests([case.kind], count, count, native(case.recipe), "batch")
            batch = [wanted for _, wanted in drawn]
            drawer.draw([dataclasses.replace(wanted, steps=2) for wanted in batch])
            latencies = []
            for _ in range(place.waves):
                place.wait()
                before = time.perf_counter()
                drawer.draw(batch)
                place.wait()
                latencies.append(time.perf_counter() - before)
            rate = count * len(latencies) / sum(latencies)
            lines.append(row(case, system, count, rate, latencies))
    return lines


def measure_switches(case: Case, place: Place) -> list[Row]:
    """Return lines with every switch of the engine on and off, at the fewest and the most rows."""
    ends = sorted({place.rows[0], place.rows[-1]})
    flags = [f.name for f in dataclasses.fields(EngineOptions) if isinstance(f.default, bool)]
    lines = []
    for field in flags:
        for value in (True, False):
            system = f"{field} {'on' if value else 'off'}"
            try:
                lines += measure_ours(case, place, system, ends, {field: value})
            except Exception as error:
                # A switch that cannot be used here is a result, not the end of the others.
                lines.append(row(case, system, "", f"{type(error).__name__}: {error}", ()))
    for title, words in SWITCHES.items():
        if not any(word in field for field in flags for word in words):
            lines.append(row(case, title, "", NOT_AVAILABLE, ()))
    return lines


def with_share(case: Case, lines: Sequence[Row], peak: float | None) -> list[Row]:
    """Add each line's share of the arithmetic limit: the UNet's operations only, over the peak."""
    side = native(case.recipe).width
    flop = forward_flop(case.recipe, side) * case.lanes * case.kind.steps
    shown = []
    for line in lines:
        rate = line["images/s"]
        known = isinstance(rate, float) and peak
        share = 100 * rate * flop / peak if known else NOT_AVAILABLE
        shown.append({**line, "UNet TFLOP an image": flop / 1e12, "share of peak %": share})
    return shown


def measure(place: Place, chosen: Sequence[Case]) -> dict[str, list[Row]]:
    """Return every table by its heading."""
    peak = peak_flop_s(place.device)
    stated = f"{peak / 1e12:.0f} TFLOP/s" if peak else "unknown for this device"
    tables = {}
    for case in chosen:
        print(f"measuring {case.name}", file=sys.stderr)
        lines = measure_ours(case, place, "Argus", place.rows, {})
        lines += measure_diffusers(case, place, compiled=False)
        if place.compile_box_s:
            lines += measure_diffusers(case, place, compiled=True)
        else:
            lines.append(row(case, "diffusers, compiled", "", "left out by --no-compile", ()))
        heading = f"{case.name}, {case.kind.steps} steps, {case.kind.sampler}; peak {stated}"
        tables[heading] = with_share(case, lines, peak)
        tables[f"{case.name}: switches of the engine"] = with_share(
            case, measure_switches(case, place), peak
        )
    return tables


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Return the settings; scale and device are for the test of this file."""
    parser = argparse.ArgumentParser(description="Measure the engine on a GPU.")
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--rows", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--waves", type=int, default=3, help="images per row in a measurement")
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument(
        "--compile-box", type=float, default=600.0, help="seconds for a workload's compiled sizes"
    )
    parser.add_argument("--scale", choices=("full", "tiny"), default="full", help=argparse.SUPPRESS)
    parser.add_argument("--device", default="cuda", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write gpu.json and gpu.md; exit with 1 and a line where there is no GPU."""
    settings = parse(arguments)
    device = torch.device(settings.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        sys.exit("make bench-gpu needs a CUDA device, and there is none here")
    place = Place(
        device,
        torch.bfloat16 if device.type == "cuda" else torch.float32,
        tuple(sorted(settings.rows)),
        settings.waves,
        0.0 if settings.no_compile else settings.compile_box,
    )
    chosen = [case for case in cases(settings.scale == "tiny") if settings.only in case.name]
    if not chosen:
        sys.exit(f"--only {settings.only!r} is in the name of no workload")
    print(record.write(settings.out, "gpu", measure(place, chosen)))


if __name__ == "__main__":
    main()
