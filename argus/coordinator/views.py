"""What the services show of the state."""

from __future__ import annotations

from collections.abc import Collection

from argus.control.policy import Policy, Priced
from argus.coordinator.catalog import Catalog
from argus.coordinator.leadership import Leadership
from argus.coordinator.membership import Member, Membership
from argus.coordinator.residence import Residence
from argus.coordinator.reuse import Reuse
from argus.coordinator.shadow import Shadow
from argus.rpc.convert import variant_to_proto
from argus.v1 import admin_pb2, image_pb2


def live_variants(catalog: Catalog, membership: Membership) -> list[image_pb2.Variant]:
    """Return the variants on live nodes, the default first, then by name."""
    default = catalog.ladder.default_variant
    variants = []
    for name in sorted(catalog.variants, key=lambda name: (name != default, name)):
        nodes = [m.name for m in membership.members if m.backlog.holds(name)]
        levels = [level.name for level in catalog.ladder.of_variant(name)]
        if nodes:
            variants.append(variant_to_proto(catalog.variants[name], levels, nodes))
    return variants


def node_status(
    member: Member, now_s: float, unloaded: Collection[str] = ()
) -> admin_pb2.NodeStatus:
    """Return one node as the coordinator sees it at `now_s`.

    Args:
        member: the node.
        now_s: the time.
        unloaded: variants that operators have unloaded there.
    """
    return admin_pb2.NodeStatus(
        hello=member.hello,
        heartbeat=member.heartbeat,
        heartbeat_age_s=now_s - member.heartbeat_at_s,
        assigned=len(member.backlog),
        backlog_s=member.backlog.drained_s(),
        draining=member.backlog.draining,
        serving=sorted(member.backlog.serving),
        unloaded=sorted(unloaded),
    )


def policy_status(name: str, policy: Policy, now_s: float) -> admin_pb2.PolicyStatus:
    """Return what decides, and what it goes by."""
    if not isinstance(policy, Priced):
        return admin_pb2.PolicyStatus(name=name)
    figures = policy.figures(now_s)
    return admin_pb2.PolicyStatus(
        name=name,
        price=figures.price,
        arrivals_per_s=figures.arrivals_per_s,
        load=figures.load,
        margin=figures.margin,
        plan_age_s=figures.plan_age_s,
    )


def residency_status(residence: Residence, now_s: float) -> admin_pb2.ResidencyStatus | None:
    """Return the plan of who holds what; None where all variants fit everywhere."""
    placer, plan = residence.placer, residence.plan
    if not placer.is_needed:
        return None
    status = admin_pb2.ResidencyStatus(moves=placer.moves, moving=placer.moving)
    if plan is not None:
        status.plan_age_s = now_s - plan.made_at_s
        status.reason, status.solved = plan.reason.value, plan.solved.value
        status.rate_per_s = plan.rate_per_s
    return status


async def cache_status(reuse: Reuse) -> admin_pb2.CacheStatus:
    """Return the cache as the coordinator sees it."""
    fetches = [
        admin_pb2.FetchTimes(
            tier=tier,
            p50_s=reuse.fetches.quantile(tier, 0.5) or 0.0,
            p99_s=reuse.fetches.quantile(tier, 0.99) or 0.0,
        )
        for tier in reuse.fetches.tiers()
    ]
    return admin_pb2.CacheStatus(
        embedder=reuse.embedder_name,
        entries=await reuse.entries(),
        lookups=reuse.lookups,
        near=reuse.near,
        fetches=fetches,
    )


def leadership_status(leadership: Leadership, now_s: float) -> admin_pb2.LeadershipStatus:
    """Return who leads, and whether others could."""
    return admin_pb2.LeadershipStatus(
        epoch=leadership.epoch, since_s=now_s - leadership.since_s, waiting=leadership.waiting
    )


def quality_status(shadow: Shadow) -> admin_pb2.QualityStatus:
    """Return how live pictures compare with the reference level's."""
    counts, drift = shadow.counts, shadow.drift
    return admin_pb2.QualityStatus(
        shadow_share=shadow.share,
        scorer=shadow.scorer,
        trouble=shadow.trouble,
        sampled=counts.sampled,
        compared=counts.compared,
        undefined=counts.undefined,
        withdrawn=counts.withdrawn,
        dropped=counts.dropped,
        failed=counts.failed,
        waiting=shadow.waiting,
        in_flight=shadow.in_flight,
        residual=drift.residual,
        levels=[
            admin_pb2.LevelResidual(level=level, residual=residual)
            for level, residual in drift.residuals.items()
        ],
        alarms=[
            admin_pb2.DriftAlarm(
                level=alarm.level,
                worse=alarm.worse,
                residual=alarm.residual,
                pictures=alarm.pictures,
            )
            for alarm in drift.alarms
        ],
        margin=drift.margin,
        held=drift.coverage.held,
        bounds_judged=drift.coverage.judged,
    )
