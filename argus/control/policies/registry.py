"""Policies by name."""

from __future__ import annotations

from collections.abc import Callable

from argus.control.policies.argus import make_argus
from argus.control.policies.clipper import make_clipper_ha, make_clipper_ht
from argus.control.policies.diffserve import make_diffserve
from argus.control.policies.nirvana import make_nirvana
from argus.control.policies.options import PolicyOptions
from argus.control.policies.proteus import make_proteus
from argus.control.policies.published import make_argus_paper, make_pac
from argus.control.policies.sommelier import make_sommelier
from argus.control.policy import Policy
from argus.errors import NotFoundError

MAKERS: dict[str, Callable[[PolicyOptions], Policy]] = {
    "argus": make_argus,
    "argus-paper": make_argus_paper,
    "clipper-ha": make_clipper_ha,
    "clipper-ht": make_clipper_ht,
    "proteus": make_proteus,
    "sommelier": make_sommelier,
    "nirvana": make_nirvana,
    "pac": make_pac,
    "diffserve": make_diffserve,
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
