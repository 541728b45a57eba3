"""Argus serves text-to-image diffusion models on a fixed set of GPUs."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "__version__", "errors"]

if TYPE_CHECKING:
    from argus import errors
    from argus.client import AsyncClient, Client


def __getattr__(name: str) -> Any:
    """Import the SDK and its errors only when asked for: `import argus` stays cheap."""
    if name in {"AsyncClient", "Client"}:
        from argus import client

        return getattr(client, name)
    if name == "errors":
        return importlib.import_module("argus.errors")
    raise AttributeError(f"module 'argus' has no attribute {name!r}")
