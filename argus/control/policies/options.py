"""What may be set of every policy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from argus.control.fairness import Share, equal_shares
from argus.control.offers import Offer
from argus.errors import InvalidArgumentError

Recalibrator = Callable[[Sequence[Offer]], Sequence[float]]


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """Settings that the policies share; None stands for the policy's own default.

    Attributes:
        period_s: seconds between two plans.
        headroom: demand that is planned for, relative to the demand expected.
        shed: whether what cannot be on time any more is dropped instead of being made late.
        seed: of what the policy draws by lot.
        recalibrate: from what a request may become to the expected quality of each; None:
            predictions are taken as they are.
        share_of: what each tenant is due; the re-implemented systems know no tenants.
    """

    period_s: float | None = None
    headroom: float | None = None
    shed: bool = True
    seed: int = 0
    recalibrate: Recalibrator | None = None
    share_of: Callable[[str], Share] = equal_shares

    def __post_init__(self) -> None:
        for name, value in (("period_s", self.period_s), ("headroom", self.headroom)):
            if value is not None and not value > 0:
                raise InvalidArgumentError(name, f"must be above 0, not {value}")

    def period(self, default_s: float) -> float:
        """Return the seconds between two plans, or the policy's own."""
        return default_s if self.period_s is None else self.period_s

    def planned(self, default: float) -> float:
        """Return the demand planned for relative to that expected, or the policy's own."""
        return default if self.headroom is None else self.headroom
