"""Which similarity makes which K harmless, from the tables that `bench/cache.py` measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from cache_scores import BANDS, band_name

from argus.control.reuse import CHECKPOINT_FRACTIONS, checkpoint_steps

Rows = Sequence[Mapping[str, Any]]
HARMLESS = 0.05
"""Loss of the share of prompts with every fact right above which a pool was harmed. About the
standard error of such a share over FEWEST pairs: less cannot be told from chance."""
FEWEST = 24
"""Pairs that are judged together at least; bands with fewer are pooled with those below."""
FEWEST_FOR_A_LEVEL = 30
"""Pairs that a level's quality is at least measured on."""


def fit(all_facts: Rows, ks: Sequence[int]) -> list[tuple[float, int]]:
    """Return (similarity, K): above the first the second did no harm, both ascending.

    For each K the pools are gone through from the most similar down, until one in which more than
    HARMLESS was lost against K = 0; its upper edge is the threshold. A larger K has no lower
    threshold than a smaller one, whatever the noise says, and of several with the same only the
    largest is returned.

    Args:
        all_facts: share of prompts with every fact right by band of similarity, with the pairs.
        ks: that were measured, ascending.
    """
    pooled = list(pools(all_facts))
    found: list[tuple[float, int]] = []
    least = 0.0
    for k in ks:
        least = max(least, _lowest(pooled, k))
        if least > 1.0:
            break
        if found and found[-1][0] == least:
            found.pop()
        found.append((least, k))
    return found


def pools(rows: Rows) -> Iterator[tuple[float, Rows]]:
    """Yield lower edge and bands of pools of at least FEWEST pairs, the most similar first.

    What is left at the end, with fewer pairs, says nothing and is left out.
    """
    by_name = {row["similarity"]: row for row in rows}
    pool: list[Mapping[str, Any]] = []
    for low, high in reversed(list(pairwise(BANDS))):
        row = by_name.get(band_name(low, high))
        if row is not None:
            pool.append(row)
        if sum(row["n"] for row in pool) >= FEWEST:
            yield low, pool
            pool = []


def _lowest(pooled: Sequence[tuple[float, Rows]], k: int) -> float:
    """Return the similarity above which no pool was harmed; above 1: every one was."""
    lowest = BANDS[-1]
    for low, rows in pooled:
        pairs = sum(row["n"] for row in rows)
        lost = sum(row["n"] * (row["K=0"] - row[f"K={k}"]) for row in rows) / pairs
        if lost > HARMLESS:
            break
        lowest = max(low, 0.01)
    return lowest


def findings(
    facts: Rows, all_facts: Rows, steps: int, variant: str
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return what did no harm: as a table, and as the family's reuse.json.

    The quality of a level is the share of prompts with every fact right, relative to K = 0, over
    the pairs that are near enough for it.
    """
    ks = checkpoint_steps(steps)
    fraction_of = dict(zip(ks, CHECKPOINT_FRACTIONS, strict=True))
    rows = []
    for threshold, k in fit(all_facts, ks):
        near = {band_name(low, high) for low, high in pairwise(BANDS) if low >= threshold - 1e-9}
        pairs = sum(row["n"] for row in all_facts if row["similarity"] in near)
        whole, reused = (_mean(all_facts, near, f"K={j}") for j in (0, k))
        rows.append(
            {
                "similarity above": threshold,
                "K": k,
                "n": pairs,
                "all facts, K=0": whole,
                "all facts": reused,
                "mean fact score, K=0": _mean(facts, near, "K=0"),
                "mean fact score": _mean(facts, near, f"K={k}"),
            }
        )
    levels = [
        {
            "skip_fraction": fraction_of[row["K"]],
            "quality": round(min(1.0, row["all facts"] / row["all facts, K=0"]), 4),
            "pairs": row["n"],
            "above": row["similarity above"],
        }
        for row in rows
        if row["n"] >= FEWEST_FOR_A_LEVEL
    ]
    family = {
        "variant": variant,
        "steps": steps,
        "prompts": sum(row["n"] for row in facts),
        "similarities": [level["above"] for level in levels],
        "fractions": [level["skip_fraction"] for level in levels],
        "levels": levels,
    }
    return rows, family


def _mean(rows: Rows, names: set[str], column: str) -> float:
    chosen = [row for row in rows if row["similarity"] in names]
    return float(sum(row["n"] * row[column] for row in chosen) / sum(row["n"] for row in chosen))
