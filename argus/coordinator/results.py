"""Images remembered by request id, so that a retry never makes a second one."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace

from argus.errors import InvalidArgumentError
from argus.types import ImageRequest
from argus.v1 import image_pb2

_OVERHEAD_BYTES = 1024


def check_same(known: ImageRequest, asked: ImageRequest) -> None:
    """Raise unless `asked` may be answered by the image of `known`, which has the same id.

    The deadline may differ: a retry has less time left.

    Raises:
        InvalidArgumentError: names request_id.
    """
    if replace(known, deadline_s=None) != replace(asked, deadline_s=None):
        raise InvalidArgumentError(
            "request_id", f"{asked.request_id!r} was used for a request with other parameters"
        )


@dataclass(frozen=True, slots=True)
class _Entry:
    request: ImageRequest
    response: image_pb2.GenerateResponse
    expires_s: float
    size_bytes: int


class ResultMemory:
    """Finished images, least recently used forgotten first.

    Args:
        ttl_s: seconds an image is remembered.
        limit_bytes: bytes of images remembered at most.
    """

    def __init__(self, ttl_s: float, limit_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._limit_bytes = limit_bytes
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._by_age: OrderedDict[str, float] = OrderedDict()
        """When entries expire, the oldest first: all live equally long."""
        self.bytes_used = 0

    def __len__(self) -> int:
        return len(self._entries)

    def holds(self, request_id: str) -> bool:
        """Whether an image is remembered by that id."""
        return request_id in self._entries

    def find(self, request: ImageRequest, now_s: float) -> image_pb2.GenerateResponse | None:
        """Return the image event of an earlier request with this id, or None.

        Raises:
            InvalidArgumentError: the earlier request had other parameters.
        """
        entry = self._entries.get(request.request_id)
        if entry is None:
            return None
        if entry.expires_s <= now_s:
            self._forget(request.request_id)
            return None
        check_same(entry.request, request)
        self._entries.move_to_end(request.request_id)
        return entry.response

    def remember(
        self, request: ImageRequest, response: image_pb2.GenerateResponse, now_s: float
    ) -> None:
        """Keep the image event of a request; one larger than the whole memory is not kept."""
        self.expire(now_s)
        size_bytes = len(response.image.data) + _OVERHEAD_BYTES
        if size_bytes > self._limit_bytes or self._ttl_s <= 0:
            return
        if request.request_id in self._entries:
            self._forget(request.request_id)
        entry = _Entry(request, response, now_s + self._ttl_s, size_bytes)
        self._entries[request.request_id] = entry
        self._by_age[request.request_id] = entry.expires_s
        self.bytes_used += size_bytes
        while self.bytes_used > self._limit_bytes:
            self._forget(next(iter(self._entries)))

    def expire(self, now_s: float) -> None:
        """Forget what is older than the time to live; takes as long as there is to forget."""
        while self._by_age:
            request_id, expires_s = next(iter(self._by_age.items()))
            if expires_s > now_s:
                return
            self._forget(request_id)

    def _forget(self, request_id: str) -> None:
        del self._by_age[request_id]
        self.bytes_used -= self._entries.pop(request_id).size_bytes
