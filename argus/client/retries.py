"""When to try again, and how long to wait: shared by both clients."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

from argus.clock import Clock, MonotonicClock
from argus.errors import (
    ArgusError,
    DeadlineError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.rpc.convert import image_request_to_proto
from argus.types import ImageRequest
from argus.v1 import image_pb2

DEADLINE_SLACK_S = 1.0
"""The server says that it is late, with details, before gRPC cuts the call."""
PATIENCE_S = 15.0
"""How long a request that was accepted is asked for again: a coordinator is back in seconds."""
LONGEST_LOST_WAIT_S = 1.0


@dataclass(frozen=True, slots=True)
class Retries:
    """How often to try, and how long to wait between attempts. Times in seconds.

    Only what is safe is tried again: no node or no server (UNAVAILABLE) and a server that is full
    (RESOURCE_EXHAUSTED), always with the same request id, never beyond the deadline. Waits double
    from `first_wait_s` to `longest_wait_s`, each drawn between half of that and all of it; a
    server that says when to come back is not asked earlier.

    With `when_full` false a server that is full is not asked again: its refusal is passed on.

    A request that was accepted and then lost is asked for again for PATIENCE_S seconds, at least
    once a second, and at most `attempts` such losses are borne. Of several servers all are asked
    before each wait, and a picture is asked for so long even before its request was accepted: one
    of them is about to lead.
    """

    attempts: int = 6
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    when_full: bool = True

    def __post_init__(self) -> None:
        if self.attempts < 1 or not 0 < self.first_wait_s <= self.longest_wait_s:
            raise ValueError(f"attempts must be at least 1 and waits above 0, ascending: {self}")


@dataclass(slots=True)
class Attempts:
    """The attempts at one request. Deadline, waits and patience are measured on `clock`."""

    retries: Retries
    deadline_s: float | None = None
    request_id: str = ""
    clock: Clock = field(default_factory=MonotonicClock)
    random: random.Random = field(default_factory=random.Random)
    failed: int = 0
    servers: int = 1
    _losses: int = field(init=False, default=0)
    _lost_s: float | None = field(init=False, default=None)
    _accepted: bool = field(init=False, default=False)
    _asked: int = field(init=False, default=0)
    """Servers asked in vain since the last wait."""
    _away_s: float | None = field(init=False, default=None)
    """Since when none was available."""
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
        if self.failed or self._asked:
            request = replace(request, deadline_s=self.remaining_s())
        message = image_request_to_proto(request)
        message.reads_bundles = True
        return message

    def received(self) -> None:
        """Take note of an event: the request is accepted and its server alive."""
        self._accepted = True
        self._lost_s = self._away_s = None
        self._asked = 0

    def wait_s(self, error: ArgusError) -> float:
        """Return the seconds to wait before the next attempt.

        Raises:
            ArgusError: `error` itself, where another attempt is not safe, not left, or would
                come after the deadline; it says so when repeating an accepted request is safe.
        """
        if not self._is_safe_after(error):
            raise error
        if self._has_another(error) and not self._is_late_in(0.0):
            self._note_loss()
            return 0.0
        self.failed += 1
        self._note_loss()
        wait_s = self._backoff_s()
        if isinstance(error, OverloadedError):
            wait_s += error.retry_after_s
        if self._is_used_up() or self._is_late_in(wait_s):
            raise self._given_up(error)
        return wait_s

    def _is_safe_after(self, error: ArgusError) -> bool:
        if isinstance(error, NotFoundError):
            # The names were known before the loss: a new coordinator still lacks its nodes.
            return self._lost_s is not None
        if isinstance(error, OverloadedError):
            return self.retries.when_full
        return isinstance(error, UnavailableError)

    def _has_another(self, error: ArgusError) -> bool:
        """Return whether another server is to be asked at once: this one is not available."""
        if not isinstance(error, UnavailableError) or self.servers == 1:
            self._asked, self._away_s = 0, None
            return False
        self._asked += 1
        if self._away_s is None:
            self._away_s = self.clock.now()
        return self._asked % self.servers > 0

    def _note_loss(self) -> None:
        if self._accepted and self._lost_s is None:
            self._lost_s = self.clock.now()
            self._losses += 1
            self.failed = 1

    def _backoff_s(self) -> float:
        longest_s = self.retries.longest_wait_s
        if self._accepted or self.servers > 1:
            longest_s = min(longest_s, LONGEST_LOST_WAIT_S)
        doubled_s = min(self.retries.first_wait_s * 2.0 ** min(self.failed - 1, 60), longest_s)
        return doubled_s * self.random.uniform(0.5, 1.0)

    def _is_used_up(self) -> bool:
        if self.retries.attempts == 1:
            return True
        if self._lost_s is None and self._away_s is not None and self.request_id:
            return self.clock.now() - self._away_s >= PATIENCE_S
        if self._lost_s is None:
            return self.failed >= self.retries.attempts
        lost_for_s = self.clock.now() - self._lost_s
        return self._losses >= self.retries.attempts or lost_for_s >= PATIENCE_S

    def _is_late_in(self, wait_s: float) -> bool:
        if self.deadline_s is None:
            return False
        return self.clock.now() + wait_s - self._started_s >= self.deadline_s

    def _given_up(self, error: ArgusError) -> ArgusError:
        if self._accepted and isinstance(error, UnavailableError):
            return UnavailableError(
                f"{error}; the request had been accepted: repeating it with "
                f"request_id={self.request_id} is safe"
            )
        return error
