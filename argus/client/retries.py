"""When to try again, and how long to wait: shared by both clients."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from argus.clock import Clock, MonotonicClock
from argus.errors import ArgusError, DeadlineError, OverloadedError, UnavailableError
from argus.rpc.convert import image_request_to_proto
from argus.types import ImageRequest
from argus.v1 import image_pb2

DEADLINE_SLACK_S = 1.0
"""The server says that it is late, with details, before gRPC cuts the call."""


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try, and how long to wait between attempts. Times in seconds.

    Only what is safe is tried again: no node or no server (UNAVAILABLE) and a server that is full
    (RESOURCE_EXHAUSTED), always with the same request id, never beyond the deadline. Waits double
    from `first_wait_s` to `longest_wait_s`, each drawn between half of that and all of it; a
    server that says when to come back is not asked earlier.
    """

    attempts: int = 6
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.first_wait_s <= self.longest_wait_s:
            raise ValueError(f"attempts must be at least 1 and waits above 0, ascending: {self}")


@dataclass(slots=True)
class Attempts:
    """The attempts at one request. Deadline and waits are measured on `clock`."""

    retries: Retries
    deadline_s: float | None = None
    clock: Clock = field(default_factory=MonotonicClock)
    random: random.Random = field(default_factory=random.Random)
    failed: int = 0
    _started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self._started_s = self.clock.now()

    def remaining_s(self) -> float | None:
        """Return the seconds left, or None without a deadline.

        Raises:
            DeadlineError: none are left.
        """
        if self.deadline_s is None:
            return None
        left_s = self.deadline_s - (self.clock.now() - self._started_s)
        if left_s <= 0:
            raise DeadlineError(f"the deadline of {self.deadline_s:g} s passed")
        return left_s

    def call_timeout_s(self) -> float | None:
        """Return the seconds after which gRPC itself should give the call up, or None."""
        left_s = self.remaining_s()
        return None if left_s is None else left_s + DEADLINE_SLACK_S

    def message(self, request: ImageRequest) -> image_pb2.GenerateRequest:
        """Return the request to send now: its deadline counts from the first attempt."""
        if self.failed == 0:
            return image_request_to_proto(request)
        return image_request_to_proto(replace(request, deadline_s=self.remaining_s()))

    def wait_s(self, error: ArgusError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            ArgusError: `error` itself, where another attempt is not safe, not left, or would
                come after the deadline.
        """
        self.failed += 1
        if not isinstance(error, UnavailableError | OverloadedError):
            raise error
        if self.failed >= self.retries.attempts:
            raise error
        doubled_s = self.retries.first_wait_s * 2.0 ** (self.failed - 1)
        wait_s = min(doubled_s, self.retries.longest_wait_s) * self.random.uniform(0.5, 1.0)
        if isinstance(error, OverloadedError):
            wait_s += error.retry_after_s
        if self.deadline_s is not None:
            late_s = self.clock.now() + wait_s - self._started_s
            if late_s >= self.deadline_s:
                raise error
        return wait_s
