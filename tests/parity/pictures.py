"""How the parity tests get an engine's latents and pictures."""

from __future__ import annotations

import io
import queue
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.engine import Engine
from argus.engine.events import RowDone, RowFailed
from argus.types import ResolvedRequest


class Recorder:
    """Keeps the final latents an engine hands to an adapter's decoder."""

    def __init__(self, adapter: PipelineAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.latents: list[torch.Tensor] = []
        decode = adapter.decode

        def record(latents: torch.Tensor, tiled: bool = False) -> torch.Tensor:
            self.latents.append(latents.clone())
            return decode(latents, tiled)

        monkeypatch.setattr(adapter, "decode", record)


def run(
    engine: Engine,
    wanted: ResolvedRequest,
    also: Callable[[Any], None] = lambda _: None,
    state: Future[torch.Tensor | None] | None = None,
) -> RowDone:
    events: queue.Queue[Any] = queue.Queue()

    def listen(event: Any) -> None:
        also(event)
        events.put(event)

    engine.submit(wanted, listen, state)
    return wait_for(events)


def wait_for(events: queue.Queue[Any]) -> RowDone:
    while not isinstance(event := events.get(timeout=120), RowDone):
        assert not isinstance(event, RowFailed), event
    return event


def pixels(data: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
