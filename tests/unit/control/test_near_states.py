"""Levels that continue a cached state: who is offered them, and where they may run."""

from __future__ import annotations

import json
from typing import Any

import pytest

from argus.control.levels import PUBLISHED_SKIPS, Ladder, LevelProfile, parse_profile
from argus.control.offers import Offer, make_offers
from argus.control.predictor import LevelMeans
from argus.control.reuse import PUBLISHED, NearState, SimilarityThresholds
from argus.errors import ConfigError
from argus.types import ImageRequest, Level
from tests.unit.control.build import node, variant
from tests.unit.control.deciding import decide

BASE = variant("base", weights="w")
LADDER = Ladder.build(
    LevelProfile(
        "base",
        (
            Level("base", "base", 1.0, 1.0),
            Level("skip-10", "base", 1.0, 0.97, 0.1),
            Level("skip-50", "base", 1.0, 0.9, 0.5),
            Level("half", "base", 0.5, 0.8),
        ),
    ),
    [BASE],
)
EVERYWHERE = frozenset({"n1", "n2"})


def near(similarity: float = 0.97, **changes: Any) -> NearState:
    nodes = {5: EVERYWHERE, 25: EVERYWHERE}
    values = {"variant": "base", "steps": 50, "key": "k", "nodes": nodes, "fetch_s": 0.0}
    return NearState(similarity=similarity, **(values | changes))


def offers(*states: NearState, always: bool = False, **fields: Any) -> tuple[Offer, ...]:
    request = ImageRequest(**({"request_id": "r", "prompt": "a star"} | fields))
    return make_offers(request, LADDER, {"base": BASE}, LevelMeans(), states, always_reuse=always)


def names(*states: NearState, **options: Any) -> list[str]:
    return [offer.level.name for offer in offers(*states, **options)]


def test_a_level_that_skips_is_offered_as_far_as_the_neighbour_is_near_enough() -> None:
    assert names(deadline_s=9.0) == ["base", "half"]
    assert names(near(0.5), deadline_s=9.0) == ["base", "half"]
    assert names(near(0.7), deadline_s=9.0) == ["base", "skip-10", "half"]
    assert names(near(0.97), deadline_s=9.0) == ["base", "skip-10", "skip-50", "half"]


def test_states_of_another_step_count_or_variant_or_out_of_reach_are_none() -> None:
    for state in (near(steps=25), near(variant="small"), near(nodes={25: frozenset()})):
        assert names(state, deadline_s=9.0) == ["base", "half"]
    only_late = near(nodes={5: frozenset(), 25: EVERYWHERE})
    assert names(only_late, deadline_s=9.0) == ["base", "skip-50", "half"]


def test_a_reused_row_runs_what_is_left_and_knows_what_it_is_without_its_state() -> None:
    (skipping,) = [o for o in offers(near(), deadline_s=9.0) if o.level.name == "skip-50"]
    assert (skipping.steps, skipping.skip, skipping.reference_steps) == (50, 25, 50)
    assert skipping.row.forwards == 25
    assert skipping.whole.forwards == 50


def test_without_a_deadline_nothing_is_approximated_unless_told_to() -> None:
    assert names(near()) == ["base"]
    assert names(near(), always=True) == ["skip-50", "base"]
    assert names(near(0.7), always=True) == ["skip-10", "base"]
    assert names(always=True) == ["base"]


@pytest.mark.parametrize("deadline_s", [None, 60.0])
def test_a_level_asked_for_by_name_is_held_to_where_there_is_a_state(
    deadline_s: float | None,
) -> None:
    found = offers(near(), level="skip-50", deadline_s=deadline_s)
    assert [o.level.name for o in found] == ["skip-50", "base"]
    decision = decide(found, [node("n1")], deadline_s)
    assert decision is not None
    assert decision.offer.level.name == "skip-50"
    assert names(near(0.7), level="skip-50", deadline_s=deadline_s) == ["base"]
    assert names(level="skip-50", deadline_s=deadline_s) == ["base"]


