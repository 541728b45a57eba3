"""Spans of time as people write them: 90s, 30m, 12h, 7d."""

from __future__ import annotations

import re

from argus.errors import InvalidArgumentError

SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_AGE = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", re.ASCII)


def seconds_of(age: str, flag: str) -> float:
    """Return the seconds of a span.

    Raises:
        InvalidArgumentError: it is not one; names `flag`.
    """
    match = _AGE.fullmatch(age)
    if match is None:
        raise InvalidArgumentError(flag, f"must be like 90s, 30m, 12h or 7d, not {age!r}")
    return float(match[1]) * SECONDS[match[2]]
