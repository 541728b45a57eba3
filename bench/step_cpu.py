"""`make bench-step`: microseconds of a gather and update on this CPU, in several forms.

The last table sets them against a forward of the bundled model, which they are a part of a step
with: it says whether any of this matters.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import record
import torch
from diffusers import UNet2DConditionModel
from step_forms import FORMS, REFERENCE, Form, fused_cpp

from argus.kernels.samples import StepSample
from argus.models import bundled_variants

CPU = torch.device("cpu")
LATENTS = {"scenes": (8, 8, 8), "SD-1.5 512": (4, 64, 64), "SDXL 1024": (4, 128, 128)}
ROWS = (1, 4, 16)
VARIANT = "scenes-base"
TOKENS = 24


def microseconds(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of a call."""
    taken = []
    for repeat in range(repeats + 3):
        start = time.perf_counter()
        call()
        if repeat >= 3:
            taken.append(time.perf_counter() - start)
    return 1e6 * statistics.median(taken)


def measure(forms: Mapping[str, Form], repeats: int) -> list[dict[str, Any]]:
    """Return a row for each shape and number of rows: µs of a gather and update by form."""
    table = []
    for name, latent in LATENTS.items():
        for rows in ROWS:
            sample = StepSample.random(CPU, torch.float32, latent, 2, rows)
            row: dict[str, Any] = {"latent": f"{name} {latent}", "guided rows": rows}
            for form, module in forms.items():
                sample.check(module)
                row[form] = microseconds(partial(sample.run, module), repeats)
            table.append(row)
    return table


def forward(repeats: int) -> list[dict[str, Any]]:
    """Return µs of a forward of the bundled UNet by lanes, and the reference's share of it."""
    folder = bundled_variants()[VARIANT] / "unet"
    unet = UNet2DConditionModel.from_pretrained(
        folder, local_files_only=True, low_cpu_mem_usage=False
    )
    unet = unet.eval()
    size = unet.config.sample_size
    table = []
    for rows in ROWS:
        sample = StepSample.random(
            CPU, torch.float32, (unet.config.in_channels, size, size), 2, rows
        )
        text = torch.randn(2 * rows, TOKENS, unet.config.cross_attention_dim)
        times = torch.full((2 * rows,), 500.0)
        with torch.inference_mode():
            taken = microseconds(partial(unet, sample.output, times, text), repeats)
        ours = microseconds(partial(sample.run, FORMS[REFERENCE]), repeats)
        share = 100 * ours / taken
        table.append({"guided rows": rows, "forward": taken, "step": ours, "share %": share})
    return table


def main() -> None:
    """Measure everything and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("bench/results"))
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        forms = {**FORMS, "fused C++": fused_cpp(Path(folder))}
        steps = measure(forms, arguments.repeats)
    tables = {
        "Gather and update, two states, µs": steps,
        f"Against a forward of {VARIANT}, µs": forward(arguments.repeats // 4),
    }
    print(record.write(arguments.out, "step-cpu", tables))


if __name__ == "__main__":
    main()
