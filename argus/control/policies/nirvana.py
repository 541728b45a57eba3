"""NIRVANA (Agarwal et al., NSDI 2024): steps are skipped by similarity alone, whatever the load.

The nearest cached prompt decides: the nearer it is, the more steps its state stands for, by the
published thresholds (`argus.control.reuse.PUBLISHED`); a prompt without a near one runs in full.
What it stores and evicts is not modelled here: the similarity given is to what is stored.
"""

from __future__ import annotations

from argus.control.policies.early import EarlyPolicy
from argus.control.policies.options import PolicyOptions
from argus.control.policy import Task
from argus.control.reuse import PUBLISHED


class NirvanaPolicy(EarlyPolicy):
    """See the module's text."""

    def level(self, task: Task, node: str) -> int:
        """Return the rank of the level that skips the most steps of those that are allowed."""
        allowed = 0.0 if task.similarity is None else PUBLISHED(task.similarity)
        whole = task.offers[0].level
        same = [
            offer.level
            for offer in task.offers
            if (offer.level.variant, offer.level.steps_fraction)
            == (whole.variant, whole.steps_fraction)
            and offer.level.skip_fraction <= allowed + 1e-9
        ]
        best = max(same, key=lambda level: level.skip_fraction, default=whole)
        return self.seen.rank(best.name)


def make_nirvana(options: PolicyOptions) -> NirvanaPolicy:
    """Return NIRVANA's rule."""
    return NirvanaPolicy(options)
