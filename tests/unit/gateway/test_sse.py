"""Events on their way: ends, silences, clients that leave or take nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from argus.gateway import sse
from argus.gateway.sse import EventStream, Frame


class Peer:
    """A client as ASGI sees it; leaves when told, takes nothing while `stuck`."""

    def __init__(self) -> None:
        self.got: list[dict[str, Any]] = []
        self.left = asyncio.Event()
        self.stuck = False

    async def receive(self) -> dict[str, Any]:
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if self.stuck and self.got:
            await asyncio.Event().wait()
        self.got.append(message)

    async def has_got(self, text: bytes, times: int = 1) -> None:
        async with asyncio.timeout(5):
            while self.body.count(text) < times:  # noqa: ASYNC110 - the sender sets no event
                await asyncio.sleep(0.002)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.got)


class Source:
    """Frames, and whether their generator was closed, after some time as clean-up takes."""

    def __init__(self, count: int, then_wait: bool = False) -> None:
        self.count = count
        self.then_wait = then_wait
        self.closed = False

    async def frames(self) -> AsyncGenerator[Frame, None]:
        try:
            for n in range(self.count):
                yield Frame("n", {"n": n})
            if self.then_wait:
                await asyncio.Event().wait()
        finally:
            for _ in range(5):
                await asyncio.sleep(0)
            self.closed = True


async def run(source: Source, peer: Peer) -> None:
    async with asyncio.timeout(5):
        await EventStream(source.frames())({"type": "http"}, peer.receive, peer.send)


async def test_frames_are_sent_and_the_answer_ends() -> None:
    source, peer = Source(2), Peer()
    await run(source, peer)
    assert peer.body == b'event: n\ndata: {"n":0}\n\nevent: n\ndata: {"n":1}\n\n'
    assert not peer.got[-1].get("more_body", False)
    assert b"content-length" not in dict(peer.got[0]["headers"])
    assert source.closed


async def test_a_client_that_leaves_closes_the_source() -> None:
    source, peer = Source(1, then_wait=True), Peer()
    task = asyncio.create_task(run(source, peer))
    await peer.has_got(b"event: n")
    peer.left.set()
    await task
    assert source.closed
    assert peer.got[-1]["more_body"]


async def test_a_silence_is_filled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "KEEP_ALIVE_S", 0.01)
    source, peer = Source(0, then_wait=True), Peer()
    task = asyncio.create_task(run(source, peer))
    await peer.has_got(b": still here\n\n", times=2)
    peer.left.set()
    await task
    assert source.closed


async def test_a_client_that_takes_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sse, "STALLED_S", 0.02)
    source, peer = Source(3), Peer()
    peer.stuck = True
    await run(source, peer)
    assert source.closed
    assert len(peer.got) == 1


async def test_a_server_that_is_ending_closes_the_source() -> None:
    source, peer = Source(1, then_wait=True), Peer()
    task = asyncio.create_task(run(source, peer))
    await peer.has_got(b"event: n")
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert source.closed
