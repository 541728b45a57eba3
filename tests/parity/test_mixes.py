"""Random mixes of rows: whoever shares its batch, a row is the one it is alone."""

from __future__ import annotations

import queue
import random
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from argus.diffusion.adapter import load_variant
from argus.diffusion.samplers import SAMPLERS
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone
from argus.types import ResolvedRequest

from .pictures import wait_for
from .test_pipeline import request

MIXES = 100
UNET, FLOW = ("tiny-eps", "tiny-v", "tiny-xl"), ("tiny-sd3",)


@pytest.fixture(scope="module")
def engine(
    tiny_folders: dict[str, Path],
    tiny_xl_folders: dict[str, Path],
    tiny_sd3_folders: dict[str, Path],
) -> Iterator[Engine]:
    folders = tiny_folders | tiny_xl_folders | tiny_sd3_folders
    cpu = torch.device("cpu")
    adapters = [load_variant(folders[name], cpu, torch.float32) for name in (*UNET, *FLOW)]
    engine = Engine(adapters, EngineOptions(slots=16, max_lanes=8))
    yield engine
    engine.close()


@st.composite
def rows(draw: st.DrawFn) -> dict[str, Any]:
    """What may differ between two rows of one batch, and between batches."""
    variant = draw(st.sampled_from((*UNET, *UNET, *FLOW)))
    flow = variant in FLOW
    sampler = "flow_euler" if flow else draw(st.sampled_from(sorted(SAMPLERS)))
    steps = draw(st.integers(2, 5))
    guidance = draw(st.sampled_from((0.0, 1.0, 1.5, 5.0, 9.0)))
    return {
        "variant": variant,
        "sampler": sampler,
        "steps": steps,
        "guidance": guidance,
        "eta": draw(st.sampled_from((0.0, 0.7))) if sampler == "ddim" else 0.0,
        "guidance_rescale": 0.0 if flow else draw(st.sampled_from((0.0, 0.0, 0.6))),
        "skip": draw(st.integers(0, steps - 1)),
        "seed": draw(st.integers(0, 2**63 - 1)),
        "width": draw(st.sampled_from((32, 32, 48))),
        "prompt": draw(st.sampled_from(("a red circle", "two blue rings", "x"))),
        "negative_prompt": draw(st.sampled_from(("", "blue"))),
        "preview_every": draw(st.sampled_from((0, 2))),
    }


def submit(engine: Engine, wanted: ResolvedRequest) -> queue.Queue[Any]:
    events: queue.Queue[Any] = queue.Queue()
    state: Future[torch.Tensor | None] | None = None
    if wanted.skip:
        # Any latents will do, so long as they are the same both times.
        shape = engine.adapters[wanted.variant].latent_shape(wanted.width, wanted.height)
        state = Future()
        state.set_result(torch.randn(shape, generator=torch.Generator().manual_seed(wanted.seed)))
    engine.submit(wanted, events.put, state)
    return events


@pytest.mark.slow
@settings(
    max_examples=MIXES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(rows(), min_size=2, max_size=5))
def test_every_row_of_a_random_mix_equals_itself_alone(
    engine: Engine, mix: list[dict[str, Any]]
) -> None:
    assert all(buckets.exact for buckets in engine.buckets.values())
    wanted = []
    for i, fields in enumerate(mix):
        sampler, steps, guidance = (fields[name] for name in ("sampler", "steps", "guidance"))
        rest = {k: v for k, v in fields.items() if k not in {"sampler", "steps", "guidance"}}
        wanted.append(request(sampler, steps, guidance, request_id=f"mix-{i}", **rest))
    together: list[RowDone] = [wait_for(events) for events in [submit(engine, w) for w in wanted]]
    # In another order, so in other slots and buckets, and each with nobody beside it.
    order = random.Random(len(mix)).sample(range(len(mix)), len(mix))
    for i in order:
        alone = wait_for(submit(engine, wanted[i]))
        assert alone.data == together[i].data, wanted[i]
