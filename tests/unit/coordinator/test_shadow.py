"""When pictures are made again at the reference level, and what becomes of it; no time passes."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from argus.config import QualityConfig
from argus.control.drift import Drift, Outcome
from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.features import Features, Lexicon
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Means
from argus.control.widened import Widened
from argus.coordinator.judge import Columns, Judge, Scores
from argus.coordinator.live import STATE, LiveLog, Watch
from argus.coordinator.membership import Member
from argus.coordinator.shadow import IDLE_S, RETRY_S, WAITING, Shadow
from argus.coordinator.shadow_metrics import shadow_families
from argus.errors import ArgusError, InternalError, InvalidArgumentError, UnavailableError
from argus.quality.live import live_files
from argus.quality.matrix import ScorerVersion
from argus.rpc.convert import image_request_from_proto
from argus.types import SHADOW_TENANT
from argus.v1 import cluster_pb2, image_pb2
from tests.unit.coordinator.bench import PROFILE, Bench, one_work, sent, works
from tests.unit.coordinator.polling import eventually

LOW, HIGH = "base-5", "base-10"


class ScriptedJudge(Judge):
    """Scores what the test says; the process itself is tested in test_judge."""

    def __init__(self) -> None:
        super().__init__("facts")
        self.made: Columns = {"facts": 0.6}
        self.reference: Columns = {"facts": 0.8}
        self.error: ArgusError | None = None
        self.seen: list[tuple[str, bytes, bytes]] = []

    async def open(self) -> ScorerVersion:
        return ScorerVersion("facts", "1", ("facts",))

    async def score(self, prompt: str, made: bytes, reference: bytes) -> Scores:
        self.seen.append((prompt, made, reference))
        if self.error is not None:
            raise self.error
        return Scores(self.made, self.reference)


@dataclass
class Watched:
    """A bench whose low pictures are made again."""

    bench: Bench
    shadow: Shadow
    judge: ScriptedJudge

    async def low(self, node: Member, name: str = "low") -> None:
        """Have a picture made below the reference level."""
        self.bench.submit(name, level=LOW, seed=7)
        work = await one_work(node)
        self.bench.start(node, work)
        self.bench.done(node, work, data=b"low")

    def rest(self, seconds: float = IDLE_S) -> None:
        """Let time pass in which nothing comes."""
        self.shadow.check()
        self.bench.pass_time(seconds)
        self.shadow.check()

    async def again(self, node: Member) -> cluster_pb2.Work:
        """Rest, and return the row that is made again."""
        self.rest()
        return await one_work(node)


Make = Callable[..., Watched]


def bounded() -> FittedPredictor:
    """A predictor that expects the mean of both levels, 1 and 0.9, with bounds of 1 and 0.8."""
    words = frozenset({"a", "red", "circle"})
    margins = np.array([0.0, 0.1])
    return FittedPredictor(
        profile="0123456789abcdef",
        embedder="",
        dimension=0,
        coverage=0.9,
        features=Features(Lexicon((), {}, words), None, PROFILE.levels),
        domain=Domain(100, 0.5, 0.0, None),
        model=Means(np.array([1.0, 0.9])),
        bounds=Bounds(np.array([0.0]), np.array([1.0]), margins, margins),
        worst=np.array([1.0, 0.5]),
        chains=(),
    )


@pytest.fixture
async def watch() -> AsyncIterator[Make]:
    made: list[Watched] = []

    def make(live: LiveLog | None = None, **settings: object) -> Watched:
        config = QualityConfig(**({"shadow_share": 1.0} | settings))  # type: ignore[arg-type]
        watch = Watch(Drift(), live)
        judge = ScriptedJudge()
        bench = Bench(predictor=Widened(bounded(), lambda: watch.drift.margin))
        shadow = Shadow(
            bench.clock,
            config,
            bench.dispatcher,
            bench.catalog,
            bench.membership,
            watch,
            judge,
            random.Random(1),
        )
        made.append(Watched(bench, shadow, judge))
        return made[-1]

    yield make
    for watched in made:
        await watched.shadow.stop()


async def test_a_low_picture_is_made_again_with_its_seed_at_the_reference_and_compared(
    watch: Make,
) -> None:
    watched = watch()
    node = watched.bench.join()
    await watched.low(node)
    work = await watched.again(node)
    assert (work.level, work.steps, work.seed, work.prompt) == (HIGH, 10, 7, "a red circle")
    assert work.tenant == SHADOW_TENANT
    assert not work.HasField("deadline_s")
    watched.bench.done(node, work, data=b"high")
    await eventually(lambda: watched.shadow.counts.compared == 1)
    assert watched.judge.seen == [("a red circle", b"low", b"high")]
    # 0.6 / 0.8 observed, 0.9 predicted.
    assert watched.shadow.drift.residuals == {LOW: pytest.approx(-0.15)}
    assert watched.shadow.in_flight == watched.shadow.waiting == 0


async def test_what_the_coordinator_asks_itself_is_not_counted_or_remembered(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    await watched.low(node)
    before = watched.bench.counters
    work = await watched.again(node)
    watched.bench.done(node, work)
    await eventually(lambda: watched.shadow.counts.compared == 1)
    assert watched.bench.counters == before
    counters = watched.bench.dispatcher.counters
    assert counters.answered_by_level == {LOW: 1}
    assert not watched.bench.dispatcher.knows(work.request_id)
    # Nor is it itself made again.
    watched.rest()
    assert await works(node) == []


async def test_pictures_of_the_reference_level_are_not_made_again(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    watched.bench.submit("high")
    watched.bench.done(node, await one_work(node))
    watched.rest()
    assert watched.shadow.counts.sampled == 0
    assert await works(node) == []


async def test_the_share_is_kept(watch: Make) -> None:
    watched = watch(shadow_share=0.25)
    node = watched.bench.join()
    for i in range(400):
        await watched.low(node, f"r{i}")
    # Four standard deviations of a binomial.
    assert abs(watched.shadow.counts.sampled - 100) < 4 * (400 * 0.25 * 0.75) ** 0.5
    assert watched.shadow.waiting == WAITING
    assert watched.shadow.counts.dropped == watched.shadow.counts.sampled - WAITING


async def test_nothing_is_made_again_while_a_node_is_full_or_a_request_waits(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join(slots=4)
    await watched.low(node)
    for i in range(10):
        watched.bench.submit(f"r{i}")
    rows = await works(node)
    while rows:
        for _ in range(3):
            watched.rest()
        assert [w for w in await works(node) if w.tenant == SHADOW_TENANT] == []
        # With 8 lanes four guided rows share a forward: with four there is no place for a fifth.
        if len(watched.bench.dispatcher.flights) <= 4:
            break
        watched.bench.done(node, rows.pop(0))
        rows += await works(node)
    watched.bench.done(node, rows.pop(0))
    assert (await watched.again(node)).tenant == SHADOW_TENANT


async def test_nothing_is_made_again_before_nobody_has_waited_for_a_while(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join(slots=1)
    await watched.low(node)
    watched.bench.submit("real")
    real = await one_work(node)
    watched.rest(10.0)
    watched.bench.done(node, real)
    watched.rest(0.9 * IDLE_S)
    assert await works(node) == []
    watched.rest(0.2 * IDLE_S)
    assert (await one_work(node)).tenant == SHADOW_TENANT


async def test_a_request_that_comes_takes_the_place_before_it_is_admitted(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join(slots=1)
    await watched.low(node)
    work = await watched.again(node)
    watched.bench.start(node, work)
    events = watched.bench.submit("real", deadline_s=1.2)
    messages = [m for m in await sent(node) if m is not None]
    assert [m.WhichOneof("message") for m in messages] == ["cancel", "work"]
    assert messages[0].cancel.request_id == work.request_id
    # Alone on the node 1.1 s are enough for every step: the row withdrawn cost it no level.
    assert messages[1].work.level == HIGH
    await eventually(lambda: watched.shadow.counts.withdrawn == 1)
    watched.bench.done(node, messages[1].work)
    assert [e.WhichOneof("event") async for e in events][-1] == "image"
    again = await watched.again(node)
    assert again.tenant == SHADOW_TENANT
    assert again.request_id != work.request_id
    watched.bench.done(node, again)
    await eventually(lambda: watched.shadow.counts.compared == 1)


async def test_a_request_that_has_its_place_beside_it_withdraws_nothing(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join(slots=4)
    await watched.low(node)
    work = await watched.again(node)
    for i in range(3):
        watched.bench.submit(f"r{i}")
    assert len(await works(node)) == 3
    watched.bench.submit("fourth")
    messages = [m for m in await sent(node) if m is not None]
    assert [m.WhichOneof("message") for m in messages] == ["cancel", "work"]
    assert messages[0].cancel.request_id == work.request_id


async def test_no_more_than_the_limit_are_made_at_a_time(watch: Make) -> None:
    watched = watch(shadow_in_flight=2)
    node = watched.bench.join()
    for i in range(5):
        await watched.low(node, f"r{i}")
    for _ in range(5):
        watched.rest()
    first = await works(node)
    assert len(first) == 2
    watched.bench.done(node, first[0])
    await eventually(lambda: watched.shadow.counts.compared == 1)
    watched.rest()
    assert len(await works(node)) == 1


async def test_a_score_that_says_nothing_is_counted_and_left_out(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    for i, (made, reference) in enumerate([(None, 0.8), (0.6, None), (0.6, 0.0)], start=1):
        watched.judge.made, watched.judge.reference = {"facts": made}, {"facts": reference}
        await watched.low(node, f"r{i}")
        watched.bench.done(node, await watched.again(node))
        await eventually(lambda i=i: watched.shadow.counts.undefined == i)  # type: ignore[misc]
    assert watched.shadow.drift.pictures == 0


async def test_without_a_judge_nothing_is_tried_for_a_while_and_operators_see_why(
    watch: Make,
) -> None:
    watched = watch()
    node = watched.bench.join()
    watched.judge.error = UnavailableError("no such folder")
    await watched.low(node)
    watched.bench.done(node, await watched.again(node))
    await eventually(lambda: watched.shadow.in_flight == 0)
    assert watched.shadow.trouble == "no such folder"
    watched.rest(RETRY_S / 2)
    assert await works(node) == []
    watched.judge.error = None
    watched.rest(RETRY_S / 2)
    watched.rest()
    watched.bench.done(node, await one_work(node))
    await eventually(lambda: watched.shadow.counts.compared == 1)
    assert watched.shadow.trouble == ""


async def test_a_picture_that_cannot_be_scored_or_made_again_is_let_go(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    watched.judge.error = InternalError("not scored")
    await watched.low(node)
    watched.bench.done(node, await watched.again(node))
    await eventually(lambda: watched.shadow.counts.failed == 1)
    await watched.low(node, "second")
    work = await watched.again(node)
    watched.bench.fail(node, work, cluster_pb2.WORK_FAILURE_INVALID, "prompt: no")
    await eventually(lambda: watched.shadow.counts.failed == 2)
    assert watched.shadow.waiting == 0


async def test_stopping_gives_everything_up(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    for i in range(3):
        await watched.low(node, f"r{i}")
    work = await watched.again(node)
    watched.bench.start(node, work)
    await watched.shadow.stop()
    assert not watched.bench.dispatcher.flights
    assert watched.shadow.in_flight == watched.shadow.waiting == 0
    assert [m.cancel.request_id for m in await sent(node) if m] == [work.request_id]


async def test_no_client_can_use_the_tenant_of_these_requests() -> None:
    message = image_pb2.GenerateRequest(request_id="r", prompt="x", tenant=SHADOW_TENANT)
    with pytest.raises(InvalidArgumentError, match="tenant"):
        image_request_from_proto(message)


async def test_drift_is_alarmed_and_survives_the_process(watch: Make, tmp_path: Path) -> None:
    log = LiveLog(tmp_path / "live", 1000, "facts")
    watched = watch(live=log)
    node = watched.bench.join()
    watched.judge.made = {"facts": 0.1}
    for i in range(60):
        await watched.low(node, f"r{i}")
        watched.bench.done(node, await watched.again(node))
        await eventually(lambda: not watched.shadow.in_flight)
    (alarm, *_) = watched.shadow.drift.alarms
    assert alarm.worse
    assert alarm.residual == pytest.approx(0.1 / 0.8 - 0.9)
    lines = live_files(tmp_path / "live")[0].read_text().splitlines()
    assert len(lines) == 1 + 2 * 60
    assert json.loads(lines[2])["scores"] == {"facts": 0.1}
    fresh = Drift()
    LiveLog(tmp_path / "live", 1000, "facts").resume(fresh)
    assert fresh.alarms == watched.shadow.drift.alarms
    other = Drift()
    LiveLog(tmp_path / "live", 1000, "clip /somewhere").resume(other)
    assert other.alarms == ()
    (tmp_path / "live" / STATE).write_text("{")
    LiveLog(tmp_path / "live", 1000, "facts").resume(other)
    assert other.alarms == ()


async def test_bounds_that_do_not_hold_are_lowered_until_they_do(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    drift = watched.shadow.drift
    bounds = []
    for i in range(40):
        watched.bench.submit(f"r{i}", level=LOW, seed=7)
        work = await one_work(node)
        bounds.append(watched.bench.dispatcher.flights[work.request_id].offers[0].lower)
        watched.bench.done(node, work)
        watched.bench.done(node, await watched.again(node))
        await eventually(lambda: not watched.shadow.in_flight)
    # 0.75 is observed, 0.8 was promised: whatever the margin meanwhile, that is 0.05 short.
    assert drift.state()["coverage"]["short"] == pytest.approx([0.05] * 40)
    assert bounds[0] == pytest.approx(0.8)
    assert bounds[-1] == pytest.approx(0.75)
    assert drift.coverage.held > 0.9


def shown(shadow: Shadow) -> dict[tuple[str, tuple[str, ...]], float]:
    """Return the metrics' samples by name and the values of their labels."""
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in shadow_families(shadow)
        for sample in family.samples
    }


