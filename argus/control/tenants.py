"""What each tenant is worth and may do: shares of the cluster, and limits."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from argus.control.fairness import Share
from argus.control.fields import Fields
from argus.errors import ConfigError
from argus.types import MAX_PROMPT_CHARS, MAX_STEPS

NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MIN_WEIGHT, MAX_WEIGHT = 1e-3, 1e3
MAX_PRIORITY = 10
DEFAULT = "default"
BURST_S = 1.0
"""Of its average, what a tenant may ask for at once after a pause, unless it is set."""
PIXEL_BURST_S = 10.0
"""The same of pixels: requests differ in them, and the largest must have a chance."""


@dataclass(frozen=True, slots=True)
class TenantTerms:
    """What one tenant is worth and may do; None: no limit.

    Attributes:
        weight: share of the cluster, relative to other tenants that want something, 0.001 to 1,000.
        priority: 0 to 10; how far its requests go ahead of those of equal share (control/fairness).
        rate_per_s: requests a second, on average.
        burst: requests that may come at once after a pause; None: a second's worth, at least 1.
        concurrency: requests in flight at once.
        pixels_per_s: pixels asked for a second, on average.
        burst_pixels: pixels at once after a pause; None: ten seconds' worth.
        max_pixels: of one picture.
        max_prompt_chars: of a prompt, and of a negative one.
        max_steps: of one request.
    """

    weight: float = 1.0
    priority: int = 0
    rate_per_s: float | None = None
    burst: float | None = None
    concurrency: int | None = None
    pixels_per_s: float | None = None
    burst_pixels: float | None = None
    max_pixels: int | None = None
    max_prompt_chars: int | None = None
    max_steps: int | None = None

    @property
    def burst_requests(self) -> float:
        """Requests that may come at once; infinite without a rate."""
        if self.rate_per_s is None:
            return math.inf
        return max(1.0, BURST_S * self.rate_per_s) if self.burst is None else self.burst

    @property
    def pixels_at_once(self) -> float:
        """Pixels that may be asked for at once; infinite without a rate of them."""
        if self.pixels_per_s is None:
            return math.inf
        return PIXEL_BURST_S * self.pixels_per_s if self.burst_pixels is None else self.burst_pixels


@dataclass(frozen=True, slots=True)
class Tenants:
    """The terms of every tenant: of those with a name of their own, and of all others."""

    default: TenantTerms = TenantTerms()
    named: Mapping[str, TenantTerms] = field(default_factory=dict)

    def terms(self, tenant: str) -> TenantTerms:
        """Return the terms of a tenant."""
        return self.named.get(tenant, self.default)

    def share(self, tenant: str) -> Share:
        """Return what a tenant is due when others want something, too."""
        terms = self.terms(tenant)
        return Share(terms.weight, terms.priority)


_NAMES = tuple(f.name for f in dataclasses.fields(TenantTerms))


def parse_tenants(text: str, source: str) -> Tenants:
    """Return what a file of tenants says.

    `[default]` holds for tenants without a table of their own, and for what the table
    `[tenants.NAME]` of another leaves out.

    Args:
        text: TOML.
        source: what to call the file in messages.

    Raises:
        ConfigError: names the source and the field that is wrong.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{source}: not TOML: {error}") from error
    top = Fields(source, "", data, (DEFAULT, "tenants"))
    default = TenantTerms()
    if DEFAULT in data:
        default = _terms(top.inner(DEFAULT, _NAMES), data[DEFAULT], default)
    tables = data.get("tenants", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{source}: tenants: tables [tenants.NAME] are needed")
    named = {}
    for name in tables:
        if not NAME.fullmatch(name):
            raise ConfigError(
                f"{source}: tenants: a name has 1 to 64 characters of [A-Za-z0-9._-], not {name!r}"
            )
        inner = top.inner("tenants", tuple(tables)).inner(name, _NAMES)
        named[name] = _terms(inner, tables[name], default)
    return Tenants(default, named)


def _terms(fields: Fields, given: Mapping[str, Any], default: TenantTerms) -> TenantTerms:
    """Return the default terms with those that are given in their place."""
    read: dict[str, Callable[[], float]] = {
        "weight": lambda: _at_least(fields, "weight", MIN_WEIGHT, MAX_WEIGHT),
        "priority": lambda: _at_most(fields, "priority", 0, MAX_PRIORITY),
        "rate_per_s": lambda: fields.number("rate_per_s"),
        "burst": lambda: _at_least(fields, "burst", 1),
        "concurrency": lambda: fields.whole("concurrency"),
        "pixels_per_s": lambda: fields.number("pixels_per_s"),
        "burst_pixels": lambda: _at_least(fields, "burst_pixels", 1),
        "max_pixels": lambda: fields.whole("max_pixels"),
        "max_prompt_chars": lambda: _at_most(fields, "max_prompt_chars", 1, MAX_PROMPT_CHARS),
        "max_steps": lambda: _at_most(fields, "max_steps", 1, MAX_STEPS),
    }
    changes: dict[str, Any] = {name: read[name]() for name in given}
    return dataclasses.replace(default, **changes)


def _at_most(fields: Fields, name: str, least: int, most: int) -> int:
    value = fields.whole(name, least)
    if value > most:
        raise ConfigError(f"{fields.at(name)}: must be at most {most:,}, not {value:,}")
    return value


def _at_least(fields: Fields, name: str, least: float, most: float = math.inf) -> float:
    value = fields.number(name, most)
    if value < least:
        raise ConfigError(f"{fields.at(name)}: must be at least {least:g}, not {value:g}")
    return value
