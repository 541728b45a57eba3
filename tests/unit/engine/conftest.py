"""An engine over two tiny random pipelines."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from argus.diffusion.adapter import PipelineAdapter, load_variant
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import Listener, RowDone, RowEvent, RowFailed
from argus.types import ResolvedRequest

Collect = Callable[[list[ResolvedRequest]], list[list[RowEvent]]]


def make_request(name: str, **changes: Any) -> ResolvedRequest:
    fields: dict[str, Any] = {
        "request_id": name,
        "attempt": 1,
        "prompt": "a red circle",
        "negative_prompt": "",
        "seed": 7,
        "width": 32,
        "height": 32,
        "steps": 6,
        "guidance": 5.0,
        "sampler": "ddim",
        "variant": "tiny-eps",
        "level": "reference",
    }
    return ResolvedRequest(**(fields | changes))


@pytest.fixture(scope="session")
def tiny_adapters(tiny_folders: dict[str, Path]) -> list[PipelineAdapter]:
    cpu = torch.device("cpu")
    return [load_variant(folder, cpu, torch.float32) for folder in tiny_folders.values()]


@pytest.fixture(scope="session")
def engine(tiny_adapters: list[PipelineAdapter]) -> Iterator[Engine]:
    engine = Engine(tiny_adapters, EngineOptions(slots=12, max_lanes=8, max_waiting=64))
    yield engine
    engine.close()


def listen(
    submit: Callable[[Listener], None], also: Callable[[RowEvent], None] = lambda _: None
) -> list[RowEvent]:
    """Submit a row with a listener and return its events up to its last."""
    inbox: queue.Queue[RowEvent] = queue.Queue()

    def take(event: RowEvent) -> None:
        also(event)
        inbox.put(event)

    submit(take)
    return history_of(inbox)


def collect(engine: Engine, requests: list[ResolvedRequest]) -> list[list[RowEvent]]:
    """Submit all at once and return every row's events up to its last."""
    inboxes: list[queue.Queue[RowEvent]] = []
    for request in requests:
        inboxes.append(queue.Queue())
        engine.submit(request, inboxes[-1].put)
    return [history_of(inbox) for inbox in inboxes]


def history_of(inbox: queue.Queue[RowEvent]) -> list[RowEvent]:
    history = [inbox.get(timeout=60)]
    while not isinstance(history[-1], RowDone | RowFailed):
        history.append(inbox.get(timeout=60))
    return history


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        threading.Event().wait(0.005)
