"""What waits to be sent to the coordinator."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

from argus.v1 import cluster_pb2

HEARTBEAT = "heartbeat"


class Outbox:
    """Messages in order, heartbeats first, with progress merged: of a row's step events and
    previews only the newest waits, so that a slow link cannot make memory grow."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[object, cluster_pb2.JoinRequest] = OrderedDict()
        self._changed = asyncio.Event()
        self._closed = False

    def put(self, message: cluster_pb2.JoinRequest) -> None:
        """Queue a message; call from the event loop's thread."""
        key = self._key(message)
        self._waiting[key] = message
        if key == HEARTBEAT:
            # A sign of life must not wait behind images on a slow link.
            self._waiting.move_to_end(key, last=False)
        self._changed.set()

    def close(self) -> None:
        """Let `get` return None once everything queued has been taken."""
        self._closed = True
        self._changed.set()

    async def get(self) -> cluster_pb2.JoinRequest | None:
        """Return the oldest message, waiting for one; None after the last of a closed outbox."""
        while not self._waiting:
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        return self._waiting.popitem(last=False)[1]

    def get_nowait(self) -> cluster_pb2.JoinRequest | None:
        """Return the oldest message; None where none waits."""
        return self._waiting.popitem(last=False)[1] if self._waiting else None

    @staticmethod
    def _key(message: cluster_pb2.JoinRequest) -> object:
        """Return what a later message must share to replace this one."""
        if message.WhichOneof("message") == "heartbeat":
            return HEARTBEAT
        kind = message.event.WhichOneof("event")
        if kind in {"step", "preview"}:
            return message.event.request_id, message.event.attempt, kind
        return id(message)
