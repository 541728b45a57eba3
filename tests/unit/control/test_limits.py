"""Rates hold on average, refusals name the limit, and the retry time they give is true."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus.control.limits import SHORTEST_WAIT_S, TIDY_AT, TenantLimits, check_terms
from argus.control.tenants import TenantTerms
from argus.errors import InvalidArgumentError, QuotaError


def tries(limits: TenantLimits, terms: TenantTerms, now_s: float, pixels: int = 0) -> str:
    """Return the limit that refuses a request that ends at once, or nothing."""
    try:
        limits.leave(limits.enter("t", terms, pixels, now_s), now_s)
    except QuotaError as error:
        return error.limit
    return ""


@given(
    st.floats(0.1, 100.0), st.floats(1.0, 50.0), st.lists(st.floats(0.0, 2.0), max_size=60)
)  # fmt: skip
@settings(max_examples=50, deadline=None)
def test_no_span_of_time_has_more_requests_than_rate_and_burst_allow(
    rate: float, burst: float, gaps: list[float]
) -> None:
    limits, terms = TenantLimits(), TenantTerms(rate_per_s=rate, burst=burst)
    now_s, let_in = 0.0, []
    for gap in gaps:
        now_s += gap
        if not tries(limits, terms, now_s):
            let_in.append(now_s)
    for i, start_s in enumerate(let_in):
        for j in range(i, len(let_in)):
            assert j - i + 1 <= burst + rate * (let_in[j] - start_s) + 1e-6


@given(st.floats(0.1, 100.0), st.floats(1.0, 20.0), st.floats(0.0, 5.0))
def test_one_who_waits_as_long_as_told_is_let_in_and_not_much_sooner(
    rate: float, burst: float, gap: float
) -> None:
    limits, terms = TenantLimits(), TenantTerms(rate_per_s=rate, burst=burst)
    now_s = 0.0
    while not tries(limits, terms, now_s):
        pass
    now_s += gap / rate / 10
    while not tries(limits, terms, now_s):
        pass
    with pytest.raises(QuotaError) as caught:
        limits.enter("t", terms, 0, now_s)
    wait_s = caught.value.retry_after_s
    if wait_s > SHORTEST_WAIT_S:
        assert tries(limits, terms, now_s + 0.99 * wait_s) == "rate_per_s"
    assert tries(limits, terms, now_s + wait_s + 1e-9) == ""


def test_requests_at_once_are_counted_until_they_end() -> None:
    limits, terms = TenantLimits(), TenantTerms(concurrency=2)
    first, _ = (limits.enter("a", terms, 0, 0.0) for _ in range(2))
    with pytest.raises(QuotaError, match="'a' is at the limit concurrency of 2") as caught:
        limits.enter("a", terms, 0, 1.0)
    assert (caught.value.limit, caught.value.tenant) == ("concurrency", "a")
    limits.leave(limits.enter("b", terms, 0, 1.0), 1.0)
    limits.leave(first, 4.0)
    limits.enter("a", terms, 0, 4.0)
    assert limits.in_flight("a") == 2


def test_pixels_are_let_in_on_average_and_a_picture_larger_than_the_burst_when_it_is_full() -> None:
    limits = TenantLimits()
    terms = TenantTerms(pixels_per_s=100.0, burst_pixels=1000)
    assert tries(limits, terms, 0.0, 3000) == ""
    assert tries(limits, terms, 29.9, 3000) == "pixels_per_s"
    assert tries(limits, terms, 30.0, 1000) == ""
    assert tries(limits, terms, 30.1, 1) == ""
    assert tries(limits, terms, 30.1, 100) == "pixels_per_s"


def test_what_one_limit_refuses_takes_nothing_from_the_other() -> None:
    limits = TenantLimits()
    terms = TenantTerms(rate_per_s=1.0, burst=2, pixels_per_s=10.0, burst_pixels=100)
    assert tries(limits, terms, 0.0, 100) == ""
    for _ in range(5):
        assert tries(limits, terms, 0.0, 50) == "pixels_per_s"
    assert tries(limits, terms, 0.0, 0) == ""
    assert tries(limits, terms, 0.0, 0) == "rate_per_s"


def test_asking_again_for_the_same_costs_nothing() -> None:
    limits, terms = TenantLimits(), TenantTerms(rate_per_s=0.001, concurrency=2)
    limits.enter("a", terms, 9, 0.0)
    again = limits.enter("a", terms, 9, 0.0, again=True)
    with pytest.raises(QuotaError):
        limits.enter("a", terms, 9, 0.0, again=True)
    limits.leave(again, 0.0)


def test_new_terms_hold_at_once_and_what_is_in_flight_stays_counted() -> None:
    limits = TenantLimits()
    limits.enter("a", TenantTerms(), 0, 0.0)
    with pytest.raises(QuotaError):
        limits.enter("a", TenantTerms(concurrency=1), 0, 0.0)


def test_made_up_names_do_not_fill_the_memory() -> None:
    limits, terms = TenantLimits(), TenantTerms(rate_per_s=10.0)
    for i in range(4 * TIDY_AT):
        limits.leave(limits.enter(f"name-{i}", terms, 0, float(i)), float(i))
    assert len(limits) <= TIDY_AT


@pytest.mark.parametrize(
    ("terms", "field", "limit"),
    [
        (TenantTerms(max_pixels=99), "width", "max_pixels"),
        (TenantTerms(max_prompt_chars=4), "prompt", "max_prompt_chars"),
        (TenantTerms(max_prompt_chars=5), "negative_prompt", "max_prompt_chars"),
        (TenantTerms(max_steps=9), "steps", "max_steps"),
    ],
)
def test_what_no_waiting_mends_is_a_bad_field(terms: TenantTerms, field: str, limit: str) -> None:
    prompts = {"prompt": "abcde", "negative_prompt": "abcdef"}
    check_terms(TenantTerms(), prompts, 100, 10)
    with pytest.raises(InvalidArgumentError, match=limit) as caught:
        check_terms(terms, prompts, 100, 10)
    assert caught.value.field == field


def test_without_limits_everything_is_let_in() -> None:
    limits = TenantLimits()
    assert TenantTerms().burst_requests == math.inf
    assert [tries(limits, TenantTerms(), 0.0, 10**12) for _ in range(100)] == [""] * 100
