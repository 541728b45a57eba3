from __future__ import annotations

import asyncio

import pytest

from argus.coordinator.subscription import Subscription
from argus.errors import InternalError
from argus.v1 import image_pb2
from tests.unit.coordinator.bench import follow, kinds


def step(i: int) -> image_pb2.GenerateResponse:
    return image_pb2.GenerateResponse(step=image_pb2.StepProgress(step=i))


STARTED = image_pb2.GenerateResponse(started=image_pb2.Started())
WARNING = image_pb2.GenerateResponse(warning=image_pb2.Warning())
IMAGE = image_pb2.GenerateResponse(image=image_pb2.Image())


async def test_a_slow_reader_loses_old_steps_but_neither_the_story_nor_the_image() -> None:
    subscription = Subscription("r", limit=4)
    subscription.push(STARTED)
    for i in range(1000):
        subscription.push(step(i))
    subscription.finish(IMAGE)
    events = await follow(subscription)
    assert kinds(events) == ["started", "step", "step", "step", "image"]
    assert [e.step.step for e in events[1:4]] == [997, 998, 999]


async def test_what_is_there_already_is_taken_without_waiting_but_never_an_error() -> None:
    subscription = Subscription("r")
    assert subscription.take_waiting() is None
    subscription.push(STARTED)
    subscription.finish(IMAGE)
    assert [subscription.take_waiting() for _ in range(3)] == [STARTED, IMAGE, None]
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)
    failed = Subscription("s")
    failed.finish(InternalError("broken"))
    assert failed.take_waiting() is None
    with pytest.raises(InternalError, match="broken"):
        await anext(failed)


async def test_even_a_flood_of_warnings_stays_bounded() -> None:
    subscription = Subscription("r", limit=4)
    for _ in range(100):
        subscription.push(WARNING)
    subscription.finish(IMAGE)
    assert len(await follow(subscription)) == 5


async def test_a_reader_waits_for_news_and_an_error_comes_after_the_events() -> None:
    subscription = Subscription("r")
    reading = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert not reading.done()
    subscription.push(STARTED)
    assert await reading == STARTED
    subscription.push(step(1))
    subscription.finish(InternalError("broken"))
    assert await anext(subscription) == step(1)
    with pytest.raises(InternalError, match="broken"):
        await anext(subscription)
    with pytest.raises(StopAsyncIteration):
        await anext(subscription)
