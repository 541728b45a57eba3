"""What the control plane hears of simulated nodes is what live ones would have reported."""

from __future__ import annotations

import pytest

from argus.control.backlog import NodeBacklog
from argus.control.policy import Task
from argus.sim.batching import BatchingNode
from argus.sim.belief import ReportedBacklog
from argus.sim.costs import device_seconds, node_info, row_shapes, variant_seconds
from argus.sim.engine import VirtualClock
from argus.sim.node import Row, SerialNode
from argus.sim.published import published_profile
from argus.sim.setting import SimSetting
from argus.sim.types import Batching, SimLevel, SimProfile, VariantTimes

BATCHED = published_profile(Batching((2, 4), (1.0, 1.5)))


def given(backlog: ReportedBacklog, name: str, level: int = 0) -> Row:
    backlog.add(name, row_shapes(BATCHED)[level], 60.0)
    described = BATCHED.levels[level]
    return Row(
        index=int(name),
        task=Task(name, (), 0.0),
        level=level,
        variant="sdxl",
        lanes=2,
        seconds=described.seconds,
        forwards=described.forwards,
        due_s=60.0,
        factor=1.0,
    )


def test_reports_of_steps_are_heard_when_somebody_asks() -> None:
    profile, clock = published_profile(), VirtualClock()
    device = SerialNode(1.0, drop_late=False)
    backlog = ReportedBacklog(node_info(profile, SimSetting(), 0), device, clock)
    device.add(given(backlog, "0"), 0.0)
    backlog.start("0")
    told = NodeBacklog(node_info(profile, SimSetting(), 0))
    told.add("0", row_shapes(profile)[0], 60.0)
    told.start("0")
    for steps in (0, 1, 17, 49):
        clock.now_s = 0.084 * steps + 0.04
        if steps:
            told.progress("0", steps)
        assert backlog.drained_s() == pytest.approx(told.drained_s())
        assert backlog.next_free_s() == pytest.approx((50 - steps) * 0.084)
        assert backlog.work_s() == pytest.approx(told.work_s())
        shape = row_shapes(profile)[5]
        assert backlog.finish_s(shape) == pytest.approx(told.finish_s(shape))


def test_a_dead_node_reports_nothing() -> None:
    clock = VirtualClock()
    device = SerialNode(1.0, drop_late=False)
    backlog = ReportedBacklog(node_info(published_profile(), SimSetting(), 0), device, clock)
    device.add(given(backlog, "0"), 0.0)
    clock.now_s = 0.85
    assert backlog.drained_s() == pytest.approx(40 * 0.084)
    backlog.silent = True
    clock.now_s = 2.0
    assert backlog.drained_s() == pytest.approx(40 * 0.084)


def test_rows_of_a_batch_are_heard_of_each_by_itself() -> None:
    clock = VirtualClock()
    info = node_info(BATCHED, SimSetting(), 0)
    device = BatchingNode(info.slots, info.max_lanes, device_seconds(BATCHED, 1.0), False)
    backlog = ReportedBacklog(info, device, clock)
    device.add(given(backlog, "0"), 0.0)
    clock.now_s = 0.8
    device.add(given(backlog, "1", level=5), 0.8)  # joins after ten steps, at 0.84
    device.advance(0.84)
    clock.now_s = 0.84 + 3 * 0.126 + 0.01
    assert {row.index: n for row, n in device.steps_done(clock.now_s)} == {0: 13, 1: 3}
    assert backlog.next_free_s() == pytest.approx(22 * 0.126)
    assert backlog.drained_s() == pytest.approx(22 * 0.126 + 15 * 0.084)


def test_every_question_about_a_backlog_is_known_here() -> None:
    """A new one that depends on progress must hear of it first: add it to ReportedBacklog."""
    hear = {
        "finish_s",
        "filled_s",
        "work_s",
        "share_done",
        "drained_s",
        "next_free_s",
        "at_an_edge",
    }
    others = {
        *("watch", "draining", "full", "slowness", "row_ids", "holds", "add", "start", "progress"),
        *("reshape", "remove", "wanted", "idle_s", "busy_s", "device_s", "slowest_s"),
        *("serving", "variants", "rows_of", "has_room_below"),
    }
    public = {name for name in vars(NodeBacklog) if not name.startswith("_")}
    assert public == hear | others
    assert hear <= set(vars(ReportedBacklog))


def test_costs_of_a_variant_are_a_line_over_its_forwards() -> None:
    def profile(
        *levels: tuple[int, float], text_s: float = 0.0, pixels_s: float = 0.0
    ) -> SimProfile:
        times = VariantTimes(text_s, pixels_s)
        made = tuple(
            SimLevel(f"l{i}", "v", 0, seconds, 1.0, forwards)
            for i, (forwards, seconds) in enumerate(levels)
        )
        return SimProfile(made, 10.0, variants={"v": times})

    published = variant_seconds(published_profile(), "sdxl")
    assert (published.step_s, published.decode_s) == (pytest.approx(0.084), 0.0)
    fitted = variant_seconds(profile((50, 5.3), (25, 2.8), (10, 1.3)), "v")
    assert (fitted.step_s, fitted.decode_s) == (pytest.approx(0.1), pytest.approx(0.3))
    stated = variant_seconds(profile((50, 5.3), text_s=0.1, pixels_s=0.2), "v")
    assert (stated.step_s, stated.text_encode_s, stated.decode_s) == (pytest.approx(0.1), 0.1, 0.2)
