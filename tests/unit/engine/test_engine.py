"""Rows through a real engine with tiny random pipelines."""

from __future__ import annotations

import contextlib
import io
import queue
import random
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from argus.diffusion.adapter import PipelineAdapter
from argus.diffusion.samplers import SAMPLERS
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import (
    FailureReason,
    RowDone,
    RowEvent,
    RowFailed,
    RowPreview,
    RowStarted,
    RowStep,
    RowWarning,
)
from argus.engine.slots import SlotPool
from argus.errors import (
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.types import ImageFormat, ResolvedRequest

from .conftest import collect, make_request, wait_until


def random_request(rng: random.Random, name: str) -> ResolvedRequest:
    return make_request(
        name,
        seed=rng.randrange(2**63),
        steps=rng.randint(1, 9),
        guidance=rng.choice([0.0, 1.0, 1.5, 5.0, 9.0]),
        sampler=rng.choice(list(SAMPLERS)),
        variant=rng.choice(["tiny-eps", "tiny-eps", "tiny-v"]),
        width=rng.choice([32, 32, 32, 48]),
        prompt="".join(rng.choice("abc xyz") for _ in range(rng.randint(1, 12))) + "q",
        negative_prompt=rng.choice(["", "blue"]),
    )


def test_a_row_tells_its_life_in_order(engine: Engine) -> None:
    (history,) = collect(engine, [make_request("life", steps=4, preview_every=2)])
    kinds = [type(event) for event in history]
    assert kinds[0] is RowStarted
    steps = [event for event in history if isinstance(event, RowStep)]
    assert [(s.step, s.steps, s.lanes) for s in steps] == [(n, 4, 2) for n in (1, 2, 3, 4)]
    previews = [event for event in history if isinstance(event, RowPreview)]
    assert [p.step for p in previews] == [2]
    assert Image.open(io.BytesIO(previews[0].data)).format == "JPEG"
    done = history[-1]
    assert isinstance(done, RowDone)
    assert Image.open(io.BytesIO(done.data)).size == (32, 32)
    assert done.max_lanes == 2
    assert done.running_s > 0


def test_what_steps_and_pictures_took_is_counted(engine: Engine) -> None:
    def counted() -> dict[str, tuple[int, int]]:
        times = engine.stats().step_times
        return {name: (sum(t.seconds.counts), t.lanes) for name, t in times.items()}

    def pictures() -> tuple[int, int]:
        decode = engine.stats().decode
        return sum(decode.decode_s.counts), sum(decode.encode_s.counts)

    def settled() -> bool:
        decode = engine.stats().decode
        return decode.waiting == decode.encoding == 0

    wait_until(settled)
    before, decoded = counted(), pictures()
    requests = [
        make_request("guided", steps=3, guidance=5.0, variant="tiny-eps"),
        make_request("plain", steps=2, guidance=1.0, variant="tiny-v"),
    ]
    collect(engine, requests)
    wait_until(settled)
    stats, after = engine.stats(), counted()
    for name, steps, lanes in (("tiny-eps", 3, 6), ("tiny-v", 2, 2)):
        old = before.get(name, (0, 0))
        assert (after[name][0] - old[0], after[name][1] - old[1]) == (steps, lanes)
        assert stats.step_times[name].seconds.total > 0
    # Of two variants, so neither was decoded with the other.
    assert pictures() == (decoded[0] + 2, decoded[1] + 2)


def test_mixed_batches_give_every_row_the_picture_it_has_alone(engine: Engine) -> None:
    assert all(buckets.exact for buckets in engine.buckets.values())
    rng = random.Random(1)
    for batch in range(6):
        requests = [random_request(rng, f"mix-{batch}-{n}") for n in range(12)]
        together = [history[-1] for history in collect(engine, requests)]
        for request, mixed in zip(requests, together, strict=True):
            ((*_, alone),) = collect(engine, [request])
            assert isinstance(mixed, RowDone), mixed
            assert isinstance(alone, RowDone), alone
            assert mixed.data == alone.data, request
    assert engine.stats().peak_lanes > 2


def test_formats_hold_the_same_pixels(engine: Engine) -> None:
    requests = [make_request(f.value, format=f) for f in ImageFormat]
    images = []
    for history, kind in zip(collect(engine, requests), ImageFormat, strict=True):
        done = history[-1]
        assert isinstance(done, RowDone)
        image = Image.open(io.BytesIO(done.data))
        assert image.format == kind.name
        images.append(np.asarray(image.convert("RGB")).astype(int))
    assert np.array_equal(images[0], images[1])
    assert np.abs(images[0] - images[2]).mean() < 8


def test_rows_that_outnumber_the_slots_all_finish(engine: Engine) -> None:
    histories = collect(engine, [make_request(f"many-{n}", seed=n, steps=3) for n in range(40)])
    assert all(isinstance(history[-1], RowDone) for history in histories)
    stats = engine.stats()
    assert (stats.rows, stats.waiting, stats.slots_free) == (0, 0, 12)


def test_a_thousand_random_cancels_leave_nothing_behind(engine: Engine) -> None:
    rng = random.Random(3)
    threads = threading.active_count()
    for wave in range(25):
        inboxes: dict[str, queue.Queue[RowEvent]] = {}
        for n in range(40):
            request = make_request(f"c{wave}-{n}", steps=rng.randint(2, 6), seed=n)
            inboxes[request.request_id] = queue.Queue()
            engine.submit(request, inboxes[request.request_id].put)
        names = list(inboxes)
        rng.shuffle(names)
        for name in names:
            if rng.random() < 0.3:
                threading.Event().wait(rng.random() * 0.004)
            engine.cancel(name, 1)
        for inbox in inboxes.values():
            last = inbox.get(timeout=60)
            while not isinstance(last, RowDone | RowFailed):
                last = inbox.get(timeout=60)
            if isinstance(last, RowFailed):
                assert last.reason is FailureReason.CANCELLED
            assert inbox.empty(), "nothing may follow the last event"
    stats = engine.stats()
    assert (stats.rows, stats.waiting, stats.slots_free) == (0, 0, 12)
    assert not engine.cancel("c0-0", 1)
    assert threading.active_count() == threads


def test_a_row_past_its_deadline_is_given_up(engine: Engine) -> None:
    late = make_request("late", steps=900, deadline_s=0.3)
    (history,) = collect(engine, [late])
    assert history[-1] == RowFailed(FailureReason.LATE, "the deadline passed on the node")
    assert engine.stats().slots_free == 12


def test_an_urgent_row_overtakes_patient_ones(engine: Engine) -> None:
    order: queue.Queue[str] = queue.Queue()

    def listen(name: str) -> Callable[[RowEvent], None]:
        def on_event(event: RowEvent) -> None:
            if isinstance(event, RowDone):
                order.put(name)

        return on_event

    for n in range(30):
        engine.submit(make_request(f"patient-{n}", steps=20), listen("patient"))
    engine.submit(make_request("urgent", steps=20, deadline_s=20.0), listen("urgent"))
    finished = [order.get(timeout=60) for _ in range(31)]
    assert finished.index("urgent") < 12


def test_a_long_prompt_is_cut_with_a_warning(engine: Engine) -> None:
    (history,) = collect(engine, [make_request("long", prompt="a b c d e f g h i j k l m n o p q")])
    warning = next(event for event in history if isinstance(event, RowWarning))
    assert warning.code == "PROMPT_TRUNCATED"
    assert warning.message == "prompt was cut, left out: o p q"
    assert isinstance(history[-1], RowDone)


def test_a_long_negative_prompt_is_not_cut_in_silence(engine: Engine) -> None:
    negative = "a b c d e f g h i j k l m n o p q"
    (history,) = collect(engine, [make_request("negative", negative_prompt=negative)])
    warning = next(event for event in history if isinstance(event, RowWarning))
    assert warning.message == "negative_prompt was cut, left out: o p q"


@pytest.mark.parametrize(
    ("changes", "error", "field"),
    [
        ({"variant": "nope"}, NotFoundError, "variant"),
        ({"width": 30}, InvalidArgumentError, "width"),
        ({"height": 4096}, InvalidArgumentError, "height"),
        ({"width": 0}, InvalidArgumentError, "width"),
        ({"sampler": "magic"}, InvalidArgumentError, "sampler"),
        ({"steps": 0}, InvalidArgumentError, "steps"),
        ({"steps": 1000}, InvalidArgumentError, "steps"),
    ],
)
def test_impossible_rows_are_refused_by_field(
    engine: Engine, changes: dict[str, Any], error: type[Any], field: str
) -> None:
    with pytest.raises(error) as caught:
        engine.submit(make_request("bad", **changes), lambda _: None)
    assert caught.value.field == field


def test_a_failing_step_fails_its_rows_and_nothing_else(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters, EngineOptions(slots=4, max_lanes=4))
    try:
        broken = engine.adapters["tiny-v"]

        def explode(*_: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("out of memory")

        monkeypatch.setattr(broken, "forward", explode)
        bad, good = collect(engine, [make_request("bad", variant="tiny-v"), make_request("good")])
        assert bad[-1] == RowFailed(
            FailureReason.INTERNAL, "tiny-v 32x32, forward 1 of 6, 2 lanes: out of memory"
        )
        assert isinstance(good[-1], RowDone)
        monkeypatch.setattr(engine.adapters["tiny-eps"], "decode", explode)
        (spoiled,) = collect(engine, [make_request("spoiled")])
        assert spoiled[-1] == RowFailed(FailureReason.INTERNAL, "decoding failed: out of memory")
        monkeypatch.setattr(engine.adapters["tiny-eps"], "encode", explode)
        (dumb,) = collect(engine, [make_request("dumb", prompt="never seen")])
        assert dumb[-1] == RowFailed(
            FailureReason.INTERNAL, "it could not be placed: out of memory"
        )
        assert engine.stats().slots_free == 4
    finally:
        engine.close()


def test_a_device_that_fails_every_step_is_given_up(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=4, max_lanes=4))

    def explode(*_: Any) -> torch.Tensor:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(engine.adapters["tiny-eps"], "forward", explode)
    histories = collect(engine, [make_request(f"r{n}") for n in range(3)])
    assert all(isinstance(history[-1], RowFailed) for history in histories)
    for n in range(3):
        with contextlib.suppress(UnavailableError):
            collect(engine, [make_request(f"again-{n}")])
    wait_until(lambda: not engine.stats().alive)
    engine.close()


def test_rows_that_cannot_be_placed_give_their_slots_back(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))
    put = SlotPool.put
    broken = iter([True, True])

    def sometimes(self: SlotPool, *arguments: Any) -> None:
        if next(broken, False):
            raise RuntimeError("out of memory")
        put(self, *arguments)

    monkeypatch.setattr(SlotPool, "put", sometimes)
    histories = collect(engine, [make_request(f"r{n}") for n in range(2)])
    assert all(isinstance(history[-1], RowFailed) for history in histories)
    assert engine.stats().slots_free == 2
    (history,) = collect(engine, [make_request("fine")])
    assert isinstance(history[-1], RowDone)
    engine.close()


