"""The nodes: a member is a node whose stream is open and who is heard within the lease."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from argus.clock import Clock
from argus.control.backlog import NodeBacklog
from argus.control.fleet import Fleet
from argus.errors import AlreadyExistsError, ArgusError
from argus.rpc.bundles import bundle, gather
from argus.types import NodeInfo
from argus.v1 import cluster_pb2

LOOKAHEAD_ROWS = 2
"""Rows a node may hold beyond its slots, so that a slot never stays empty for a round trip."""
SLOWNESS = 0.1, 100.0
"""What a node may say of how slow its steps are; an older node says nothing, which reads as 0."""
STALL_FACTOR = 10.0
"""A device thread silent for so many times its longest work is given up."""
STUCK_S = 10.0
"""What a node that holds rows may take beyond that until one of them gets on."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a node must be given up.

    Attributes:
        reason: for people.
        died: whether something it had to do may have done it; else the way to it may be to blame.
        broken: whether the node should end; else it may come back as it is.
    """

    reason: str
    died: bool = False
    broken: bool = False


class Member:
    """One node as the coordinator sees it.

    Rows are known to `backlog` alone: what is assigned is what it holds. `outbox` ends with None.
    """

    def __init__(self, info: NodeInfo, hello: cluster_pb2.NodeHello, now_s: float) -> None:
        self.info = info
        self.hello = hello
        self.backlog = NodeBacklog(info)
        self.heartbeat = cluster_pb2.Heartbeat()
        self.heartbeat_at_s = now_s
        self.heard_at_s = now_s
        """When its last message of any kind came."""
        self.end_error: ArgusError | None = None
        """With what the stream ends, when it is the coordinator that ends it."""
        self._busy_since_s: float | None = None
        self._moved_at_s = now_s
        self.limit = info.slots + LOOKAHEAD_ROWS
        """Rows that it may hold."""
        self._told_to_forget: set[tuple[str, int]] = set()
        self._outbox: asyncio.Queue[cluster_pb2.JoinResponse | None]
        # Work and cancels of every row twice over, and the few messages about the node itself.
        self._outbox = asyncio.Queue(maxsize=4 * self.limit + 16)
        self._closed = False
        self.reads_too_slowly = False
        self.cache_report = cluster_pb2.CacheReport()
        """All that it said, on joining, of its cache; complete when it has said it."""

    @property
    def name(self) -> str:
        """Its name."""
        return self.info.name

    @property
    def caches(self) -> bool:
        """Whether it has a cache and has said what is in it."""
        return self.cache_report.complete

    def take_cache(self, report: cluster_pb2.CacheReport) -> cluster_pb2.CacheReport | None:
        """Return a report to be applied; None where the next one goes on with it."""
        if not report.complete:
            return report
        whole = self.cache_report
        whole.held.extend(report.held)
        whole.complete = not report.more
        return whole if whole.complete else None

    def hear(self, now_s: float) -> None:
        """Note that the node said something: on a slow link images come before heartbeats."""
        self.heard_at_s = now_s

    def moved(self, now_s: float) -> None:
        """Note that a row got on, or that the first one was sent."""
        self._moved_at_s = now_s

    def beat(self, heartbeat: cluster_pb2.Heartbeat, now_s: float) -> None:
        """Take in a heartbeat."""
        self.hear(now_s)
        self.heartbeat = heartbeat
        self.heartbeat_at_s = now_s
        self.backlog.full = False
        if SLOWNESS[0] <= heartbeat.slowness <= SLOWNESS[1]:
            self.backlog.slowness = heartbeat.slowness
        if not heartbeat.rows and not heartbeat.waiting:
            self._busy_since_s = None
        elif self._busy_since_s is None:
            self._busy_since_s = now_s

    def trouble(self, now_s: float, lease_s: float) -> Trouble | None:
        """Return why the node must be given up, or None.

        The device thread is dead when it showed no life for far longer than its longest piece of
        work although there was work all the while. Whatever a node says of itself, one of the rows
        that it holds must get on, unless it is still fetching their weights.
        """
        if self.reads_too_slowly:
            return Trouble("it does not read its stream")
        silent_s = now_s - self.heard_at_s
        if silent_s > lease_s:
            return Trouble(f"nothing was heard for {silent_s:.1f} s")
        stall_s = lease_s + STALL_FACTOR * self.backlog.slowest_s()
        busy_s = 0.0 if self._busy_since_s is None else now_s - self._busy_since_s
        if min(busy_s, self.heartbeat.device_idle_s) > stall_s:
            # It comes back by itself when its device does, or ends.
            idle_s = self.heartbeat.device_idle_s
            return Trouble(f"its device did nothing for {idle_s:.1f} s", died=True)
        stuck_s = now_s - self._moved_at_s if self._may_move else 0.0
        if stuck_s > stall_s + STUCK_S:
            why = f"none of its rows got on for {stuck_s:.1f} s"
            return Trouble(why, died=True, broken=True)
        return None

    @property
    def _may_move(self) -> bool:
        """Whether it holds a row whose weights are on its device, as far as it says."""
        held, resident = self.backlog.wanted, self.heartbeat.resident
        return bool(held) and (not resident or not held.isdisjoint(resident))

    def send(self, message: cluster_pb2.JoinResponse) -> None:
        """Queue a message; a node that leaves too many unread is given up at the next check."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            self.reads_too_slowly = True

    def forget(self, request_id: str, attempt: int) -> None:
        """Tell the node to drop a row, once."""
        if len(self._told_to_forget) > 4 * self.limit:
            self._told_to_forget.clear()
        if (request_id, attempt) not in self._told_to_forget:
            self._told_to_forget.add((request_id, attempt))
            cancel = cluster_pb2.CancelWork(request_id=request_id, attempt=attempt)
            self.send(cluster_pb2.JoinResponse(cancel=cancel))

    def settle(self) -> None:
        """End the stream in good order, and say that all that was read from it is passed on."""
        self.send(cluster_pb2.JoinResponse(settled=cluster_pb2.Settled()))
        self.close(None)

    @property
    def closed(self) -> bool:
        """Whether the stream ends, or has ended."""
        return self._closed

    def close(self, error: ArgusError | None) -> None:
        """End the stream after what is queued, or at once with `error`."""
        self.end_error = error
        self._closed = True
        if error is not None:
            while not self._outbox.empty():
                self._outbox.get_nowait()
        try:
            self._outbox.put_nowait(None)
        except asyncio.QueueFull:
            self._outbox.get_nowait()
            self._outbox.put_nowait(None)

    @property
    def outbox_empty(self) -> bool:
        """Whether the node has been sent everything."""
        return self._outbox.empty()

    async def next_message(self) -> cluster_pb2.JoinResponse | None:
        """Return the next message for the node; None ends the stream."""
        first = await self._outbox.get()
        if first is None or not self.hello.reads_bundles:
            return first
        return bundle(gather(first, self._following))

    def _following(self) -> cluster_pb2.JoinResponse | None:
        """Return a message that waits; what ends the stream stays where it is."""
        message = None if self._outbox.empty() else self._outbox.get_nowait()
        if message is None and self._closed:
            self._outbox.put_nowait(None)
        return message


