"""`make bench-cache`: real pictures that continue cached states, against whole runs.

The bundled base variant, DDIM, guidance 1.5, one engine and one cache in this process. Every new
prompt is drawn whole and from its nearest neighbour's state at every K, always from the same seed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from cache_fit import findings
from cache_prompts import KINDS, NewPrompt, draw
from cache_run import VARIANT, Batch, Bench
from cache_scores import Judge, Scores, bands, by_group
from cache_sheet import SheetRow, write_sheet
from numpy.typing import NDArray

from argus.control.reuse import choose_skip
from argus.models import bundled_dir
from argus.models.levels import write_levels

Similarity = NDArray[np.float64]
SHEET_ROWS_A_KIND = 3
ALL_FACTS = "All facts right, by similarity"
FACTS = "Mean fact score, by similarity"
Tables = dict[str, list[dict[str, Any]]]


def served(
    prompts: Sequence[NewPrompt], similarity: Similarity, bench: Bench, scores: dict[int, Scores]
) -> list[dict[str, Any]]:
    """Return what the published thresholds would have done with the prompts."""
    chosen = [choose_skip(s, bench.steps, bench.ks) for s in similarity]
    histogram = Counter(chosen)
    mixed = Scores(
        *(
            np.array([getattr(scores[k], what)[i] for i, k in enumerate(chosen)])
            for what in ("all_facts", "facts", "cosine")
        )
    )
    saved = sum(chosen)
    return [
        {
            "served": "whole",
            "hit rate": 0.0,
            "mean K": 0.0,
            "steps saved %": 0.0,
            **scores[0].means(),
        }
        | {f"n at K={k}": len(prompts) if k == 0 else 0 for k in scores},
        {
            "served": "published thresholds",
            "hit rate": sum(k > 0 for k in chosen) / len(prompts),
            "mean K": saved / len(prompts),
            "steps saved %": 100 * saved / (bench.steps * len(prompts)),
            **mixed.means(),
        }
        | {f"n at K={k}": histogram[k] for k in scores},
    ]


def by_k(batches: dict[int, Batch], scores: dict[int, Scores]) -> list[dict[str, Any]]:
    """Return one row for each K that was forced on every prompt."""
    right = scores[0].all_facts > 0
    return [
        {
            "K": k,
            "n": batches[k].count,
            "wall s/image": batches[k].wall_s / batches[k].count,
            "processor s/image": batches[k].processor_s / batches[k].count,
            "processor s, relative": batches[k].processor_s / batches[0].processor_s,
            **scores[k].means(),
            "right at K=0 and still right": float(scores[k].all_facts[right].mean()),
            "states missed": batches[k].missed,
        }
        for k in batches
    ]


def with_findings(tables: Tables, steps: int, family: Path | None) -> Tables:
    """Return the tables with what did no harm, and write it beside the family's weights."""
    rows, found = findings(tables[FACTS], tables[ALL_FACTS], steps, VARIANT)
    if family:
        path = family / "reuse.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        write_levels(family)
    return {**tables, "What did no harm": rows or [{"similarity above": "none", "K": 0}]}


def throughput(bench: Bench, prompts: Sequence[str], turns: int) -> list[dict[str, Any]]:
    """Compare traffic without a hit, states kept, with the same traffic and no cache, in turns."""
    pairs = []
    for turn in range(turns):
        order = (False, True) if turn % 2 else (True, False)
        taken = {keep: bench.run(prompts, keep=keep) for keep in order}
        bench.cache.flush(60.0)
        pairs.append((taken[True], taken[False]))
    return [
        {
            "measured by": name,
            "off: images/s": len(prompts) / statistics.median(off for _, off in values),
            "on: images/s": len(prompts) / statistics.median(on for on, _ in values),
            "on / off, median of turns": statistics.median(off / on for on, off in values),
            "lowest": min(off / on for on, off in values),
            "highest": max(off / on for on, off in values),
            "turns": turns,
            "images a turn": len(prompts),
        }
        for name, values in (
            ("wall clock", [(on.wall_s, off.wall_s) for on, off in pairs]),
            ("processor", [(on.processor_s, off.processor_s) for on, off in pairs]),
        )
    ]