def test_a_failing_listener_disturbs_nobody(engine: Engine) -> None:
    def angry(event: RowEvent) -> None:
        raise ValueError(event)

    engine.submit(make_request("angry", steps=3), angry)
    (history,) = collect(engine, [make_request("calm", steps=3)])
    assert isinstance(history[-1], RowDone)
    wait_until(lambda: engine.stats().rows == 0)


def test_latents_that_are_not_finite_are_no_picture(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))

    def overflow(latents: torch.Tensor, *_: Any) -> torch.Tensor:
        return torch.full_like(latents, float("nan"))

    monkeypatch.setattr(engine.adapters["tiny-eps"], "forward", overflow)
    (history,) = collect(engine, [make_request("black")])
    assert history[-1] == RowFailed(
        FailureReason.INTERNAL, "decoding failed: the latents are not finite"
    )
    engine.close()


def test_previews_wait_for_images_and_for_each_other(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))
    preview = engine.adapters["tiny-eps"].preview

    def slow(latents: torch.Tensor) -> torch.Tensor:
        threading.Event().wait(0.1)
        return preview(latents)

    monkeypatch.setattr(engine.adapters["tiny-eps"], "preview", slow)
    (history,) = collect(engine, [make_request("eager", steps=40, preview_every=1)])
    previews = [event.step for event in history if isinstance(event, RowPreview)]
    assert 0 < len(previews) < 30
    assert previews == sorted(previews)
    assert isinstance(history[-1], RowDone)
    engine.close()


