"""The clocks: what deadlines are measured with, and how far apart two machines' are."""

from __future__ import annotations

import time

from argus.doctor.findings import Finding, good, warning

CHECK = "clock"
COARSE_S = 1e-3
"""Leases and deadlines are fractions of a second."""
SKEW_S = 1.0
"""Keys expire by the wall clock, and logs of two machines are read side by side by it."""


def check_monotonic() -> Finding:
    """Check the clock that all durations are measured with."""
    clock = time.get_clock_info("monotonic")
    said = f"monotonic in steps of {clock.resolution:g} s ({clock.implementation})"
    facts = {"resolution_s": clock.resolution, "adjustable": clock.adjustable}
    if clock.resolution > COARSE_S:
        return warning(CHECK, said, "deadlines below a tenth of a second will be missed", **facts)
    return good(CHECK, said, **facts)


def check_skew(sent_unix_s: float, received_unix_s: float, there_unix_s: float) -> Finding:
    """Compare the clock here with a coordinator's, which lies within the time of one call.

    Args:
        sent_unix_s: when it was asked, by the clock here.
        received_unix_s: when its answer came, by the clock here.
        there_unix_s: its time when it answered; 0: it is too old to tell.
    """
    if not there_unix_s:
        return good(CHECK, "the coordinator does not tell its time; it is an older version")
    # What the call took may have passed on either way.
    doubt_s = (received_unix_s - sent_unix_s) / 2
    skew_s = there_unix_s - (sent_unix_s + received_unix_s) / 2
    facts = {"skew_s": round(skew_s, 4), "doubt_s": round(doubt_s, 4)}
    ahead = "ahead of" if skew_s > 0 else "behind"
    said = f"the coordinator's is {abs(skew_s):.3f} s {ahead} this one, within {doubt_s:.3f} s"
    if abs(skew_s) - doubt_s > SKEW_S:
        return warning(CHECK, said, "have both machines keep time by NTP", **facts)
    return good(CHECK, said, **facts)
