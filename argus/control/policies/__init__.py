"""Argus's own policy, and the published systems that it is compared with."""

from argus.control.policies.options import PolicyOptions
from argus.control.policies.registry import make, names

__all__ = ["PolicyOptions", "make", "names"]