def test_a_full_engine_refuses_and_a_draining_one_finishes_first(
    tiny_adapters: list[PipelineAdapter],
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4, max_waiting=1))
    inbox: queue.Queue[RowEvent] = queue.Queue()
    for n in range(3):
        engine.submit(make_request(f"r{n}", steps=40), inbox.put)
        with pytest.raises(InvalidArgumentError, match="already running"):
            engine.submit(make_request(f"r{n}", steps=40), inbox.put)
    with pytest.raises(OverloadedError):
        engine.submit(make_request("r3"), inbox.put)
    engine.drain()
    with pytest.raises(UnavailableError):
        engine.submit(make_request("r4"), inbox.put)
    wait_until(lambda: engine.stats().images_total == 3)
    engine.close()
    assert not engine.stats().alive


def test_closing_fails_what_is_left(tiny_adapters: list[PipelineAdapter]) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))
    inbox: queue.Queue[RowEvent] = queue.Queue()
    engine.submit(make_request("unlucky", steps=900), inbox.put)
    wait_until(lambda: engine.stats().steps_total > 1)
    engine.close()
    events = [inbox.get_nowait() for _ in range(inbox.qsize())]
    assert events[-1] == RowFailed(FailureReason.DRAINING, "the node is leaving")


def test_pools_of_unused_shapes_are_dropped(tiny_adapters: list[PipelineAdapter]) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))
    try:
        for width in (16, 32, 48, 64):
            for height in (16, 32, 48, 64):
                name = f"{width}x{height}"
                collect(engine, [make_request(name, width=width, height=height, steps=1)])
        assert len(engine._pools) <= 5
    finally:
        engine.close()


