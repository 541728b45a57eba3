"""How the engine treats the device: no waiting inside steps, no memory left behind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone, RowEvent, RowStep

from .rows import last, load, picture, start, wish

STEPS = 24
QUIET = range(6, 18)
"""Steps of the last row between which nothing joins, leaves or is decoded."""
CANCELLED = 500
SLACK_BYTES = 2**20
"""What the allocator's rounding may add."""


@pytest.mark.parametrize("kind", ["StableDiffusionPipeline", "StableDiffusionXLPipeline"])
def test_steps_never_wait_for_the_device(
    folders: dict[str, Path], device: torch.device, kind: str
) -> None:
    adapter = load(folders[kind], device)
    engine = Engine([adapter])
    seen: list[int] = []

    def watch(event: RowEvent) -> None:
        """Make torch refuse every synchronisation while the rows are in their quiet steps."""
        if not isinstance(event, RowStep):
            return
        if event.step == QUIET.start:
            torch.cuda.set_sync_debug_mode("error")
        elif event.step in QUIET:
            seen.append(event.step)
        elif event.step == QUIET.stop:
            torch.cuda.set_sync_debug_mode("default")

    try:
        others = [
            start(engine, wish(adapter, f"row-{n}", seed=n, steps=4 * STEPS, guidance=1.0 + n))
            for n in range(2)
        ]
        engine.submit(wish(adapter, "watched", steps=STEPS), watch)
        for events in others:
            picture(events)
    finally:
        torch.cuda.set_sync_debug_mode("default")
        engine.close()
    assert seen == list(QUIET)[1:]


def test_cancelled_rows_leave_no_memory_behind(
    folders: dict[str, Path], device: torch.device
) -> None:
    adapter = load(folders["StableDiffusionPipeline"], device)
    options = EngineOptions(slots=8, max_lanes=8, max_waiting=64)
    engine = Engine([adapter], options)
    rng = random.Random(1)

    def in_use() -> int:
        """Bytes held once everything that was asked for is done."""
        picture(start(engine, wish(adapter, "probe", steps=2)))
        torch.cuda.synchronize(device)
        return torch.cuda.memory_allocated(device)

    try:
        in_use()
        before = in_use()
        done = 0
        for first in range(0, CANCELLED, 50):
            names = [f"row-{n}" for n in range(first, first + 50)]
            inboxes = [
                start(engine, wish(adapter, name, steps=rng.randint(2, 40))) for name in names
            ]
            for name in rng.sample(names, len(names)):
                engine.cancel(name, 1)
            done += sum(isinstance(last(events), RowDone) for events in inboxes)
        assert done < CANCELLED
        assert in_use() <= before + SLACK_BYTES
        stats = engine.stats()
        assert (stats.rows, stats.waiting, stats.slots_free) == (0, 0, options.slots)
    finally:
        engine.close()
