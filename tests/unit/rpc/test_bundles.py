from __future__ import annotations

from collections import deque

import pytest

from argus.errors import InvalidArgumentError
from argus.rpc import bundles
from argus.rpc.bundles import MOST_MESSAGES, bundle, gather, unbundle
from argus.v1 import cluster_pb2, image_pb2


def cancel(number: int) -> cluster_pb2.JoinResponse:
    return cluster_pb2.JoinResponse(cancel=cluster_pb2.CancelWork(request_id=f"r{number}"))


def test_what_is_bundled_comes_out_as_it_went_in() -> None:
    messages = [cancel(number) for number in range(3)]
    sent = cluster_pb2.JoinResponse.FromString(bundle(messages).SerializeToString())
    assert sent.WhichOneof("message") is None
    assert list(unbundle(sent)) == messages


def test_one_message_goes_as_it_is() -> None:
    message = image_pb2.GenerateResponse(request_id="r", queued=image_pb2.Queued())
    assert bundle([message]) is message
    assert list(unbundle(message)) == [message]


def test_nothing_is_waited_for_and_no_more_is_taken_than_fits() -> None:
    waiting = deque(cancel(number) for number in range(2 * MOST_MESSAGES))

    def following() -> cluster_pb2.JoinResponse | None:
        return waiting.popleft() if waiting else None

    assert len(gather(cancel(-1), following)) == MOST_MESSAGES
    assert len(waiting) == MOST_MESSAGES + 1
    waiting.clear()
    assert gather(cancel(-1), following) == [cancel(-1)]


def test_a_bundle_of_more_than_anybody_sends_is_refused() -> None:
    message = cluster_pb2.JoinRequest(
        more=[cluster_pb2.JoinRequest() for _ in range(MOST_MESSAGES)]
    )
    assert len(list(unbundle(message))) == MOST_MESSAGES
    message.more.add()
    with pytest.raises(InvalidArgumentError, match="more: must be at most 64 messages, not 65"):
        unbundle(message)


def test_nothing_is_added_to_what_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MOST_BYTES", 1000)
    large = cluster_pb2.JoinRequest(
        event=cluster_pb2.WorkEvent(done=cluster_pb2.WorkDone(data=bytes(1000)))
    )
    waiting = deque([large, large])
    small = cluster_pb2.JoinRequest(draining=cluster_pb2.Draining())
    assert gather(large, waiting.popleft) == [large]
    assert gather(small, waiting.popleft) == [small, large]
    assert len(waiting) == 1
