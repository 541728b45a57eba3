"""Graphs, states and moved weights on a device, against the plain way of doing the same."""

from __future__ import annotations

import queue
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from argus.diffusion.adapter import load_variant
from argus.diffusion.size import folder_weights_bytes
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowEvent, RowFailed, RowStates

from .rows import last, load, picture, start, wish

KINDS = ("StableDiffusionPipeline", "StableDiffusionXLPipeline", "StableDiffusion3Pipeline")
SAMPLERS = ("ddim", "euler_a", "dpmpp_2m_sde", "unipc", "pndm")


@pytest.mark.parametrize("kind", KINDS)
def test_graphs_draw_what_eager_forwards_draw(
    folders: dict[str, Path], device: torch.device, kind: str
) -> None:
    pictures = []
    for graphs in (True, False):
        adapter = load(folders[kind], device)
        engine = Engine([adapter], EngineOptions(graphs=graphs, fused_norms=False))
        try:
            (resident,) = engine.residents.values()
            assert (resident.forwards.graphs > 0) is graphs
            inboxes = [start(engine, wish(adapter, f"row-{n}", seed=n)) for n in range(5)]
            pictures.append([picture(events) for events in inboxes])
        finally:
            engine.close()
    for ours, theirs in zip(*pictures, strict=True):
        assert np.abs(ours - theirs).max() <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_own_kernels_draw_what_torch_draws(
    folders: dict[str, Path], device: torch.device, sampler: str
) -> None:
    pictures = []
    for own in (True, False):
        adapter = load(folders["StableDiffusionPipeline"], device)
        engine = Engine([adapter], EngineOptions(fused_update=own, fused_norms=own))
        try:
            wanted = wish(adapter, "row", sampler=sampler, guidance_rescale=0.5)
            pictures.append(picture(start(engine, wanted)))
        finally:
            engine.close()
    assert np.abs(pictures[0] - pictures[1]).max() <= 1


def test_a_state_copied_off_the_device_starts_the_same_picture(
    folders: dict[str, Path], device: torch.device
) -> None:
    adapter = load(folders["StableDiffusionPipeline"], device)
    engine = Engine([adapter])
    states: list[RowStates] = []

    def listen(inbox: queue.Queue[RowEvent], event: RowEvent) -> None:
        if isinstance(event, RowStates):
            states.append(event)
        inbox.put(event)

    try:
        inbox: queue.Queue[RowEvent] = queue.Queue()
        whole = wish(adapter, "whole", steps=20, sampler="ddim", checkpoints=(5, 10))
        engine.submit(whole, partial(listen, inbox))
        expected = picture(inbox)
        for skip, latents in states[0].latents.items():
            assert latents.device.type == "cpu"
            state: Future[Any] = Future()
            state.set_result(latents)
            events: queue.Queue[RowEvent] = queue.Queue()
            wanted = wish(adapter, f"from-{skip}", steps=20, sampler="ddim", skip=skip)
            engine.submit(wanted, events.put, state)
            assert np.abs(picture(events) - expected).max() <= 1
    finally:
        engine.close()


@pytest.mark.parametrize("host_bytes", [0, 2**30])
def test_variants_that_take_turns_on_the_device_keep_their_pictures(
    folders: dict[str, Path], device: torch.device, host_bytes: int
) -> None:
    chosen = [folders[kind] for kind in KINDS[:2]]
    budget = max(folder_weights_bytes(folder, 4) for folder in chosen) + 2**16
    options = EngineOptions(slots=4, weights_bytes=budget, host_bytes=host_bytes)
    engine = Engine((), options)
    try:
        for folder in chosen:
            size = folder_weights_bytes(folder, 4)
            engine.load(folder, size, partial(load_variant, folder, device, torch.float32)).result()
        before: dict[str, Any] = {}
        for turn in range(3):
            for name, resident in engine.residents.items():
                drawn = picture(start(engine, wish(resident.adapter, f"{name}-{turn}")))
                assert np.abs(drawn - before.setdefault(name, drawn)).max() <= 1
    finally:
        engine.close()


def test_a_row_larger_than_memory_fails_alone(
    folders: dict[str, Path], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = load(folders["StableDiffusionPipeline"], device)
    engine = Engine([adapter], EngineOptions(graphs=False))
    forward = adapter.forward

    def greedy(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        if latents.shape[-1] > adapter.latent_shape(32, 32)[-1]:
            torch.empty(2**50, dtype=torch.uint8, device=device)
        return forward(latents, *rest)

    monkeypatch.setattr(adapter, "forward", greedy)
    try:
        small = start(engine, wish(adapter, "small", steps=40))
        large = start(engine, wish(adapter, "large", width=48))
        picture(small)
        end = last(large)
        assert isinstance(end, RowFailed)
        assert "48x32" in end.message
        assert engine.stats().alive
    finally:
        engine.close()
