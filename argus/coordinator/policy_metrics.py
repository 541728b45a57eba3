"""What the policy, its predictions and the plan of residency go by, as metrics."""

from __future__ import annotations

import math
from collections.abc import Iterable

from prometheus_client import Metric

from argus.clock import Clock
from argus.control.policy import Policy, Priced
from argus.coordinator.prompts import PromptReader
from argus.coordinator.residence import Residence
from argus.metrics.families import counter, gauge


def policy_families(policy: Policy, clock: Clock) -> Iterable[Metric]:
    """Return the families of a policy that puts a price on device seconds; none of others."""
    if not isinstance(policy, Priced):
        return
    figures = policy.figures(clock.now())
    yield gauge(
        "argus_price_quality_per_second",
        "Worth of a device second in units of quality, as of the last decision.",
        figures.price,
    )
    yield gauge(
        "argus_demand_requests_per_second", "Arrivals a second expected.", figures.arrivals_per_s
    )
    yield gauge(
        "argus_demand_load_ratio",
        "Work expected without approximation, relative to what the nodes can do.",
        figures.load,
    )
    yield gauge(
        "argus_prediction_margin_ratio",
        "Factor on predicted seconds beyond what other rows on a node explain.",
        figures.margin,
    )
    yield gauge(
        "argus_prediction_filling_ratio",
        "How far nodes fill up while a row runs; NaN before anything was learned.",
        figures.filling,
    )
    yield gauge(
        "argus_admission_reserve_ratio",
        "Time kept free when requests are accepted, relative to that of their fastest level.",
        figures.reserve,
    )
    yield gauge(
        "argus_plan_age_seconds",
        "Age of what the price is read from; NaN before there is any.",
        math.nan if figures.plan_age_s is None else figures.plan_age_s,
    )


def prompt_families(prompts: PromptReader) -> Iterable[Metric]:
    """Return the families of what is known of prompts."""
    yield counter(
        "argus_prompts_unembedded",
        "Prompts that were predicted without their embedding, since too many came.",
        prompts.unembedded,
    )


def residency_families(residence: Residence, clock: Clock) -> Iterable[Metric]:
    """Return the families of the plan of residency."""
    plan = residence.plan
    yield counter(
        "argus_variant_moves",
        "Orders to move variants that nodes carried out.",
        residence.placer.moves,
    )
    yield gauge(
        "argus_residency_plan_age_seconds",
        "Age of the plan of which node holds which variants; NaN before the first.",
        math.nan if plan is None else clock.now() - plan.made_at_s,
    )
