"""Rows that start from a state, keep states for others, or are spaced anew on their way."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import pytest
import torch

from argus.diffusion.adapter import PipelineAdapter
from argus.engine.engine import Engine, EngineOptions
from argus.engine.events import RowDone, RowEvent, RowStarted, RowStates, RowStep, RowWarning
from argus.engine.residents import Resident
from argus.errors import InvalidArgumentError
from argus.types import ResolvedRequest

from .conftest import collect, listen, make_request


def start(
    engine: Engine, request: ResolvedRequest, state: Future[Any], wait_s: float = 30.0
) -> list[RowEvent]:
    return listen(lambda listener: engine.submit(request, listener, state, wait_s))


def resolved(value: Any) -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(value)
    return future


def states_of(engine: Engine, request: ResolvedRequest) -> tuple[dict[int, torch.Tensor], RowDone]:
    (history,) = collect(engine, [request])
    (states,) = [event for event in history if isinstance(event, RowStates)]
    assert isinstance(history[-1], RowDone)
    return dict(states.latents), history[-1]


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_a_row_started_from_its_own_state_gives_its_own_picture(
    engine: Engine, sampler: str
) -> None:
    whole = make_request("whole", steps=10, sampler=sampler, checkpoints=(2, 5, 8))
    states, picture = states_of(engine, whole)
    assert sorted(states) == [2, 5, 8]
    assert (picture.forwards, picture.skipped) == (10, 0)
    for skip, state in states.items():
        assert state.dtype is torch.float32
        again = make_request(f"from-{skip}", steps=10, sampler=sampler, skip=skip)
        history = start(engine, again, resolved(state))
        done = history[-1]
        assert isinstance(done, RowDone)
        assert done.data == picture.data
        assert (done.forwards, done.skipped) == (10 - skip, skip)
        (started,) = [event for event in history if isinstance(event, RowStarted)]
        assert started.skipped == skip
        assert [e.step for e in history if isinstance(e, RowStep)] == list(range(1, 11 - skip))


def test_keeping_states_changes_no_picture(engine: Engine) -> None:
    ((*_, plain),) = collect(engine, [make_request("plain", steps=6)])
    _, kept = states_of(engine, make_request("kept", steps=6, checkpoints=(1, 5)))
    assert isinstance(plain, RowDone)
    assert kept.data == plain.data


def cancelled() -> Future[Any]:
    future: Future[Any] = Future()
    future.cancel()
    return future


def failed() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_exception(OSError("the disk is gone"))
    return future


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (resolved(None), "the state is missing"),
        (failed(), "no state: the disk is gone"),
        (cancelled(), "no state: CancelledError"),
        (resolved(b"bytes"), "the state is no tensor but bytes"),
        (resolved(torch.zeros(4, 9, 8)), "(4, 9, 8), not (4, 8, 8)"),
        (resolved(torch.full((4, 8, 8), float("nan"))), "the state is not finite"),
        (Future(), "the state came too late"),
    ],
)
def test_a_state_that_cannot_be_used_means_every_step(
    engine: Engine, state: Future[Any], reason: str
) -> None:
    ((*_, plain),) = collect(engine, [make_request("plain", steps=6)])
    request = make_request("missed", steps=6, skip=3)
    history = start(engine, request, state, wait_s=0.05)
    (warning,) = [event for event in history if isinstance(event, RowWarning)]
    assert warning.code == "STATE_MISSED"
    assert reason in warning.message
    assert isinstance(history[-1], RowDone)
    assert isinstance(plain, RowDone)
    assert history[-1].data == plain.data
    assert (history[-1].forwards, history[-1].skipped) == (6, 0)


def test_rows_that_need_no_state_do_not_wait_for_those_that_do(engine: Engine) -> None:
    pending: Future[Any] = Future()
    events: list[RowEvent] = []
    ended = threading.Event()

    def listener(event: RowEvent) -> None:
        events.append(event)
        if isinstance(event, RowDone):
            ended.set()

    engine.submit(make_request("waits", steps=4, skip=2), listener, pending, 60.0)
    ((*_, other),) = collect(engine, [make_request("goes", steps=4)])
    assert isinstance(other, RowDone)
    assert events == []
    pending.set_result(torch.zeros(4, 8, 8))
    assert ended.wait(30)


def test_a_row_waiting_for_its_state_can_be_cancelled(engine: Engine) -> None:
    pending: Future[Any] = Future()
    ended = threading.Event()
    request = make_request("gone", steps=4, skip=2)
    engine.submit(request, lambda _: ended.set(), pending, 60.0)
    assert engine.cancel("gone", 1)
    assert ended.wait(30)
    assert engine.stats().waiting == 0


def test_a_row_that_skipped_steps_keeps_no_states(engine: Engine) -> None:
    states, _ = states_of(engine, make_request("first", steps=8, checkpoints=(4,)))
    request = make_request("second", steps=8, skip=4, checkpoints=(6,))
    history = start(engine, request, resolved(states[4]))
    assert not [event for event in history if isinstance(event, RowStates)]


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"skip": 6}, "skip"),
        ({"skip": -1}, "skip"),
        ({"checkpoints": (0,)}, "checkpoints"),
        ({"checkpoints": (6,)}, "checkpoints"),
        ({"skip": 3}, "skip"),
    ],
)
def test_impossible_levels_are_refused_by_field(
    engine: Engine, changes: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        engine.submit(make_request("bad", steps=6, **changes), lambda _: None)
    assert caught.value.field == field
    with pytest.raises(InvalidArgumentError, match="skip: needs a state"):
        engine.submit(make_request("bad", steps=6), lambda _: None, resolved(None))


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp_2m"])
def test_the_rest_of_a_row_is_spaced_anew_when_asked(engine: Engine, sampler: str) -> None:
    request = make_request("long", steps=400, sampler=sampler)
    asked = threading.Event()

    def ask(event: RowEvent) -> None:
        if isinstance(event, RowStep) and not asked.is_set():
            asked.set()
            assert engine.respace("long", 1, 10)

    history = listen(lambda listener: engine.submit(request, listener), ask)
    done = history[-1]
    assert isinstance(done, RowDone)
    steps = [event for event in history if isinstance(event, RowStep)]
    assert done.forwards == len(steps) < 60
    assert steps[-1].step == steps[-1].steps == done.forwards
    assert not engine.respace("long", 1, 10)


@pytest.mark.parametrize("when", [RowStarted, RowStep])
def test_a_row_spaced_anew_keeps_no_states(engine: Engine, when: type[Any]) -> None:
    request = make_request("spaced", steps=60, checkpoints=(5, 50))

    def ask(event: RowEvent) -> None:
        if isinstance(event, when):
            engine.respace("spaced", 1, 12)

    history = listen(lambda listener: engine.submit(request, listener), ask)
    assert isinstance(history[-1], RowDone)
    assert history[-1].forwards < 60
    assert not [event for event in history if isinstance(event, RowStates)]


def test_a_row_that_would_be_late_does_fewer_steps_but_not_too_few(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Far more than it takes, so that the machine's mood decides nothing.
    monkeypatch.setattr(Resident, "step_s", lambda *_: 0.5)
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=2, max_lanes=4))
    try:
        hurried = make_request("hurried", steps=900, deadline_s=60.0, fewest_forwards=20)
        (history,) = collect(engine, [hurried])
        done = history[-1]
        assert isinstance(done, RowDone), done
        assert 20 <= done.forwards <= 120
        patient = make_request("patient", steps=50, deadline_s=60.0, fewest_forwards=20)
        ((*_, done),) = collect(engine, [patient])
        assert isinstance(done, RowDone)
        assert done.forwards == 50
    finally:
        engine.close()


def test_a_batch_too_large_for_memory_is_tried_again_in_smaller_ones(
    tiny_adapters: list[PipelineAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_adapters[:1], EngineOptions(slots=4, max_lanes=8))
    forward = engine.adapters["tiny-eps"].forward
    refused = threading.Event()

    def small(latents: torch.Tensor, *rest: Any) -> torch.Tensor:
        if len(latents) > 4:
            refused.set()
            raise torch.OutOfMemoryError("out of memory")
        return forward(latents, *rest)

    requests = [make_request(f"r{n}", seed=n, sampler="euler_a", steps=40) for n in range(4)]
    try:
        alone = [collect(engine, [request])[0][-1] for request in requests]
        monkeypatch.setattr(engine.adapters["tiny-eps"], "forward", small)
        together = [history[-1] for history in collect(engine, requests)]
        assert refused.is_set()
        for one, other in zip(alone, together, strict=True):
            assert isinstance(one, RowDone)
            assert isinstance(other, RowDone), other
            assert one.data == other.data
    finally:
        engine.close()
