"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable

from argus.control.policies.argus import make_argus
from argus.control.policies.options import PolicyOptions
from argus.control.policy import Policy
from argus.errors import NotFoundError

MAKERS: dict[str, Callable[[PolicyOptions], Policy]] = {
    "argus": make_argus,
}


def names() -> tuple[str, ...]:
    """Return the names of all policies."""
    return tuple(MAKERS)


def make(name: str, options: PolicyOptions | None = None) -> Policy:
    """Return a new policy; without options with its own defaults.

    Raises:
        NotFoundError: there is none of that name.
    """
    maker = MAKERS.get(name)
    if maker is None:
        raise NotFoundError("policy", name, names())
    return maker(options or PolicyOptions())
