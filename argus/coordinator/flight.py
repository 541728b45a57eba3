"""A request in flight: what was asked, where it is, who listens."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field, replace

from argus.control.offers import Offer
from argus.control.policy import Task
from argus.control.router import Decision
from argus.control.row_costs import RowShape
from argus.coordinator.flight_trace import FlightTrace
from argus.coordinator.subscription import Subscription
from argus.errors import ArgusError, InternalError
from argus.types import ImageRequest, ResolvedRequest
from argus.v1 import image_pb2


class Phase(enum.Enum):
    """Where a request is in its life."""

    QUEUED = "queued"
    """Accepted; no node has it."""
    ASSIGNED = "assigned"
    """Sent to a node."""
    RUNNING = "running"
    """Its first step began."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(slots=True, eq=False)
class Flight:
    """One accepted request. Times in seconds of the coordinator's clock."""

    request: ImageRequest
    seed: int
    task: Task
    """What the policy knows of it."""
    phase: Phase = Phase.QUEUED
    node: str | None = None
    """Name of the node that has it."""
    sends: int = 0
    """Times it was sent to a node."""
    attempt: int = 0
    """Number by which its node knows it."""
    counted: bool = True
    """Whether it counts among those accepted here."""
    in_policy: bool = True
    """Whether the policy knows it; it does not know rows that nodes brought along."""
    losses: int = 0
    """Times a node was lost with it or failed it."""
    strikes: int = 0
    """Times a node died while it was beginning or ending there."""
    struck_s: float = -math.inf
    """When the last one did."""
    failed_on: set[str] = field(default_factory=set)
    """Names of nodes that were lost with it or failed it."""
    lost_on: dict[str, bool] = field(default_factory=dict)
    """Whether it was struck there, by name of the nodes that may be found again with it."""
    keep_key: str = ""
    """Entry of the cache that its row leaves behind."""
    checkpoints: tuple[int, ...] = ()
    """Steps whose states that entry has."""
    missed: bool = False
    """The state it was to start from was not there, and every step is run."""
    sent_s: float = 0.0
    """When its node was given it."""
    started_s: float | None = None
    step: int = 0
    """The last one that its node reported."""
    stranded_s: float | None = None
    """Since when no node could make it."""
    subscriptions: list[Subscription] = field(default_factory=list)
    left_at_s: float | None = None
    """When the last one who listened left."""
    trace: FlightTrace = field(default_factory=FlightTrace)
    grace_s: float | None = None
    """How long it waits for one who listens; None: for as long as any."""
    _kept: bool = False

    @property
    def id(self) -> str:
        """The request id."""
        return self.request.request_id

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What it may become."""
        return self.task.offers

    @property
    def decision(self) -> Decision:
        """The last one: of the admission while queued, of the dispatch afterwards."""
        if self.task.decision is None:
            raise InternalError(f"nothing was decided for request {self.id}")
        return self.task.decision

    @property
    def accepted_s(self) -> float:
        """When it came."""
        return self.task.arrived_s

    @property
    def deadline_at_s(self) -> float:
        """When it is late; infinity without a deadline."""
        return self.task.deadline_at_s

    @property
    def row(self) -> RowShape:
        """The row it is at the present decision."""
        return self.decision.offer.row

    def remaining_s(self, now_s: float) -> float | None:
        """Return the seconds left until the deadline, or None without one."""
        return None if self.request.deadline_s is None else self.deadline_at_s - now_s

    def on_time(self, now_s: float) -> bool:
        """Return whether an answer now would be in time."""
        return now_s <= self.deadline_at_s

    def assign(self, decision: Decision, now_s: float) -> None:
        """Note that it is sent to the node of `decision`."""
        self.task.decision = decision
        self.sent_s, self.step = now_s, 0
        self.node = decision.node
        self.sends += 1
        self.attempt = self.sends
        self.phase = Phase.ASSIGNED
        self.stranded_s = None
        self.trace.sent(decision.node, decision.offer.level.name)

    def bring(self, decision: Decision, attempt: int, now_s: float) -> None:
        """Note that the node of `decision` has it already, by the number `attempt`."""
        self.task.decision = decision
        self.sent_s, self.step = now_s, 0
        self.node = decision.node
        self.attempt = attempt
        self.sends = max(self.sends, attempt)
        self.phase = Phase.ASSIGNED
        self.stranded_s = None
        self.trace.sent(decision.node, decision.offer.level.name)

    def start(self, now_s: float) -> None:
        """Note that its first step begins."""
        self.phase = Phase.RUNNING
        self.started_s = now_s

    @property
    def made_at(self) -> Offer:
        """What the picture is made at: without its state, the same level with every step."""
        offer = self.decision.offer
        if not self.missed:
            return offer
        whole = (
            other
            for other in self.offers
            if not other.skip
            and (other.row.variant, other.steps) == (offer.row.variant, offer.steps)
        )
        return next(whole, replace(offer, skip=0, near=None, row=offer.whole))

    def lose(self, node: str, struck: bool, hung: bool, now_s: float) -> None:
        """Note that its node was lost.

        Args:
            node: name of the node.
            struck: whether the node may have died of it.
            hung: whether that counts even if the node is found again with it.
            now_s: the time.
        """
        if struck:
            self.strikes += 1
            self.struck_s = now_s
        if hung:
            self.lost_on.pop(node, None)
        else:
            self.lost_on[node] = struck

    def find(self, node: str) -> None:
        """Note that a node that was lost with it has come back with it: it did not die."""
        struck = self.lost_on.pop(node, None)
        if struck is not None:
            self.losses = max(0, self.losses - 1)
            self.strikes = max(0, self.strikes - struck)
            self.failed_on.discard(node)

    def requeue(self) -> None:
        """Note that it waits for a node again."""
        self.missed = False
        self.keep_key, self.checkpoints = "", ()
        self.phase = Phase.QUEUED
        self.node = None
        self.started_s = None
        self.trace.wait(self.losses)

    def resolved(self) -> ResolvedRequest:
        """Return the row of the present decision."""
        offer = self.decision.offer
        return ResolvedRequest(
            request_id=self.id,
            attempt=self.attempt,
            prompt=self.request.prompt,
            negative_prompt=self.request.negative_prompt,
            seed=self.seed,
            width=offer.row.width,
            height=offer.row.height,
            steps=offer.steps,
            guidance=offer.guidance,
            sampler=offer.sampler,
            variant=offer.row.variant,
            level=offer.level.name,
            format=self.request.format,
            preview_every=self.request.preview_every,
            skip=offer.skip,
            start_key=offer.near.key if offer.near else "",
            checkpoints=self.checkpoints,
            keep_key=self.keep_key,
            tenant=self.request.tenant,
            fewest_forwards=self._fewest_forwards(offer),
            eta=self.request.eta,
            guidance_rescale=self.request.guidance_rescale,
            true_guidance=self.request.true_guidance,
        )

    def _fewest_forwards(self, offer: Offer) -> int:
        """Return to how many forwards the row may be spaced when it would be late; 0: it may not.

        A row that was promised a state and must run every step after all has no time for them all:
        it is given the forwards that it was accepted with, unless a quality was asked for that was
        not predicted of that.
        """
        promised = offer.near is not None and self.request.deadline_s is not None
        return offer.row.forwards if promised and self.request.min_quality is None else 0

    def attach(self, subscription: Subscription) -> None:
        """Add one who listens."""
        self.subscriptions.append(subscription)
        self.left_at_s = self.grace_s = None
        self._note_held()

    def leave(self, subscription: Subscription, now_s: float) -> None:
        """Take out one who listened; one who does not is ignored."""
        if subscription in self.subscriptions:
            self.subscriptions.remove(subscription)
            if not self.subscriptions:
                self.left_at_s = now_s
                self._note_held()

    def hold(self, kept: bool) -> None:
        """Keep it from being started, or no longer."""
        self._kept = kept
        self._note_held()

    def _note_held(self) -> None:
        self.task.held = self._kept or self.left_at_s is not None

    def deserted_s(self, now_s: float) -> float:
        """Return for how long nobody has listened; below 0 while someone does."""
        return -1.0 if self.left_at_s is None else now_s - self.left_at_s

    def tell(self, event: image_pb2.GenerateResponse) -> None:
        """Send an event to everyone who listens."""
        for subscription in self.subscriptions:
            subscription.push(event)

    def warn(self, code: str, message: str) -> None:
        """Send a warning to everyone who listens."""
        warning = image_pb2.Warning(code=code, message=message)
        self.tell(image_pb2.GenerateResponse(request_id=self.id, warning=warning))

    def finish(self, phase: Phase, end: image_pb2.GenerateResponse | ArgusError) -> None:
        """Enter a final phase and tell everyone who listens how it ended."""
        self.phase = phase
        self.trace.end(phase.value)
        for subscription in self.subscriptions:
            subscription.finish(end)