def sheet(
    path: Path,
    prompts: Sequence[NewPrompt],
    neighbours: Sequence[tuple[str, float, NDArray[np.uint8]]],
    batches: dict[int, Batch],
    scores: dict[int, Scores],
) -> None:
    """Draw the first prompts of each kind; none is chosen by hand."""
    rows = []
    for kind in KINDS:
        places = [i for i, prompt in enumerate(prompts) if prompt.kind == kind]
        for i in places[:SHEET_ROWS_A_KIND]:
            text, similarity, picture = neighbours[i]
            label = f"{kind}, {similarity:.3f}\n{prompts[i].text}\nfrom: {text}"
            pictures = [picture, *(batch.pixels[i] for batch in batches.values())]
            right = [None, *(bool(scores[k].all_facts[i]) for k in batches)]
            rows.append(SheetRow(label, pictures, right))
    write_sheet(path, ["neighbour", *(f"K={k}" for k in batches)], rows)


def measure(bench: Bench, arguments: argparse.Namespace) -> Tables:
    """Run everything and return the tables."""
    stock, prompts = draw(arguments.new, arguments.cached)
    texts = [prompt.text for prompt in prompts]
    filled = bench.fill(stock)
    print(f"{len(stock)} cached in {filled.wall_s:.0f} s", flush=True)
    place = {str(bench.key(text)): i for i, text in enumerate(stock)}
    found = bench.nearest(texts)
    similarity = np.array([s for _, s in found])
    judge = Judge(prompts)
    batches, scores = {}, {}
    for k in (0, *bench.ks):
        batches[k] = bench.run(texts, start=[key for key, _ in found], skip=k)
        scores[k] = judge(batches[k].pixels)
        print(f"K={k}: {batches[k].wall_s:.0f} s, {scores[k].means()}", flush=True)
    neighbours = [(stock[place[key]], s, filled.pixels[place[key]]) for key, s in found]
    sheet(arguments.out / "cache.png", prompts, neighbours, batches, scores)
    groups = bands(similarity)
    kinds = [(kind, np.array([p.kind == kind for p in prompts])) for kind in KINDS]
    return {
        "As served": served(prompts, similarity, bench, scores),
        "Each K for every prompt": by_k(batches, scores),
        ALL_FACTS: by_group(groups, scores, "all facts", "similarity"),
        FACTS: by_group(groups, scores, "mean fact score", "similarity"),
        "All facts right, by what the neighbour has in its place": by_group(
            kinds, scores, "all facts", "neighbour"
        ),
        "Throughput without a hit": throughput(bench, texts[: arguments.images], arguments.turns),
    }


def main() -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cached", type=int, default=320)
    parser.add_argument("--new", type=int, default=216)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--turns", type=int, default=8, help="of the comparison of throughput")
    parser.add_argument("--images", type=int, default=16, help="of each of those turns")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--family",
        type=Path,
        help="folder of the family's weights, whose levels.json is made anew with what was found; "
        f"the bundled family's is {bundled_dir().name}",
    )
    parser.add_argument(
        "--refit",
        action="store_true",
        help="measure nothing; find what did no harm in the tables of an earlier run in --out",
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.mkdir(parents=True, exist_ok=True)
    if arguments.refit:
        run = json.loads((arguments.out / "cache.json").read_text(encoding="utf-8"))
        tables = with_findings(run["tables"], arguments.steps, arguments.family)
        print(record.write(arguments.out, "cache", tables, run["circumstances"]))
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.steps)
        try:
            tables = measure(bench, arguments)
        finally:
            bench.close()
    tables = with_findings(tables, arguments.steps, arguments.family)
    print(record.write(arguments.out, "cache", tables))


if __name__ == "__main__":
    main()
