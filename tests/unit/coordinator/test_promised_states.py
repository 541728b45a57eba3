"""What a row is given besides its state: a partition of its own kind, and a way out in time."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from argus.control.offers import Offer
from argus.control.policy import Task
from argus.control.reuse import NearState
from argus.control.router import Decision
from argus.control.row_costs import RowShape
from argus.coordinator.flight import Flight
from argus.coordinator.partitions import partition_of
from argus.types import ImageRequest, Level

from .bench import BASE

NEAR = NearState("base", 10, "key", 0.99, {5: frozenset({"a"})})
OFFER = Offer(
    level=Level("base-skip", "base", 1.0, 0.95, 0.5),
    row=RowShape("base", 64, 64, 5, 2),
    guidance=1.0,
    sampler="ddim",
    quality=0.95,
    steps=10,
    reference_steps=10,
    skip=5,
    near=NEAR,
)
REQUEST = ImageRequest("r", "a red circle", deadline_s=2.0)


def flight(request: ImageRequest, offer: Offer) -> Flight:
    decision = Decision(offer, "a", 1.0)
    deadline_s = math.inf if request.deadline_s is None else request.deadline_s
    task = Task("r", (offer,), arrived_s=0.0, deadline_at_s=deadline_s, decision=decision)
    return Flight(request, 7, task)


@pytest.mark.parametrize(
    ("request_", "offer", "fewest"),
    [
        (REQUEST, OFFER, 5),
        (replace(REQUEST, deadline_s=None), OFFER, 0),
        (replace(REQUEST, min_quality=0.9), OFFER, 0),
        (REQUEST, replace(OFFER, near=None, skip=0), 0),
    ],
)
def test_a_row_that_misses_its_state_may_do_as_few_forwards_as_it_was_accepted_with(
    request_: ImageRequest, offer: Offer, fewest: int
) -> None:
    assert flight(request_, offer).resolved().fewest_forwards == fewest


@pytest.mark.parametrize("changes", [{"true_guidance": 3.0}, {"guidance_rescale": 0.5}])
def test_the_negative_prompt_tells_partitions_apart_wherever_it_plays_a_part(
    changes: dict[str, float],
) -> None:
    first, second = (
        partition_of(replace(REQUEST, negative_prompt=text, **changes), OFFER, BASE, shared=False)
        for text in ("blue", "green")
    )
    assert first.digest != second.digest
    plain = partition_of(replace(REQUEST, negative_prompt="blue"), OFFER, BASE, shared=False)
    assert plain == partition_of(REQUEST, OFFER, BASE, shared=False)