def test_an_idle_engine_shows_life_and_wakes_at_once(engine: Engine) -> None:
    threading.Event().wait(0.6)
    assert engine.stats().device_idle_s < 1.0
    assert engine.stats().lanes == 0
    collect(engine, [make_request("wake", steps=1)])


def test_rows_that_memory_does_not_hold_do_not_cost_the_device(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=4, max_lanes=4))

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        for part in ("encode", "forward"):
            patch.setattr(engine.adapters["tiny-eps"], part, full)
            for n in range(4):
                (history,) = collect(engine, [make_request(f"{part}-{n}", prompt=f"new {n}")])
                assert isinstance(history[-1], RowFailed)
            patch.undo()
    (history,) = collect(engine, [make_request("fine")])
    assert isinstance(history[-1], RowDone)
    engine.close()


def test_one_bad_row_of_a_batch_fails_alone(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=8, max_lanes=8))
    forward = engine.adapters["tiny-eps"].forward
    # Any lane that is at this time, which only the first step of a run of 9 is.
    bad_time = float(engine.adapters["tiny-eps"].step_table("ddim", 9, 32, 32).timesteps[0])

    def picky(latents: torch.Tensor, timesteps: torch.Tensor, *rest: Any) -> torch.Tensor:
        if bool((timesteps == bad_time).any()):
            raise RuntimeError("a poison row")
        return forward(latents, timesteps, *rest)

    monkeypatch.setattr(engine.adapters["tiny-eps"], "forward", picky)
    requests = [make_request(f"r{n}", steps=9 if n == 2 else 6, seed=n) for n in range(4)]
    histories = collect(engine, requests)
    engine.close()
    failed = [isinstance(history[-1], RowFailed) for history in histories]
    assert failed == [False, False, True, False]


def test_a_decoder_that_fails_before_the_vae_costs_one_row(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=4, max_lanes=4))

    def full(*_: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "isfinite", full)
        (history,) = collect(engine, [make_request("bad")])
    assert history[-1] == RowFailed(FailureReason.INTERNAL, "decoding failed: out of memory")
    (history,) = collect(engine, [make_request("fine")])
    assert isinstance(history[-1], RowDone)
    (resident,) = engine.residents.values()
    wait_until(lambda: resident.claims == 0)
    engine.close()


def test_a_shape_that_was_narrowed_below_a_guided_row_is_never_chosen(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=4, max_lanes=4))
    forward = engine.adapters["tiny-eps"].forward

    def small(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(latents) > 1:
            raise torch.OutOfMemoryError("out of memory")
        return forward(latents, *rest)

    monkeypatch.setattr(engine.adapters["tiny-eps"], "forward", small)
    plain = [make_request(f"plain-{n}", guidance=1.0) for n in range(2)]
    collect(engine, [*plain, make_request("guided")])
    assert engine.stats().alive
    engine.close()
