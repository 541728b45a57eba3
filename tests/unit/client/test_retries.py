"""When to try again, and how long to wait; on a clock that only moves when told to."""

from __future__ import annotations

import random

import pytest

from argus.client.retries import DEADLINE_SLACK_S, PATIENCE_S, Attempts, Retries
from argus.clock import ManualClock
from argus.errors import (
    ArgusError,
    CancelledError,
    DeadlineError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    OverloadedError,
    UnavailableError,
)
from argus.types import ImageRequest

AWAY = UnavailableError("no node")
NEVER_AGAIN = [
    InvalidArgumentError("steps", "no"),
    InternalError("?"),
    DeadlineError("late"),
    CancelledError("given up"),
]


def attempts(deadline_s: float | None = None, **retries: float) -> tuple[Attempts, ManualClock]:
    clock = ManualClock(100.0)
    return Attempts(Retries(**retries), deadline_s, "r-1", clock, random.Random(0)), clock


def test_waits_double_up_to_the_longest_and_are_jittered() -> None:
    trying, _ = attempts(attempts=8, first_wait_s=0.2, longest_wait_s=2.0)
    waits = [trying.wait_s(AWAY) for _ in range(7)]
    for wait, full in zip(waits, [0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0], strict=True):
        assert full / 2 <= wait <= full
    assert len(set(waits)) == 7


def test_the_last_attempt_raises_the_error_itself() -> None:
    trying, _ = attempts(attempts=2)
    trying.wait_s(AWAY)
    with pytest.raises(UnavailableError) as caught:
        trying.wait_s(AWAY)
    assert caught.value is AWAY


def test_a_full_server_is_not_asked_earlier_than_it_said() -> None:
    trying, _ = attempts(first_wait_s=0.1)
    assert 7.0 <= trying.wait_s(OverloadedError("full", 7.0)) <= 7.2


def test_who_would_rather_be_told_is_told_that_a_server_is_full() -> None:
    trying, _ = attempts(when_full=False)
    full = OverloadedError("full", 0.1)
    with pytest.raises(OverloadedError) as caught:
        trying.wait_s(full)
    assert caught.value is full
    assert trying.wait_s(AWAY) > 0


@pytest.mark.parametrize("error", NEVER_AGAIN, ids=lambda e: type(e).__name__)
def test_nothing_else_is_tried_again(error: ArgusError) -> None:
    trying, _ = attempts()
    with pytest.raises(type(error)):
        trying.wait_s(error)


def test_a_wait_that_would_miss_the_deadline_is_not_begun() -> None:
    trying, clock = attempts(deadline_s=5.0)
    trying.wait_s(AWAY)
    clock.advance(3.0)
    with pytest.raises(OverloadedError):
        trying.wait_s(OverloadedError("full", 2.5))


def test_each_attempt_is_told_what_remains_of_the_deadline() -> None:
    trying, clock = attempts(deadline_s=5.0)
    request = ImageRequest(request_id="r", prompt="p", deadline_s=5.0)
    assert trying.message(request).deadline_s == 5.0
    assert trying.call_timeout_s() == 5.0 + DEADLINE_SLACK_S
    trying.wait_s(AWAY)
    clock.advance(2.0)
    again = trying.message(request)
    assert (again.request_id, again.deadline_s) == ("r", 3.0)
    clock.advance(3.0)
    with pytest.raises(DeadlineError, match="5 s passed"):
        trying.message(request)


def lost_for_s(trying: Attempts, clock: ManualClock, error: ArgusError) -> float:
    """Return how long an accepted request is asked for again while `error` comes back."""
    start_s = clock.now()
    while True:
        try:
            clock.advance(trying.wait_s(error))
        except type(error):
            return clock.now() - start_s


@pytest.mark.parametrize("error", [AWAY, NotFoundError("variant", "base", [])], ids=repr)
def test_an_accepted_request_is_asked_for_again_until_a_coordinator_is_back(
    error: ArgusError,
) -> None:
    trying, clock = attempts(attempts=4)
    trying.received()
    trying.wait_s(AWAY)
    assert PATIENCE_S <= lost_for_s(trying, clock, error) <= PATIENCE_S + 1


def test_an_unknown_name_is_final_while_the_server_is_there() -> None:
    trying, _ = attempts()
    trying.received()
    with pytest.raises(NotFoundError):
        trying.wait_s(NotFoundError("variant", "base", []))


def test_patience_starts_anew_when_the_request_is_accepted_again() -> None:
    trying, clock = attempts(attempts=3)
    for _ in range(2):
        trying.received()
        clock.advance(60.0)
        assert trying.wait_s(AWAY) <= 0.2
        clock.advance(PATIENCE_S - 1)
        trying.wait_s(AWAY)
    trying.received()
    with pytest.raises(UnavailableError):
        trying.wait_s(AWAY)


def test_patience_ends_with_the_deadline() -> None:
    trying, clock = attempts(deadline_s=5.0)
    trying.received()
    assert 3.5 <= lost_for_s(trying, clock, AWAY) <= 5.0


def test_who_wants_one_attempt_gets_one() -> None:
    trying, _ = attempts(attempts=1)
    trying.received()
    with pytest.raises(UnavailableError, match="repeating it with request_id=r-1 is safe"):
        trying.wait_s(AWAY)


def of_several(**retries: float) -> tuple[Attempts, ManualClock]:
    clock = ManualClock(100.0)
    return Attempts(Retries(**retries), None, "r-1", clock, random.Random(0), servers=3), clock


def test_all_servers_are_asked_before_the_first_wait_and_between_two() -> None:
    trying, _ = of_several(first_wait_s=0.2)
    waits = [trying.wait_s(AWAY) for _ in range(6)]
    assert [wait > 0 for wait in waits] == [False, False, True] * 2
    assert 0.1 <= waits[2] <= 0.2
    assert 0.2 <= waits[5] <= 0.4


def test_one_of_several_servers_is_waited_for_even_by_what_was_not_accepted() -> None:
    trying, clock = of_several(attempts=2)
    assert PATIENCE_S <= lost_for_s(trying, clock, AWAY) <= PATIENCE_S + 1


def test_who_asks_several_servers_for_no_picture_is_told_sooner() -> None:
    clock = ManualClock(100.0)
    trying = Attempts(Retries(attempts=4), None, "", clock, random.Random(0), servers=2)
    assert lost_for_s(trying, clock, AWAY) < 2.0


def test_a_full_server_of_several_is_asked_as_often_as_a_single_one() -> None:
    trying, clock = of_several(attempts=2)
    trying.wait_s(AWAY)
    full = OverloadedError("full", 0.1)
    clock.advance(trying.wait_s(full))
    with pytest.raises(OverloadedError):
        trying.wait_s(full)


def test_who_wants_one_attempt_asks_each_server_once() -> None:
    trying, _ = of_several(attempts=1)
    assert trying.wait_s(AWAY) == trying.wait_s(AWAY) == 0.0
    with pytest.raises(UnavailableError):
        trying.wait_s(AWAY)


def test_a_name_may_be_unknown_to_the_next_server_after_a_loss() -> None:
    trying, _ = of_several()
    trying.received()
    assert trying.wait_s(AWAY) == 0.0
    assert trying.wait_s(NotFoundError("variant", "base", [])) > 0


def test_without_a_deadline_there_is_no_timeout() -> None:
    trying, clock = attempts()
    clock.advance(1e6)
    assert trying.call_timeout_s() is None


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"first_wait_s": 0}, {"longest_wait_s": 0.1}])
def test_retries_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retries(**wrong)
