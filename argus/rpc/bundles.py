"""Several messages of a stream sent as one: each message costs both ends far more than its bytes.

Only what waits anyway is gathered, so nothing is held back for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from argus.errors import InvalidArgumentError
from argus.v1 import cluster_pb2, image_pb2

MOST_MESSAGES = 64
MOST_BYTES = 2**18
"""With so many of them a bundle takes no more, so that what comes next does not wait long."""

Message = TypeVar(
    "Message", cluster_pb2.JoinRequest, cluster_pb2.JoinResponse, image_pb2.GenerateResponse
)


def gather(first: Message, following: Callable[[], Message | None]) -> list[Message]:
    """Return the messages to be sent together, `first` being one of them.

    Args:
        first: goes in any case.
        following: takes the next one that waits; None: none does.
    """
    gathered = [first]
    size = first.ByteSize()
    while size < MOST_BYTES and len(gathered) < MOST_MESSAGES:
        message = following()
        if message is None:
            break
        gathered.append(message)
        size += message.ByteSize()
    return gathered


def bundle(messages: Sequence[Message]) -> Message:
    """Return one message that holds `messages`, or the only one as it is."""
    if len(messages) == 1:
        return messages[0]
    return type(messages[0])(more=messages)


def unbundle(message: Message) -> Iterable[Message]:
    """Return the messages that one holds, or itself where it holds none.

    Raises:
        InvalidArgumentError: it holds more than anybody sends: they are applied in one go.
    """
    if len(message.more) > MOST_MESSAGES:
        most = f"must be at most {MOST_MESSAGES} messages, not {len(message.more):,}"
        raise InvalidArgumentError("more", most)
    return message.more or (message,)
