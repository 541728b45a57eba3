"""Policies by name: Argus's own, and the published systems that it is compared with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from argus.control.policy import Policy
from argus.errors import InvalidArgumentError, NotFoundError


@dataclass(frozen=True, slots=True)
class PolicyOptions:
    """What may be set of every policy; None stands for the policy's own default.

    Attributes:
        period_s: seconds between two plans.
        headroom: demand that is planned for, relative to the demand expected.
        shed: whether what cannot be on time any more is dropped instead of being made late.
        seed: of what the policy draws by lot.
    """

    period_s: float | None = None
    headroom: float | None = None
    shed: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in (("period_s", self.period_s), ("headroom", self.headroom)):
            if value is not None and not value > 0:
                raise InvalidArgumentError(name, f"must be above 0, not {value}")


Maker = Callable[[PolicyOptions], Policy]
_MAKERS: dict[str, Maker] = {}


def names() -> tuple[str, ...]:
    """Return the names of all policies."""
    return tuple(_MAKERS)


def make(name: str, options: PolicyOptions = PolicyOptions()) -> Policy:
    """Return a new policy.

    Raises:
        NotFoundError: there is none of that name.
    """
    maker = _MAKERS.get(name)
    if maker is None:
        raise NotFoundError("policy", name, names())
    return maker(options)
