"""What a coordinator has learned and must not forget when it ends or another one takes over."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from argus.clock import Clock
from argus.control.limits import TenantLimits
from argus.control.policy import Lasting, Policy
from argus.coordinator.membership import Membership
from argus.coordinator.parts import Parts
from argus.errors import UnavailableError

log = logging.getLogger(__name__)

VERSION = 1
SAVE_S = 2.0
"""Between two savings; so much is forgotten at worst."""
NODES_FRESH_S = 60.0
"""Nodes of so long ago have given up their rows, or joined elsewhere."""

_SENSELESS = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)
"""What comes of taking up a state that makes no sense."""
Save = Callable[[str], Awaitable[None]]


class Keeping:
    """Puts together what is to be kept, and applies what was.

    Args:
        clock: of the accounts.
        membership: the nodes, which the next coordinator waits for.
        limits: accounts of the tenants.
        policy: what it has learned, if it can say so.
        name: of the policy.
    """

    def __init__(
        self, clock: Clock, membership: Membership, limits: TenantLimits, policy: Policy, name: str
    ) -> None:
        self._clock = clock
        self._membership = membership
        self._limits = limits
        self._policy = policy
        self._name = name
        self._parts = Parts(clock)

    def state(self) -> str:
        """Return everything as JSON."""
        now_s = self._clock.now()
        state: dict[str, Any] = {
            "version": VERSION,
            "nodes": [member.name for member in self._membership.members],
            "limits": self._limits.state(now_s),
            "limits_left": self._limits.state_left(now_s),
        }
        if isinstance(self._policy, Lasting):
            state["policy"] = {"name": self._name, "state": self._policy.state(now_s)}
        return json.dumps(state)

    def restore(self, text: str, age_s: float) -> tuple[str, ...]:
        """Go on with what another coordinator left; return the nodes that may have its rows.

        What makes no sense here is not taken, and the log says so.

        Args:
            text: what `state` returned there; empty: nothing.
            age_s: seconds since.
        """
        if not text:
            return ()
        at_s = self._clock.now() - age_s
        nodes: tuple[str, ...] = ()
        try:
            state = json.loads(text)
            if state["version"] != VERSION:
                raise ValueError(f"version {state['version']}, not {VERSION}")
            nodes = tuple(str(name) for name in state["nodes"])
            self._limits.restore(state["limits"], at_s, state.get("limits_left"))
            learned = state.get("policy")
            if learned and isinstance(self._policy, Lasting) and learned["name"] == self._name:
                self._policy.restore(learned["state"], at_s)
        except _SENSELESS as error:
            log.warning("what another coordinator left is not taken whole: %r", error)
        return nodes if age_s <= NODES_FRESH_S else ()

    async def save_always(self, save: Save) -> None:
        """Save from time to time, for ever; what cannot be saved costs only that."""
        while True:
            await asyncio.sleep(SAVE_S)
            with self._parts.part("saving what was learned"):
                await self.save(save)

    async def save(self, save: Save) -> None:
        """Save now."""
        try:
            await save(self.state())
        except (UnavailableError, OSError) as error:
            log.warning("what was learned is not saved: %s", error)


class StateFile:
    """Keeps it in a file, where no other coordinator stands by."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> tuple[str, float]:
        """Return what was saved and its age in seconds; empty where nothing was."""
        try:
            age_s = time.time() - self._path.stat().st_mtime
            return self._path.read_text(encoding="utf-8"), max(0.0, age_s)
        except FileNotFoundError:
            return "", 0.0
        except (OSError, UnicodeDecodeError) as error:
            log.warning("coordinator.state_file: %s is not read: %s", self._path, error)
            return "", 0.0

    async def save(self, state: str) -> None:
        """Replace it as a whole.

        Raises:
            OSError: it cannot be written.
        """
        await asyncio.to_thread(self._write, state)

    def _write(self, state: str) -> None:
        fresh = self._path.with_name(f"{self._path.name}.new")
        fresh.write_text(state, encoding="utf-8")
        os.replace(fresh, self._path)
