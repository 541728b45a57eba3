"""What a check found, and what to do about it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Verdict(enum.Enum):
    """How it stands."""

    OK = "ok"
    WARNING = "warning"
    """It works, but not as well or as safely as it could."""
    FAILED = "failed"
    """Something that was asked for will not work."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        check: what was looked at, a word.
        verdict: how it stands.
        message: what was found, one line.
        remedy: what to do about it; empty where nothing is to be done.
        facts: the same for scripts; values that JSON has.
    """

    check: str
    verdict: Verdict
    message: str
    remedy: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


def good(check: str, message: str, **facts: Any) -> Finding:
    """Return what is as it should be."""
    return Finding(check, Verdict.OK, message, "", facts)


def warning(check: str, message: str, remedy: str, **facts: Any) -> Finding:
    """Return what could be better."""
    return Finding(check, Verdict.WARNING, message, remedy, facts)


def failed(check: str, message: str, remedy: str, **facts: Any) -> Finding:
    """Return what will not work."""
    return Finding(check, Verdict.FAILED, message, remedy, facts)


def size(nbytes: float) -> str:
    """Return bytes as people read them."""
    unit = 0
    while nbytes >= 1024 and unit + 1 < len(_UNITS):
        nbytes, unit = nbytes / 1024, unit + 1
    return f"{nbytes:.3g} {_UNITS[unit]}" if nbytes < 1000 else f"{nbytes:.0f} {_UNITS[unit]}"
