"""What one coordinator has learned, the next one goes on with."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from argus.clock import ManualClock
from argus.control import policies
from argus.control.limits import LEFT_FOR_S, TenantLimits
from argus.control.policies.argus import ArgusPolicy
from argus.control.tenants import TenantTerms
from argus.coordinator import keeping
from argus.coordinator.keeping import Keeping, StateFile
from argus.coordinator.membership import Membership
from argus.errors import QuotaError
from argus.rpc.convert_cluster import node_info_to_proto
from tests.unit.coordinator.bench import info

TERMS = TenantTerms(rate_per_s=1.0, burst=10.0)


class Part:
    """What one coordinator keeps, on a clock of its own."""

    def __init__(self, start_s: float = 0.0, policy: str = "argus") -> None:
        self.clock = ManualClock(start_s)
        self.membership = Membership(self.clock, 3.0)
        self.limits = TenantLimits()
        self.policy = policies.make(policy)
        self.keeping = Keeping(self.clock, self.membership, self.limits, self.policy, policy)

    def ask(self, times: int) -> int:
        """Return how many of so many requests at once are let in."""
        let_in = 0
        for _ in range(times):
            try:
                self.limits.enter("acme", TERMS, 0, self.clock.now())
            except QuotaError:
                continue
            let_in += 1
        return let_in


def test_a_tenant_that_has_used_its_share_has_not_got_it_back() -> None:
    one, other = Part(), Part(start_s=5000.0)
    assert one.ask(20) == 10
    one.clock.advance(2.0)
    state = one.keeping.state()
    other.keeping.restore(state, age_s=3.0)
    assert other.ask(20) == 5


def test_a_tenant_that_does_not_come_to_one_coordinator_is_known_to_the_next() -> None:
    one, other, third = Part(), Part(start_s=5000.0), Part(start_s=70.0)
    assert one.ask(20) == 10
    other.keeping.restore(one.keeping.state(), age_s=1.0)
    other.clock.advance(2.0)
    third.keeping.restore(other.keeping.state(), age_s=1.0)
    # Four seconds have passed in all, and one request a second is let in.
    assert third.ask(20) == 4


def test_tenants_that_never_come_again_are_forgotten_after_a_day() -> None:
    one, other = Part(), Part()
    one.ask(20)
    other.keeping.restore(one.keeping.state(), age_s=0.0)
    other.clock.advance(LEFT_FOR_S - 1.0)
    assert "acme" in other.keeping.state()
    other.clock.advance(1.0)
    assert "acme" not in other.keeping.state()


def test_coordinators_of_before_read_what_is_carried_over_and_are_read() -> None:
    """They take three values of each tenant, or nothing at all, and know no other key of them."""
    one, other = Part(), Part()
    one.ask(20)
    other.keeping.restore(one.keeping.state(), age_s=0.0)
    other.limits.enter("busy", TERMS, 0, 0.0)
    state = json.loads(other.keeping.state())
    assert {tenant: len(values) for tenant, values in state["limits"].items()} == {"busy": 3}
    assert {tenant: len(values) for tenant, values in state["limits_left"].items()} == {"acme": 4}
    of_before = json.loads(one.keeping.state())
    del of_before["limits_left"]
    third = Part()
    third.keeping.restore(json.dumps(of_before), age_s=0.0)
    assert third.ask(20) == 0


def test_nodes_are_awaited_only_while_they_may_still_have_the_rows() -> None:
    one = Part()
    for name in ("b", "a"):
        node = info(name)
        one.membership.join(node, node_info_to_proto(node))
    state = one.keeping.state()
    assert Part().keeping.restore(state, age_s=5.0) == ("a", "b")
    assert Part().keeping.restore(state, age_s=3600.0) == ()
    assert Part().keeping.restore("", age_s=0.0) == ()


def test_margins_learned_from_rows_are_kept() -> None:
    one, other = Part(), Part()
    assert isinstance(one.policy, ArgusPolicy)
    assert isinstance(other.policy, ArgusPolicy)
    for _ in range(64):
        one.policy._foresight.margins.note("gpu", 1.0, 1.7)
    other.keeping.restore(one.keeping.state(), age_s=1.0)
    assert other.policy.figures(0.0).margin == pytest.approx(1.7)


def learned(**changes: object) -> dict[str, object]:
    """Return what Argus's policy keeps, with something else in some places."""
    return {"name": "argus", "state": ArgusPolicy().state(0.0) | changes}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: "{",
        lambda state: "[]",
        lambda state: "[" * 100_000,
        lambda state: json.dumps(state | {"version": 99}),
        lambda state: json.dumps(state | {"limits": {"acme": ["x", 1, 1]}}),
        lambda state: json.dumps(state | {"limits": {"acme": [float("nan"), 1, 1]}}),
        lambda state: json.dumps(state | {"limits": {"acme": [1, 1]}}),
        lambda state: json.dumps(state | {"limits": {"acme": [1, 1, 1, 1]}}),
        lambda state: json.dumps(state | {"limits_left": {"acme": [1, 1, 1, -1]}}),
        lambda state: json.dumps(state | {"limits_left": {"acme": [1, 1, 1, None]}}),
        lambda state: json.dumps(state | {"limits_left": {"acme": [1, 1, 1]}}),
        lambda state: json.dumps(state | {"limits_left": ["acme"]}),
        lambda state: json.dumps(state | {"policy": {"name": "argus", "state": {}}}),
        lambda state: json.dumps(state | {"policy": learned(reserve=10**400)}),
        lambda state: json.dumps(state | {"policy": 7}),
        lambda state: json.dumps({"version": 1}),
    ],
)
def test_a_state_that_makes_no_sense_is_not_taken_and_said_so(
    spoil: object, caplog: pytest.LogCaptureFixture
) -> None:
    assert callable(spoil)
    other = Part()
    other.keeping.restore(spoil(json.loads(Part().keeping.state())), age_s=0.0)
    assert "is not taken whole" in caplog.text
    assert other.ask(20) == 10


def test_what_another_policy_learned_is_left_alone() -> None:
    state = Part().keeping.state()
    other = Part(policy="proteus")
    other.keeping.restore(state, age_s=0.0)


async def test_a_file_keeps_it_where_nobody_stands_by(tmp_path: Path) -> None:
    file = StateFile(tmp_path / "state.json")
    assert file.load() == ("", 0.0)
    one = Part()
    one.ask(20)
    await one.keeping.save(file.save)
    state, age_s = file.load()
    assert 0.0 <= age_s < 60.0
    assert not (tmp_path / "state.json.new").exists()
    other = Part()
    other.keeping.restore(state, 0.0)
    assert other.ask(20) == 0


async def test_a_file_that_cannot_be_written_costs_only_that(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = StateFile(tmp_path / "none" / "state.json")
    await Part().keeping.save(file.save)
    assert "is not saved" in caplog.text


async def test_saving_goes_on_after_it_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "SAVE_S", 0.001)
    one, tried, saved = Part(), [], asyncio.Event()

    async def save(state: str) -> None:
        tried.append(state)
        if len(tried) == 1:
            raise RuntimeError("a bug")
        saved.set()

    saving = asyncio.create_task(one.keeping.save_always(save))
    await asyncio.wait_for(saved.wait(), 10)
    saving.cancel()
    await asyncio.wait([saving])
