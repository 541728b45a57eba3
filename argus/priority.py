"""How much of a machine's processors a process takes when others want them too."""

from __future__ import annotations

import logging
import os
import random
import time
from pathlib import Path

LOWEST = 19
"""The highest niceness there is."""
log = logging.getLogger(__name__)

ATTEMPTS = 30
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
        _set_group(own)


def _set_group(niceness: int) -> None:
    """Give this session a niceness, where the system knows of such a thing."""
    for _ in range(ATTEMPTS):
        try:
            AUTOGROUP.write_text(str(niceness), encoding="ascii")
        except BlockingIOError:
            # Of all users but root the system takes one such wish in a tenth of a second.
            time.sleep(random.uniform(0.05, 0.15))
        except OSError as error:
            log.debug("the niceness counts within the session only: %s", error)
            return
        else:
            return
    log.warning("the niceness counts within the session only: too many asked for theirs")
