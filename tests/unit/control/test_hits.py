"""States that are not there: believed after a few misses, tried again, trusted again."""

from __future__ import annotations

import pytest

from argus.control.hits import StateHits


def test_a_miss_now_and_then_is_a_cost_and_no_outage() -> None:
    hits = StateHits()
    for i in range(400):
        hits.note(i % 10 != 0)
        assert hits.trusted
    assert hits.chance == pytest.approx(0.9, abs=0.03)


def test_an_outage_is_believed_after_a_few_misses() -> None:
    hits = StateHits()
    misses = 0
    while hits.trusted:
        hits.note(False)
        misses += 1
    assert 3 <= misses <= 8


def test_while_out_one_request_tries_now_and_then() -> None:
    hits = StateHits()
    assert all(hits.may_try(0.0) for _ in range(5))
    for _ in range(20):
        hits.note(False)
    tries = [t / 10 for t in range(100, 200) if hits.may_try(t / 10)]
    assert 4 <= len(tries) <= 6
    hits.note(True)
    hits.note(False)
    assert not hits.trusted
    hits.note(True)
    hits.note(True)
    assert hits.trusted
    assert hits.may_try(20.0)
    hits.note(False)
    assert hits.trusted, "what was found again is not given up at the first miss"
