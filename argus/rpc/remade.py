"""Handlers made of others, once for each method instead of once for each call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from argus.rpc.rules import RULES

Handler = Any


class Remade:
    """Calls `make` when a method's handler is another one than before.

    A server returns the same handler for every call of a method; those that refuse a call are
    made for it.

    Args:
        make: returns what is made of a handler of the method of that name.
    """

    def __init__(self, make: Callable[[Handler, str], Handler]) -> None:
        self._make = make
        self._known: dict[str, tuple[Handler, Handler]] = {}

    def __call__(self, handler: Handler, method: str) -> Handler:
        """Return what was or is made of `handler`."""
        if method not in RULES:
            return self._make(handler, method)  # callers may name methods without end
        known = self._known.get(method)
        if known is None or known[0] is not handler:
            known = self._known[method] = handler, self._make(handler, method)
        return known[1]
