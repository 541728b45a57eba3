"""The choice of moves, on descriptions without an engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from argus.engine.moves import SHORTEST_STAY_S, STAY_IN_MOVES, Holding, Move, choose_move

NOW_S = 100.0


def holding(name: str, size: int = 10, **changes: Any) -> Holding:
    base = Holding(
        name=name,
        weights_bytes=size,
        resident=True,
        pinned=False,
        busy=False,
        closing=False,
        used_s=0.0,
        since_s=0.0,
        move_s=0.5,
    )
    return replace(base, **changes)


def test_nothing_is_moved_when_every_wanted_variant_is_resident() -> None:
    assert choose_move([holding("a"), holding("b")], {}, 0, NOW_S) is None
    assert choose_move([holding("a")], {"a": 5.0}, 0, NOW_S) is None


def test_free_memory_is_used_before_anybody_is_parked() -> None:
    parked = holding("p", resident=False)
    assert choose_move([holding("a"), parked], {"p": 5.0}, 10, NOW_S) == Move(into="p")


def test_the_one_unused_for_longest_makes_room() -> None:
    holdings = [holding("new", used_s=9.0), holding("old", used_s=1.0)]
    parked = holding("p", resident=False)
    assert choose_move([*holdings, parked], {"p": 5.0}, 0, NOW_S) == Move(("old",), "p")
    large = holding("p", 20, resident=False)
    assert choose_move([*holdings, large], {"p": 5.0}, 0, NOW_S) == Move(("old", "new"), "p")


def test_the_variant_whose_row_is_due_first_is_served_first() -> None:
    parked = [holding(name, resident=False) for name in ("late", "soon")]
    wanted = {"late": 9.0, "soon": 2.0}
    assert choose_move([holding("a"), *parked], wanted, 0, NOW_S) == Move(("a",), "soon")


def test_a_busy_variant_is_closed_only_after_its_stay() -> None:
    parked = holding("p", resident=False)
    stay_s = max(SHORTEST_STAY_S, STAY_IN_MOVES * 5.0)
    fresh = holding("a", busy=True, move_s=5.0, since_s=NOW_S - stay_s + 0.1)
    assert choose_move([fresh, parked], {"p": 5.0}, 0, NOW_S) is None
    settled = replace(fresh, since_s=NOW_S - stay_s)
    assert choose_move([settled, parked], {"p": 5.0}, 0, NOW_S) == Move(close=("a",))
    closing = replace(settled, closing=True)
    assert choose_move([closing, parked], {"p": 5.0}, 0, NOW_S) is None
    drained = replace(closing, busy=False)
    assert choose_move([drained, parked], {"p": 5.0}, 0, NOW_S) == Move(("a",), "p")


holdings_lists = st.lists(
    st.builds(
        holding,
        name=st.uuids().map(str),
        size=st.integers(1, 30),
        resident=st.booleans(),
        pinned=st.booleans(),
        busy=st.booleans(),
        closing=st.booleans(),
        used_s=st.floats(0, 100),
        since_s=st.floats(0, 100),
        move_s=st.floats(0, 5),
    ),
    max_size=6,
)


@given(holdings_lists, st.integers(0, 40))
def test_a_move_never_touches_what_is_pinned_or_busy_and_always_fits(
    holdings: list[Holding], free_bytes: int
) -> None:
    wanted = {h.name: 1.0 for h in holdings if not h.resident}
    move = choose_move(holdings, wanted, free_bytes, NOW_S)
    if move is None:
        return
    by_name = {h.name: h for h in holdings}
    for name in move.out:
        assert by_name[name].resident
        assert not by_name[name].pinned
        assert not by_name[name].busy
    for name in move.close:
        assert by_name[name].busy
        assert not by_name[name].pinned
    if move.into is not None:
        freed = sum(by_name[name].weights_bytes for name in move.out)
        assert by_name[move.into].weights_bytes <= free_bytes + freed
