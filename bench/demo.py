"""`make demo`: a coordinator, two nodes, real prompts, real pictures, a small report."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import demo_report
import numpy as np
from local_cluster import LocalCluster

from argus.client import AsyncClient, ImageResult
from argus.errors import ArgusError
from argus.models.captions import parse_caption
from argus.models.verifier import verify

PROMPTS = (
    "a red circle",
    "a large blue square on a white background",
    "a small green triangle",
    "a purple ring on a white background",
    "an orange cross on a gray background",
    "a yellow circle on a black background",
    "a red triangle on a gray background",
    "a large green ring",
    "a red circle left of a blue square",
    "a green triangle above a purple circle",
    "a yellow ring and a blue cross on a black background",
    "a blue circle below a red cross",
    "two red circles",
    "an orange square to the right of a green ring",
    "a purple cross above a yellow square on a gray background",
    "a red circle, a blue square and a green triangle",
)
"""Each is asked for once at the reference level."""

HURRIED = PROMPTS[:4]
"""Asked for again with the deadline below, which the reference level cannot meet under load."""
HURRIED_SHARE = 0.5
"""Deadline of the hurried ones, as a share of the mean time the first ones took."""
SMALL = PROMPTS[:4]
"""Asked for again from the small variant by name."""


REFERENCE = "Every prompt at the reference level, all sent at once"
NAMED = "The small variant, asked for by name"
HURRY = "Asked for again with a tight deadline"


async def generate(address: str) -> list[tuple[str, ImageResult]]:
    """Send the prompts and return the pictures in order, each with the section it belongs to."""
    async with AsyncClient(address) as client:
        jobs = [client.generate(p, seed=100 + n) for n, p in enumerate(PROMPTS)]
        jobs += [
            client.generate(p, seed=100 + n, variant="scenes-small") for n, p in enumerate(SMALL)
        ]
        results = await asyncio.gather(*(shown(job) for job in jobs))
        print()
        mean_s = sum(r.total_s for r in results[: len(PROMPTS)]) / len(PROMPTS)
        hurried = [
            client.generate(p, seed=100 + n, deadline_s=HURRIED_SHARE * mean_s)
            for n, p in enumerate(HURRIED)
        ]
        answers = await asyncio.gather(*hurried, return_exceptions=True)
    sections = [REFERENCE] * len(PROMPTS) + [NAMED] * len(SMALL)
    made = list(zip(sections, results, strict=True))
    for answer in answers:
        if isinstance(answer, ImageResult):
            made.append((HURRY, answer))
        elif isinstance(answer, ArgusError):
            print(f"refused in a hurry: {answer}")
        else:
            raise answer
    return made


async def shown(job: Awaitable[ImageResult]) -> ImageResult:
    """Print a dot when a picture is there."""
    result = await job
    print(".", end="", flush=True)
    return result


def describe(section: str, result: ImageResult, file: str) -> dict[str, Any]:
    """Return what the report and demo.json say of a picture."""
    facts = parse_caption(result.prompt)
    right = facts is not None and verify(np.asarray(result.image), facts).all_facts
    return {
        "section": section,
        "prompt": result.prompt,
        "seed": result.seed,
        "variant": result.variant,
        "level": result.level,
        "node": result.node,
        "steps": result.steps,
        "queued_s": round(result.queued_s, 3),
        "running_s": round(result.running_s, 3),
        "total_s": round(result.total_s, 3),
        "max_lanes": result.max_lanes,
        "file": file,
        "facts_right": right,
    }


def main() -> int:
    """Run the demo; the exit status is 0 when every picture came."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo-out"))
    parser.add_argument("--nodes", type=int, default=2)
    arguments = parser.parse_args()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)

    # SIGTERM has to pass through the cluster's exit, or its processes would stay.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    print(f"starting a coordinator and {arguments.nodes} nodes", flush=True)
    start = time.perf_counter()
    with LocalCluster(arguments.nodes) as cluster:
        ready_s = time.perf_counter() - start
        print(f"ready after {ready_s:.1f} s at {cluster.address}", flush=True)
        start = time.perf_counter()
        results = asyncio.run(generate(cluster.address))
        work_s = time.perf_counter() - start
    rows = []
    for number, (section, result) in enumerate(results):
        name = f"{number:02d}-{result.variant}-{result.steps}.png"
        result.save(out / name)
        rows.append(describe(section, result, name))
    summary = {"requests": rows, "ready_s": round(ready_s, 2), "work_s": round(work_s, 2)}
    (out / "demo.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    page = demo_report.render(rows, [r.data for _, r in results], ready_s, work_s)
    (out / "report.html").write_text(page, encoding="utf-8")
    right = sum(row["facts_right"] for row in rows)
    print(f"{len(rows)} pictures in {work_s:.1f} s, {right} show what their prompt says")
    print(f"look at {out / 'report.html'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
