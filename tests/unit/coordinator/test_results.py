from __future__ import annotations

import pytest

from argus.coordinator.results import ResultMemory
from argus.errors import InvalidArgumentError
from argus.types import ImageRequest
from argus.v1 import image_pb2


def request(request_id: str, seed: int = 1, deadline_s: float | None = None) -> ImageRequest:
    return ImageRequest(request_id=request_id, prompt="p", seed=seed, deadline_s=deadline_s)


def response(request_id: str, size: int = 1000) -> image_pb2.GenerateResponse:
    image = image_pb2.Image(data=bytes(size))
    return image_pb2.GenerateResponse(request_id=request_id, image=image)


def test_an_image_is_remembered_for_its_time_and_no_longer() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=10_000)
    memory.remember(request("a"), response("a"), 0.0)
    assert memory.find(request("a", deadline_s=3.0), 9.9) == response("a")
    assert memory.find(request("b"), 9.9) is None
    assert memory.find(request("a"), 10.0) is None
    assert (len(memory), memory.bytes_used) == (0, 0)


def test_the_least_recently_used_goes_first_and_bytes_stay_within_the_limit() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=3 * 2024)
    for name in "abc":
        memory.remember(request(name), response(name), 0.0)
    memory.find(request("a"), 1.0)
    memory.remember(request("d"), response("d"), 1.0)
    assert memory.find(request("b"), 2.0) is None
    assert all(memory.find(request(name), 2.0) for name in "acd")
    assert memory.bytes_used == 3 * 2024
    memory.remember(request("d"), response("d"), 2.0)
    assert len(memory) == 3


def test_what_is_larger_than_the_memory_is_not_kept() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=1500)
    memory.remember(request("a"), response("a"), 0.0)
    assert len(memory) == 0
    off = ResultMemory(ttl_s=0.0, limit_bytes=10_000)
    off.remember(request("a"), response("a"), 0.0)
    assert len(off) == 0


def test_the_id_of_another_request_is_refused() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=10_000)
    memory.remember(request("a"), response("a"), 0.0)
    with pytest.raises(InvalidArgumentError, match="request_id"):
        memory.find(request("a", seed=2), 1.0)


def test_expiry_frees_everything_that_is_old() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=10_000)
    memory.remember(request("a"), response("a"), 0.0)
    memory.remember(request("b"), response("b"), 5.0)
    memory.expire(12.0)
    assert (len(memory), memory.bytes_used) == (1, 2024)


def test_what_was_asked_for_again_does_not_live_longer_nor_shield_what_is_old() -> None:
    memory = ResultMemory(ttl_s=10.0, limit_bytes=10_000)
    memory.remember(request("a"), response("a"), 0.0)
    memory.remember(request("b"), response("b"), 5.0)
    memory.find(request("a"), 6.0)
    memory.remember(request("b"), response("b"), 8.0)
    memory.expire(15.0)
    assert not memory.holds("a")
    assert memory.find(request("b"), 17.9) == response("b")
    assert memory.find(request("b"), 18.0) is None
    assert (len(memory), memory.bytes_used) == (0, 0)
