"""Makes some pictures again at the reference level while nobody waits, and compares them."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from dataclasses import dataclass

from argus.clock import Clock
from argus.config import QualityConfig
from argus.control.drift import Outcome
from argus.coordinator.catalog import Catalog
from argus.coordinator.dispatch import Dispatcher
from argus.coordinator.flight import Flight, Phase
from argus.coordinator.judge import Judge
from argus.coordinator.live import Watch
from argus.coordinator.membership import Member, Membership
from argus.coordinator.subscription import Subscription
from argus.coordinator.taken import Taken, comparison, reference_of, relative
from argus.errors import (
    ArgusError,
    CancelledError,
    DeadlineError,
    OverloadedError,
    UnavailableError,
)
from argus.types import SHADOW_TENANT
from argus.v1 import image_pb2

log = logging.getLogger(__name__)

WAITING = 32
"""Pictures that wait for an idle moment; of more, the oldest are let go."""
IDLE_S = 0.5
"""How long nobody must have waited before a picture is made again."""
RETRY_S = 60.0
"""How long nothing is tried after pictures could not be scored at all."""
MOST_LANES = 2
"""Of a row."""


@dataclass(slots=True)
class Counts:
    """What became of pictures since the start."""

    sampled: int = 0
    compared: int = 0
    """Made again and scored, with a relative quality."""
    undefined: int = 0
    """Made again, but the scorer has no relative quality of them."""
    withdrawn: int = 0
    """Times that one gave way to a client's request; it is tried again."""
    dropped: int = 0
    """Let go, since no idle moment came in time."""
    failed: int = 0
    """Not made again, or not scored, because of an error."""


