"""What `make bench-cache` makes of its tables."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from cache_fit import FEWEST, HARMLESS, findings, fit, pools
from cache_prompts import KINDS, draw
from cache_scores import BANDS, band_name

from argus.cache.keys import normalise_prompt
from argus.models.captions import parse_caption

NAMES = [band_name(low, high) for low, high in pairwise(BANDS)]
KS = (5, 10, 15, 20, 25)


def rows(harmed: dict[int, set[int]], n: int = FEWEST, score: float = 0.5) -> list[dict[str, Any]]:
    """Return a table in which each K harms the bands of those numbers, counted from the last."""
    return [
        {"similarity": name, "n": n, "K=0": score}
        | {f"K={k}": score - (2 * HARMLESS) * (place in harmed.get(k, ())) for k in KS}
        for place, name in enumerate(reversed(NAMES))
    ]


def test_a_threshold_is_above_the_first_band_that_was_harmed() -> None:
    harmed = {5: {9}, 10: {4, 7}, 15: {3}, 20: {1, 2}, 25: set(range(12))}
    below = [low for low, _ in reversed(list(pairwise(BANDS)))]
    assert fit(rows(harmed), KS) == [
        (below[8], 5), (below[3], 10), (below[2], 15), (below[0], 20),
    ]  # fmt: skip


def test_a_larger_k_is_never_thought_safer_than_a_smaller_one() -> None:
    assert fit(rows({5: {1}, 10: {5}}), (5, 10)) == [(BANDS[-2], 10)]


def test_bands_with_few_pairs_are_judged_together() -> None:
    thirds = rows({5: {1}}, n=FEWEST // 3)
    pooled = list(pools(thirds))
    assert [len(bands) for _, bands in pooled] == [3] * (len(NAMES) // 3)
    # Two thirds of what is too much in one band is a third of that over three.
    assert fit(thirds, (5,))[0][0] < BANDS[-4]
    assert fit(rows({5: {0, 1, 2}}, n=FEWEST // 3), (5,)) == []
    assert fit(rows({}, n=1), KS) == []


def test_a_levels_quality_is_measured_where_the_level_may_be_used() -> None:
    right = rows({5: {3}, 10: {3}, 15: {0}})
    table, family = findings(rows({}), right, 50, "v")
    assert [(row["similarity above"], row["K"], row["n"]) for row in table] == [
        (BANDS[-4], 10, 3 * FEWEST)
    ]
    (level,) = family["levels"]
    assert (level["skip_fraction"], level["pairs"], level["quality"]) == (0.2, 3 * FEWEST, 1.0)
    assert (family["similarities"], family["fractions"]) == ([BANDS[-4]], [0.2])
    assert family["prompts"] == FEWEST * len(NAMES)


@pytest.fixture(scope="module")
def drawn() -> Any:
    return draw(45, 80)


def test_prompts_are_as_many_as_asked_for_and_none_is_repeated(drawn: Any) -> None:
    stock, prompts = drawn
    assert (len(stock), len(prompts)) == (80, 45)
    texts = {normalise_prompt(prompt.text) for prompt in prompts}
    assert len(texts) == 45
    assert not texts & {normalise_prompt(text) for text in stock}
    assert {prompt.kind for prompt in prompts} == set(KINDS)


def test_every_prompt_says_what_it_is_judged_by(drawn: Any) -> None:
    stock, prompts = drawn
    for prompt in prompts:
        read = parse_caption(prompt.text)
        assert read is not None
        assert read.in_reading_order() == prompt.facts.in_reading_order()
    assert all(parse_caption(text) is not None for text in stock)
