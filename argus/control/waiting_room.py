"""Who waits, for all that must know: the line, the turns of tenants, what pictures are worth."""

from __future__ import annotations

from argus.control.line import Waiting, WaitingLine
from argus.control.policy import Task
from argus.control.pricing import Pricing
from argus.control.turns import Turns


class WaitingRoom:
    """Keeps them in step.

    Args:
        line: by due time.
        turns: by tenant.
        pricing: by what they would choose.
    """

    def __init__(self, line: WaitingLine, turns: Turns, pricing: Pricing) -> None:
        self._line = line
        self._turns = turns
        self._pricing = pricing
        self._entries: dict[str, Waiting] = {}

    def __getitem__(self, task: Task) -> Waiting:
        return self._entries[task.id]

    def add(self, entry: Waiting) -> None:
        """Let a task wait."""
        self._line.add(entry)
        self._turns.add(entry)
        self._entries[entry.task.id] = entry
        self._pricing.wait(entry.choices)

    def remove(self, entry: Waiting) -> None:
        """Note that a task waits no more."""
        self.set_aside(entry)
        self.settle(entry)

    def set_aside(self, entry: Waiting) -> None:
        """Take out a task that may be added again; until `settle` its tenant keeps its turn."""
        self._line.remove(entry)
        self._turns.set_aside(entry)
        del self._entries[entry.task.id]
        self._pricing.leave(entry.choices)

    def settle(self, entry: Waiting) -> None:
        """Note that a task that was set aside is not added again."""
        self._turns.settle(entry.task.tenant)

    def replace(self, entry: Waiting, new: Waiting) -> None:
        """Put another entry in the place of one of the same task."""
        self.set_aside(entry)
        self.add(new)
