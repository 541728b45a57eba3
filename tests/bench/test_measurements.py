"""The benchmarks run from end to end at a size where the numbers mean nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import engine as bench_engine
import gpu as bench_gpu
import pytest
import torch
from arrivals import Kind
from limits import PEAK_TFLOP_S, peak_flop_s
from random_models import SD15

Tables = dict[str, list[dict[str, Any]]]


def tables(folder: Path, name: str) -> Tables:
    found: Tables = json.loads((folder / f"{name}.json").read_text())["tables"]
    assert (folder / f"{name}.md").read_text().startswith(f"# {name}")
    return found


@pytest.mark.slow
def test_the_engine_benchmark_fills_every_table(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    folder = tiny_folders["tiny-eps"]
    quick = "--window 0.5 --repeats 2 --loads 0.5 --images 2 --pairs 2 --steps 4 --fraction 0.1"
    bench_engine.main(["--out", str(tmp_path), "--model", str(folder), "--profile", *quick.split()])
    found = tables(tmp_path, "engine")
    for mix in ("mixed requests", "equal requests"):
        settings = found[f"{mix}: settings tried"]
        assert [row["kept"] for row in settings].count("yes") == 2
        capacity = max(
            r["saturated images/s"] for r in settings if r["server"].startswith("diffusers")
        )
        (contest,) = (rows for title, rows in found.items() if title.startswith(f"{mix}: same"))
        assert f"{mix}: same arrivals, capacity {capacity:.2f} images/s" in found
        assert len(contest) == 3
        # All servers saw the same requests: twice those of one repeat, or only the first's.
        ours, batching, alone = contest
        assert ours["images"] == batching["images"] > alone["images"]
        (ratio,) = found[f"{mix}: step level against request-level batching"]
        assert ratio["mean latency lowest"] <= ratio["mean latency ratio"]
    (overhead,) = (rows for title, rows in found.items() if title.startswith("engine step"))
    assert [row["lanes"] for row in overhead] == [1, 2, 4, 8]
    (profile,) = (rows for title, rows in found.items() if title.startswith("where a step"))
    assert any("conv2d" in row["function"] for row in profile)


@pytest.mark.parametrize("workload", ["SDXL", "LCM"])
def test_the_gpu_benchmark_measures_every_system(tmp_path: Path, workload: str) -> None:
    quick = f"--scale tiny --device cpu --rows 1 2 --waves 1 --no-compile --only {workload}"
    bench_gpu.main(["--out", str(tmp_path), *quick.split()])
    systems, switches = tables(tmp_path, "gpu").values()
    measured = [(r["system"], r["rows"]) for r in systems if isinstance(r["images/s"], float)]
    assert measured == [(s, n) for s in ("Argus", "diffusers, eager") for n in (1, 2)]
    assert systems[-1]["images/s"] == "left out by --no-compile"
    assert {r["system"] for r in switches} >= {"graphs on", "graphs off"}
    assert all(isinstance(r["images/s"], float) for r in switches)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has what is refused without")
def test_without_a_gpu_the_benchmark_refuses_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="^make bench-gpu needs a CUDA device, and there is none"):
        bench_gpu.main(["--out", str(tmp_path)])
    assert list(tmp_path.iterdir()) == []


def test_the_share_of_the_peak_is_arithmetic_done_over_arithmetic_possible() -> None:
    case = bench_gpu.Case("case", SD15, Kind("ddim", 50, guided=True))
    lines = [
        bench_gpu.row(case, "s", 1, 2.0, [0.5]),
        bench_gpu.row(case, "s", "", "not run: time box spent", ()),
    ]
    shown = bench_gpu.with_share(case, lines, 1e15)
    # 2 images/s of 50 guided steps: 200 forwards of 0.80 TFLOP, on a device that could do 1000.
    assert shown[0]["share of peak %"] == pytest.approx(16.0, rel=0.01)
    assert shown[1]["share of peak %"] == "not available"
    assert bench_gpu.with_share(case, lines, None)[0]["share of peak %"] == "not available"


def test_a_longer_name_is_looked_up_before_its_beginning() -> None:
    names = list(PEAK_TFLOP_S)
    for i, name in enumerate(names):
        assert not any(name.startswith(earlier) for earlier in names[:i])
    assert peak_flop_s(torch.device("cpu")) is None