def test_a_floor_under_the_quality_leaves_the_whole_run() -> None:
    assert names(near(), level="skip-50", min_quality=0.95) == ["base"]
    assert names(near(), deadline_s=9.0, min_quality=0.95) == ["base", "skip-10"]


def test_a_row_goes_where_its_state_can_be_read() -> None:
    pinned = offers(near(nodes={25: frozenset({"n2"})}), level="skip-50")
    busy = node("n2")
    busy.add("other", pinned[0].row)
    decision = decide(pinned, [node("n1"), busy], None)
    assert decision is not None
    assert (decision.node, decision.offer.level.name) == ("n2", "skip-50")


def test_the_whole_run_takes_its_place_when_nobody_can_read_the_state_any_more() -> None:
    pinned = offers(near(nodes={25: frozenset({"gone"})}), level="skip-50")
    for decision in (decide(pinned, [node("n1")], None), decide(pinned, [node("n1")], 60.0)):
        assert decision is not None
        assert (decision.node, decision.offer.level.name) == ("n1", "base")


def test_fetching_counts_against_the_deadline() -> None:
    # Idle: 0.05 + 25 · 0.12 + 0.2 = 3.25 s after the fetch.
    quick, slow = (offers(near(fetch_s=s), deadline_s=3.5)[2] for s in (0.1, 0.4))
    assert decide([quick], [node("n1")], 3.5) is not None
    assert decide([slow], [node("n1")], 3.5) is None


def test_a_variant_of_which_nothing_was_measured_gets_the_published_levels_with_a_cache() -> None:
    plain = Ladder.build(None, [BASE], cached=False)
    assert [x.name for x in plain.all] == ["base-reference"]
    cached = Ladder.build(None, [BASE], cached=True)
    assert [x.skip_fraction for x in cached.all] == [0.0, *PUBLISHED_SKIPS]
    assert [x.quality for x in cached.all] == [1.0, *PUBLISHED_SKIPS.values()]
    assert len({x.name for x in cached.all}) == 6
    without_weights = Ladder.build(None, [variant("base")], cached=True)
    assert len(without_weights.all) == 1


def file(**reuse: Any) -> str:
    level = {"name": "b", "variant": "base", "steps_fraction": 1.0, "quality": 1.0, "measured": "x"}
    return json.dumps({"reference": {"variant": "base"}, "levels": [level]} | reuse)


def test_measured_thresholds_hold_for_their_family_and_the_published_for_others() -> None:
    reuse = {"similarities": [0.9, 0.99], "fractions": [0.1, 0.5], "measured": "x"}
    ladder = Ladder.build(parse_profile(file(reuse=reuse), "f"), [BASE, variant("other")])
    assert ladder.thresholds("base") == SimilarityThresholds((0.9, 0.99), (0.1, 0.5))
    assert ladder.thresholds("other") == PUBLISHED
    assert Ladder.build(parse_profile(file(), "f"), [BASE]).thresholds("base") == PUBLISHED


def test_thresholds_decide_which_state_may_be_used() -> None:
    strict = SimilarityThresholds((0.9, 0.99), (0.1, 0.5))
    assert near(0.97).allows(25)
    assert not near(0.97, harmless=strict).allows(25)
    assert near(0.97, harmless=strict).allows(5)
    assert near(0.995, harmless=strict).allows(25)


@pytest.mark.parametrize(
    "reuse",
    [
        {"similarities": [0.9], "fractions": [0.1]},
        {"similarities": [], "fractions": [], "measured": "x"},
        {"similarities": [0.9, 0.8], "fractions": [0.1, 0.2], "measured": "x"},
        {"similarities": [0.9], "fractions": [0.1, 0.2], "measured": "x"},
        {"similarities": [0.9], "fractions": [1.5], "measured": "x"},
        {"similarity": [0.9], "fractions": [0.5], "measured": "x"},
    ],
)
def test_thresholds_that_make_no_sense_are_refused_by_name(reuse: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"levels\.json: reuse"):
        parse_profile(file(reuse=reuse), "levels.json")
