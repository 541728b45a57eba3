"""How much of a machine's processors a process takes when others want them too."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LOWEST = 19
"""The highest niceness there is."""
AUTOGROUP = Path("/proc/self/autogroup")
"""Linux shares processors out by sessions where this exists, and a process's own niceness counts
only within its session: see sched(7)."""


def give_way(niceness: int) -> None:
    """Let other processes have processors before this one and the children it will start.

    A session that others belong to is left as it is: whoever started it gives way, or does not.

    Args:
        niceness: is added to this process's own, 0 to LOWEST; 0 changes nothing.
    """
    if not niceness:
        return
    own = os.nice(niceness)
    if os.getsid(0) == os.getpid():
        # Where there are no such groups, or the system does not want to, the niceness must do.
        with contextlib.suppress(OSError):
            AUTOGROUP.write_text(str(own), encoding="ascii")
