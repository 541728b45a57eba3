"""Who is a member, on a manual clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from argus.clock import ManualClock
from argus.coordinator.catalog import MAX_VARIANTS, Catalog
from argus.coordinator.membership import Member, Membership
from argus.errors import AlreadyExistsError, InvalidArgumentError, UnavailableError
from argus.types import NodeInfo, StepCosts, VariantInfo
from argus.v1 import cluster_pb2
from tests.unit.coordinator.bench import BASE, COSTS, info, sent

LEASE_S = 2.0


def joined(clock: ManualClock) -> tuple[Membership, Member]:
    membership = Membership(clock, LEASE_S)
    return membership, membership.join(info(), cluster_pb2.NodeHello())


def reasons(membership: Membership) -> list[str]:
    return [trouble.reason for _, trouble in membership.troubled()]


def test_a_lease_lasts_as_long_as_the_node_is_heard() -> None:
    clock = ManualClock()
    membership, member = joined(clock)
    for _ in range(5):
        clock.advance(1.9)
        member.beat(cluster_pb2.Heartbeat(), clock.now())
        assert not membership.troubled()
    clock.advance(2.1)
    assert reasons(membership) == ["nothing was heard for 2.1 s"]


def test_a_device_is_dead_when_it_is_idle_for_long_while_it_has_rows() -> None:
    clock = ManualClock()
    membership, member = joined(clock)
    beat = cluster_pb2.Heartbeat(rows=1, device_idle_s=100.0)
    member.beat(beat, clock.now())
    assert not membership.troubled(), "it may have had nothing to do until this moment"
    for _ in range(8):  # the lease and ten of its longest steps, 1 s at the largest size
        clock.advance(1.5)
        member.beat(beat, clock.now())
        assert not membership.troubled()
    clock.advance(1.5)
    member.beat(beat, clock.now())
    assert reasons(membership) == ["its device did nothing for 100.0 s"]


def test_a_long_step_of_rows_that_were_all_cancelled_is_not_a_dead_device() -> None:
    """A step at the largest size takes 10 s here; the node runs its rows to the step's end."""
    clock = ManualClock()
    membership = Membership(clock, LEASE_S)
    slow = replace(COSTS, steps=StepCosts((2, 8), (1.0, 2.5)))
    member = membership.join(info(costs=slow), cluster_pb2.NodeHello())
    for idle_s in range(0, 12):
        clock.advance(1.0)
        member.beat(cluster_pb2.Heartbeat(rows=4, device_idle_s=idle_s), clock.now())
        assert not membership.troubled()


def test_a_device_without_rows_may_be_idle() -> None:
    clock = ManualClock()
    membership, member = joined(clock)
    for _ in range(10):
        clock.advance(1.5)
        member.beat(cluster_pb2.Heartbeat(device_idle_s=clock.now()), clock.now())
    assert not membership.troubled()


async def test_a_node_that_does_not_read_is_given_up_and_its_end_still_fits() -> None:
    clock = ManualClock()
    membership, member = joined(clock)
    for i in range(1000):
        member.forget(f"r{i}", 1)
    assert reasons(membership) == ["it does not read its stream"]
    member.close(None)
    messages = await sent(member)
    assert messages[-1] is None
    assert len(messages) < 100
    member.forget("r", 1)
    member.close(UnavailableError("given up"))
    assert await sent(member) == [None]


def told(member: Member, *ids: str) -> None:
    for name in ids:
        member.send(
            cluster_pb2.JoinResponse(cancel=cluster_pb2.CancelWork(request_id=name, attempt=1))
        )


async def test_what_waits_for_a_node_that_reads_bundles_goes_as_one_message() -> None:
    _, member = joined(ManualClock())
    member.hello.reads_bundles = True
    told(member, "a", "b", "c")
    message = await member.next_message()
    assert message is not None
    assert [each.cancel.request_id for each in message.more] == ["a", "b", "c"]
    told(member, "d")
    member.close(None)
    message = await member.next_message()
    assert message is not None
    assert message.cancel.request_id == "d"
    assert await member.next_message() is None


async def test_a_node_that_knows_no_bundles_is_sent_none() -> None:
    _, member = joined(ManualClock())
    told(member, "a", "b")
    assert [m.cancel.request_id for m in await sent(member) if m is not None] == ["a", "b"]


def test_names_are_taken_once() -> None:
    membership, member = joined(ManualClock())
    with pytest.raises(AlreadyExistsError):
        membership.join(info(), cluster_pb2.NodeHello())
    membership.leave(member)
    again = membership.join(info(), cluster_pb2.NodeHello())
    membership.leave(member)
    assert membership.get("n1") is again


def node_with(*variants: VariantInfo) -> NodeInfo:
    return replace(info(), variants=variants, costs=(COSTS,) * len(variants))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 0}, "width must be at least 1"),
        ({"size_multiple": 0}, "size_multiple must be at least 1"),
        ({"default_sampler": "other"}, "default_sampler is not among"),
    ],
)
def test_variants_that_make_no_sense_are_refused(changes: dict[str, object], words: str) -> None:
    wrong = replace(BASE, **changes)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match=words):
        Catalog(None).learn(node_with(wrong), lambda _: False)


def test_one_name_means_one_variant_among_live_nodes() -> None:
    catalog = Catalog(None)
    catalog.learn(node_with(BASE), lambda _: False)
    other = replace(BASE, width=32)
    with pytest.raises(InvalidArgumentError, match="base is not the variant other nodes hold"):
        catalog.learn(node_with(other), lambda _: True)
    catalog.learn(node_with(other), lambda _: False)
    assert catalog.variants["base"].width == 32


def test_the_catalog_is_bounded() -> None:
    many = [replace(BASE, name=f"v{i}") for i in range(MAX_VARIANTS + 1)]
    with pytest.raises(InvalidArgumentError, match="more than 256"):
        Catalog(None).learn(node_with(*many), lambda _: False)
