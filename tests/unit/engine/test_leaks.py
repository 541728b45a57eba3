"""Nothing is left behind, whatever happens to the rows."""

from __future__ import annotations

import gc
import logging
import queue
import random
import threading
from collections import Counter
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import FailureReason, RowDone, RowEvent, RowFailed
from argus.types import ImageFormat

from .conftest import history_of, make_request, wait_until

REQUESTS = 3_000
WAVE = 100
SETTLED = 10
"""Waves after which every lane count has its buffers."""
POISON = "a poison"


class Trouble:
    """Makes every fiftieth forward and decode fail, and the encoding of one prompt."""

    def __init__(self, adapter: PipelineAdapter, monkeypatch: pytest.MonkeyPatch) -> None:
        self.forwards = self.decodes = 0
        forward, decode, encode = adapter.forward, adapter.decode, adapter.encode

        def fragile_forward(*inputs: Any) -> torch.Tensor:
            self.forwards += 1
            if self.forwards % 50 == 0:
                raise RuntimeError("a forward failed")
            return forward(*inputs)

        def fragile_decode(latents: torch.Tensor, tiled: bool = False) -> torch.Tensor:
            self.decodes += 1
            if self.decodes % 50 == 0:
                raise RuntimeError("a decode failed")
            return decode(latents, tiled)

        def fragile_encode(text: str, *rest: Any) -> Any:
            if text == POISON:
                raise RuntimeError("an encoding failed")
            return encode(text, *rest)

        monkeypatch.setattr(adapter, "forward", fragile_forward)
        monkeypatch.setattr(adapter, "decode", fragile_decode)
        monkeypatch.setattr(adapter, "encode", fragile_encode)


def tensor_bytes() -> int:
    gc.collect()
    return sum(t.nbytes for t in gc.get_objects() if type(t) is torch.Tensor)


def wave(engine: Engine, rng: random.Random, number: int) -> Counter[str]:
    """Run a hundred short requests, some of which are cancelled, late, or cannot succeed."""
    inboxes: dict[str, queue.Queue[RowEvent]] = {}
    for n in range(WAVE):
        name = f"{number}-{n}"
        inboxes[name] = queue.Queue()
        steps = rng.randint(1, 3)
        skip = rng.choice([0, 0, steps - 1])
        state: Future[torch.Tensor | None] | None = None
        if skip:
            state = Future()
            if rng.random() < 0.5:
                state.set_result(torch.zeros(4, 8, 8))
        engine.submit(
            make_request(
                name,
                seed=n,
                steps=steps,
                skip=skip,
                checkpoints=(1,) if steps > 1 else (),
                guidance=rng.choice([1.0, 5.0]),
                sampler=rng.choice(["ddim", "euler_a"]),
                prompt=POISON if rng.random() < 0.01 else rng.choice(["a red circle", "x"]),
                deadline_s=rng.choice([None, None, 60.0, 0.02]),
                format=ImageFormat.JPEG,
            ),
            inboxes[name].put,
            state,
            0.05,
        )
        if rng.random() < 0.2:
            engine.cancel(f"{number}-{rng.randint(0, n)}", 1)
    ends: Counter[str] = Counter()
    for inbox in inboxes.values():
        last = history_of(inbox)[-1]
        ends[last.reason.value if isinstance(last, RowFailed) else "done"] += 1
        assert isinstance(last, RowDone | RowFailed)
    return ends


@pytest.mark.slow
def test_three_thousand_short_requests_leave_no_slot_byte_or_thread(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = random.Random(5)
    # Log records that are captured hold on to tracebacks, and those to tensors.
    logging.disable(logging.CRITICAL)
    Trouble(tiny_adapters[0], monkeypatch)
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=8, max_lanes=8, max_waiting=WAVE))
    try:
        ends: Counter[str] = Counter()
        for number in range(REQUESTS // WAVE):
            if number == SETTLED:
                threads, held = threading.active_count(), tensor_bytes()
            ends += wave(engine, rng, number)
        assert sum(ends.values()) == REQUESTS
        assert ends["done"] > REQUESTS / 4
        for reason in (FailureReason.CANCELLED, FailureReason.INTERNAL, FailureReason.LATE):
            assert ends[reason.value] > 0, ends
        wait_until(lambda: engine.stats().slots_free == 8)
        stats = engine.stats()
        assert (stats.rows, stats.waiting, stats.slots_free) == (0, 0, 8)
        assert threading.active_count() == threads
        (resident,) = engine.residents.values()
        # The decoder lets go of a variant when its last row has been told of its end.
        wait_until(lambda: resident.claims == 0)
        # The frames of threads hold their last row; one latent lost in a hundred is 20 KiB.
        assert tensor_bytes() <= held + 16 * 1024
    finally:
        engine.close()
        logging.disable(logging.NOTSET)