class Shadow:
    """Compares a share of the approximated pictures with what the reference level makes.

    Idle is the cluster while no request waits and every node that holds the reference level's
    variant would take one more row into its next forward. A row that was started then is withdrawn
    as soon as that is no longer so, before the request that comes is accepted. No call blocks or
    raises. Must be made inside the event loop that uses it.

    Args:
        clock: where the time comes from.
        config: share, scorer and folder.
        dispatcher: makes pictures.
        catalog: the levels.
        membership: the nodes.
        watch: hears of every comparison.
        judge: scores pictures.
        chance: decides which pictures are taken.
    """

    def __init__(
        self,
        clock: Clock,
        config: QualityConfig,
        dispatcher: Dispatcher,
        catalog: Catalog,
        membership: Membership,
        watch: Watch,
        judge: Judge,
        chance: random.Random | None = None,
    ) -> None:
        self._clock = clock
        self._config = config
        self._dispatcher = dispatcher
        self._catalog = catalog
        self._membership = membership
        self._judge = judge
        self._live = watch.live
        self._chance = chance or random.Random()
        self._waiting: deque[Taken] = deque()
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._busy_at_s = clock.now()
        self._not_before_s = clock.now()
        self._stopped = False
        self.drift = watch.drift
        self.counts = Counts()
        self.trouble = ""
        """Why pictures cannot be scored; empty while they can."""
        dispatcher.before_accept = self.make_way
        dispatcher.after_image = self.look_at

    @property
    def share(self) -> float:
        """Share of the pictures made below the reference level that is taken."""
        return self._config.shadow_share

    @property
    def scorer(self) -> str:
        """Name of what scores."""
        return self._config.scorer

    @property
    def waiting(self) -> int:
        """Pictures that wait for an idle moment."""
        return len(self._waiting)

    @property
    def in_flight(self) -> int:
        """Pictures that are being made again or scored."""
        return len(self._runs)

    # -- what the dispatcher says ---------------------------------------------------------------

    def look_at(self, flight: Flight, image: image_pb2.Image) -> None:
        """Take a picture that was made for a client, or leave it."""
        level = flight.made_at.level
        reference = reference_of(level, self._catalog.ladder)
        if self._stopped or reference is None or level.name == reference.name:
            return
        if self._chance.random() >= self._config.shadow_share:
            return
        self.counts.sampled += 1
        self._wait(Taken.of(flight, image, reference))

    def make_way(self) -> None:
        """Withdraw what a request that comes now would have to share its node's forward with."""
        self._withdraw_crowded(coming=1)

    # -- what time brings -----------------------------------------------------------------------

    def check(self) -> None:
        """Withdraw what has become a burden, and start what nobody would notice."""
        self._withdraw_crowded(coming=0)
        now_s = self._clock.now()
        if not self._waiting or now_s < self._not_before_s:
            return
        if self._someone_waits() or not self._is_idle(self._waiting[0].reference.variant):
            self._busy_at_s = now_s
        elif now_s - self._busy_at_s >= IDLE_S and len(self._runs) < self._config.shadow_in_flight:
            self._start(self._waiting.popleft())

    async def stop(self) -> None:
        """Give everything up."""
        self._stopped = True
        self._waiting.clear()
        for request_id in tuple(self._runs):
            self._withdraw(request_id)
        tasks = list(self._runs.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # One that was cancelled before its first turn did not take itself out.
        self._runs.clear()
        await self._judge.close()

    # -- making way -----------------------------------------------------------------------------

    def _someone_waits(self) -> bool:
        """Whether no node has room for a client's request."""
        return any(
            flight.phase is Phase.QUEUED and flight.request.tenant != SHADOW_TENANT
            for flight in self._dispatcher.flights.values()
        )

    def _is_idle(self, variant: str) -> bool:
        members = [m for m in self._membership.members if not m.backlog.draining]
        able = [m for m in members if m.backlog.holds(variant)]
        return bool(able) and all(len(m.backlog) < _rows_at_once(m) for m in able)

    def _withdraw_crowded(self, coming: int) -> None:
        """Withdraw rows whose node has, with those that come, more than fit into one forward.

        Where no node has room for a client's request none stays.
        """
        if not self._runs:
            return
        someone_waits = self._someone_waits()
        for request_id in tuple(self._runs):
            flight = self._dispatcher.flights.get(request_id)
            member = self._membership.get(flight.node) if flight and flight.node else None
            crowded = member is None or len(member.backlog) + coming > _rows_at_once(member)
            if someone_waits or crowded:
                self._withdraw(request_id)

    def _withdraw(self, request_id: str) -> None:
        """Take a row back, if it is still to be made."""
        flight = self._dispatcher.flights.get(request_id)
        if flight is not None:
            self._busy_at_s = self._clock.now()
            way = CancelledError("a client's request takes its place")
            self._dispatcher.abort(flight, Phase.CANCELLED, way)

    def _wait(self, taken: Taken, first: bool = False) -> None:
        if first:
            self._waiting.appendleft(taken)
        else:
            self._waiting.append(taken)
        while len(self._waiting) > WAITING:
            self._waiting.popleft()
            self.counts.dropped += 1

    # -- making again ---------------------------------------------------------------------------

    def _start(self, taken: Taken) -> None:
        request = taken.again()
        try:
            subscription = self._dispatcher.submit(request)
        except (UnavailableError, OverloadedError, DeadlineError):
            # Not so idle after all.
            self._busy_at_s = self._clock.now()
            self._wait(taken, first=True)
            return
        except ArgusError as error:
            # Such as a size that the reference level's variant does not make.
            log.info("a picture of level %s is not made again: %s", taken.level.name, error)
            self.counts.failed += 1
            return
        following = self._follow(request.request_id, taken, subscription)
        self._runs[request.request_id] = asyncio.create_task(following)

    async def _follow(self, request_id: str, taken: Taken, events: Subscription) -> None:
        try:
            reference = await _image(events)
            await self._compare(request_id, taken, reference)
        except CancelledError:
            self.counts.withdrawn += 1
            if not self._stopped:
                self._wait(taken, first=True)
        except UnavailableError as error:
            # Nodes may be gone, or what scores, and perhaps because of this picture.
            self._complain(str(error))
            self._wait(taken)
        except ArgusError as error:
            log.warning("a picture was not compared: %s", error)
            self.counts.failed += 1
        except Exception:
            log.exception("a picture was not compared")
            self.counts.failed += 1
        finally:
            self._runs.pop(request_id, None)

    async def _compare(self, request_id: str, taken: Taken, reference: image_pb2.Image) -> None:
        scorer = await self._judge.open()
        prompt = taken.request.prompt
        scores = await self._judge.score(prompt, taken.image.data, reference.data)
        self.trouble = ""
        observed = relative(scores, scorer.columns[0])
        if observed is None:
            self.counts.undefined += 1
        else:
            self.counts.compared += 1
            self._account(taken, observed)
        if self._live is not None:
            row = comparison(request_id, taken, reference, scores)
            await self._live.append(self._catalog.ladder, scorer, row, self.drift)

    def _account(self, taken: Taken, observed: float) -> None:
        outcome = Outcome(taken.level.name, observed, taken.predicted, taken.lower)
        for alarm in self.drift.add(outcome):
            log.warning(
                "%s: pictures are %s than predicted, by %.3f on average of the last %d",
                f"level {alarm.level}" if alarm.level else "all levels",
                "worse" if alarm.worse else "better",
                abs(alarm.residual),
                alarm.pictures,
            )

    def _complain(self, trouble: str) -> None:
        self._not_before_s = self._clock.now() + RETRY_S
        if trouble != self.trouble:
            log.error("pictures are not compared: %s", trouble)
        self.trouble = trouble


def _rows_at_once(member: Member) -> int:
    """Return how many rows a node has in one forward at least."""
    return min(member.info.slots, max(1, member.info.max_lanes // MOST_LANES))


async def _image(events: Subscription) -> image_pb2.Image:
    """Return the picture that ends a request."""
    last = image_pb2.GenerateResponse()
    async for event in events:
        last = event
    return last.image