async def test_metrics_say_what_was_found_and_that_it_drifts(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    before = shown(watched.shadow)
    assert before["argus_quality_drift", ("", "worse")] == 0
    assert before["argus_quality_scorer_up", ()] == 1
    await watched.low(node)
    assert shown(watched.shadow)["argus_quality_waiting", ()] == 1
    work = await watched.again(node)
    watched.bench.done(node, work, data=b"reference")
    await eventually(lambda: watched.shadow.counts.compared == 1)
    found = shown(watched.shadow)
    assert found["argus_quality_sampled_total", ()] == 1
    assert found["argus_quality_comparisons_total", ("compared",)] == 1
    assert found["argus_quality_comparisons_total", ("failed",)] == 0
    # 0.6 / 0.8 was found where 0.9 was predicted.
    assert found["argus_quality_residual_ratio", ()] == pytest.approx(-0.15)
    assert found["argus_quality_level_residual_ratio", (LOW,)] == pytest.approx(-0.15)
    while not watched.shadow.drift.alarms:
        watched.shadow.drift.add(Outcome(LOW, 0.4, 0.9, 0.8))
    drifted = shown(watched.shadow)
    assert drifted["argus_quality_drift", ("", "worse")] == 1
    assert drifted["argus_quality_drift", ("", "better")] == 0
    assert drifted["argus_quality_bound_margin_ratio", ()] > 0
    assert drifted["argus_quality_bound_held_ratio", ()] < 1


async def test_metrics_say_that_pictures_cannot_be_scored(watch: Make) -> None:
    watched = watch()
    node = watched.bench.join()
    watched.judge.error = UnavailableError("the scorer is gone")
    await watched.low(node)
    work = await watched.again(node)
    watched.bench.done(node, work, data=b"reference")
    await eventually(lambda: bool(watched.shadow.trouble))
    assert shown(watched.shadow)["argus_quality_scorer_up", ()] == 0
