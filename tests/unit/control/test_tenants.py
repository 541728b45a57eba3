"""Terms of tenants are read with their defaults; what is wrong is named."""

from __future__ import annotations

import pytest

from argus.control.tenants import Tenants, TenantTerms, parse_tenants
from argus.errors import ConfigError

FILE = """
[default]
rate_per_s = 5
max_pixels = 1_048_576

[tenants.acme]
weight = 2
priority = 1
rate_per_s = 50.0
burst = 100
concurrency = 64
pixels_per_s = 2e7
max_prompt_chars = 500

[tenants."a.b-c"]
"""


def test_a_table_is_laid_over_the_default() -> None:
    tenants = parse_tenants(FILE, "t.toml")
    default = TenantTerms(rate_per_s=5.0, max_pixels=1_048_576)
    assert tenants.terms("nobody") == tenants.terms("") == tenants.terms("a.b-c") == default
    assert tenants.terms("acme") == TenantTerms(
        weight=2.0,
        priority=1,
        rate_per_s=50.0,
        burst=100.0,
        concurrency=64,
        pixels_per_s=2e7,
        max_pixels=1_048_576,
        max_prompt_chars=500,
    )
    assert parse_tenants("", "t.toml") == Tenants()


def test_bursts_follow_from_the_rates_unless_they_are_set() -> None:
    terms = parse_tenants("[default]\nrate_per_s = 0.5\npixels_per_s = 7", "t").terms("")
    assert (terms.burst_requests, terms.pixels_at_once) == (1.0, 70.0)
    assert parse_tenants(FILE, "t").terms("acme").burst_requests == 100.0


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[default", "t.toml: not TOML"),
        ("[defaults]", "defaults: unknown field.*'default'"),
        ("tenants = 3", "tenants: tables"),
        ("default = 3", "default: an object"),
        ("[tenants]\nacme = 3", "tenants.acme: an object"),
        ("[tenants.'a b']", "1 to 64 characters"),
        ("[tenants.x]\nrate = 1", "tenants.x.rate: unknown field"),
        ("[default]\nweight = 0", "default.weight: must be above 0"),
        ("[default]\nweight = 1e-9", "default.weight: must be at least 0.001"),
        ("[default]\nweight = 1e9", "at most 1000"),
        ("[default]\nrate_per_s = inf", "rate_per_s"),
        ("[default]\nrate_per_s = nan", "rate_per_s"),
        ("[default]\nburst = 0.5", "burst: must be at least 1"),
        ("[default]\nconcurrency = 0", "concurrency: must be a whole number of at least 1"),
        ("[default]\nconcurrency = true", "concurrency"),
        ("[default]\npriority = 11", "priority: must be at most 10"),
        ("[default]\nmax_prompt_chars = 4001", "at most 4,000"),
    ],
)
def test_what_is_wrong_is_named(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        parse_tenants(text, "t.toml")
