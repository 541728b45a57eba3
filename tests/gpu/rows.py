"""Requests for tiny folders, and their pictures."""

from __future__ import annotations

import io
import queue
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.engine import Engine
from argus.engine.events import RowDone, RowEvent, RowFailed
from argus.types import ResolvedRequest

SIDE = 32
Pixels = np.ndarray[Any, np.dtype[np.int64]]


def load(folder: Path, device: torch.device) -> PipelineAdapter:
    return load_variant(folder, device, torch.float32)


def wish(adapter: PipelineAdapter, name: str, **changes: Any) -> ResolvedRequest:
    fields: dict[str, Any] = {
        "request_id": name,
        "attempt": 1,
        "prompt": "a red circle left of a blue square",
        "negative_prompt": "",
        "seed": 7,
        "width": SIDE,
        "height": SIDE,
        "steps": 8,
        "guidance": 5.0,
        "sampler": adapter.info.default_sampler,
        "variant": adapter.info.name,
        "level": "reference",
    }
    return ResolvedRequest(**(fields | changes))


def start(engine: Engine, wanted: ResolvedRequest) -> queue.Queue[RowEvent]:
    events: queue.Queue[RowEvent] = queue.Queue()
    engine.submit(wanted, events.put)
    return events


def last(events: queue.Queue[RowEvent]) -> RowDone | RowFailed:
    while not isinstance(event := events.get(timeout=120), RowDone | RowFailed):
        pass
    return event


def picture(events: queue.Queue[RowEvent]) -> Pixels:
    end = last(events)
    assert isinstance(end, RowDone), end
    return np.asarray(Image.open(io.BytesIO(end.data)).convert("RGB")).astype(int)