class Membership:
    """Members by name.

    Args:
        clock: where the time comes from.
        lease_s: seconds without a message after which a node is given up.
    """

    def __init__(self, clock: Clock, lease_s: float) -> None:
        self._clock = clock
        self.lease_s = lease_s
        self._members: dict[str, Member] = {}
        self.fleet = Fleet()
        """The members as policies see them."""

    @property
    def members(self) -> list[Member]:
        """Live nodes, sorted by name."""
        return [self._members[name] for name in sorted(self._members)]

    def get(self, name: str) -> Member | None:
        """Return the live node of that name, or None."""
        return self._members.get(name)

    def is_member(self, member: Member) -> bool:
        """Return whether this very connection is still a member."""
        return self._members.get(member.name) is member

    def holds(self, variant: str) -> bool:
        """Return whether a live node has the variant, on its device or not."""
        return any(variant in member.backlog.variants for member in self._members.values())

    @property
    def accepts_work(self) -> bool:
        """Whether some node takes new rows."""
        return any(not member.backlog.draining for member in self._members.values())

    def check_free(self, name: str) -> None:
        """Raise AlreadyExistsError when a live node has that name."""
        if name in self._members:
            raise AlreadyExistsError(f"a live node is already called {name!r}")

    def join(self, info: NodeInfo, hello: cluster_pb2.NodeHello) -> Member:
        """Return the new member.

        Raises:
            AlreadyExistsError: a live node has that name.
        """
        self.check_free(info.name)
        member = Member(info, hello, self._clock.now())
        self._members[info.name] = member
        self.fleet.add(member.backlog, member.limit)
        return member

    def leave(self, member: Member) -> None:
        """Forget a member; one that already left is ignored."""
        if self.is_member(member):
            del self._members[member.name]
            self.fleet.remove(member.name)

    @property
    def heard_s(self) -> float:
        """Since when every node has been heard of; now where there is none."""
        return min((m.heard_at_s for m in self._members.values()), default=self._clock.now())

    def hear_all(self) -> None:
        """Give every node its lease anew: it was we who did not listen."""
        for member in self._members.values():
            member.hear(self._clock.now())
            member.moved(self._clock.now())

    def troubled(self) -> list[tuple[Member, Trouble]]:
        """Return the members that must be given up, each with the reason."""
        now_s = self._clock.now()
        found = [(m, m.trouble(now_s, self.lease_s)) for m in self.members]
        return [(member, trouble) for member, trouble in found if trouble is not None]
