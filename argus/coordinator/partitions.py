"""Which partitions of the cache hold what a request could start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from argus.cache.keys import Partition, digest, normalise_prompt
from argus.control.levels import Ladder
from argus.control.offers import Offer, make_offers
from argus.control.predictor import LevelMeans
from argus.errors import ArgusError
from argus.types import ImageRequest, VariantInfo


def partition_of(
    request: ImageRequest, offer: Offer, variant: VariantInfo, *, shared: bool
) -> Partition:
    """Return the partition of a request's states where it is made at `offer`.

    Args:
        variant: that makes it, with the fingerprint of its weights.
        shared: whether the tenant takes part in the shared pool.
    """
    special = ""
    if request.guidance_rescale or request.true_guidance != 1.0:
        # True guidance uses the negative prompt whatever the embedded scale is.
        negative = digest(normalise_prompt(request.negative_prompt))
        special = f"rescale {request.guidance_rescale} true {request.true_guidance} not {negative}"
    return Partition.of(
        variant=variant.name,
        weights=variant.weights,
        sampler=offer.sampler,
        steps=offer.steps,
        width=offer.row.width,
        height=offer.row.height,
        guidance=offer.guidance,
        negative_prompt=request.negative_prompt,
        eta=request.eta,
        adapters=special,
        tenant=request.tenant,
        shared=shared,
    )


def reusable_offers(
    request: ImageRequest, ladder: Ladder, variants: Mapping[str, VariantInfo]
) -> list[Offer]:
    """Return, for each variant and step count of which states are of use, one run of every step."""
    try:
        levels = ladder.visible(request.variant, request.level)
        kinds = {(x.variant, x.steps_fraction) for x in levels if x.skip_fraction}
        # A pinned level is measured against its own variant.
        variant = levels[0].variant if request.level else request.variant
        plain = replace(request, variant=variant, level="", min_quality=None, deadline_s=1.0)
        whole = make_offers(plain, ladder, variants, LevelMeans()) if kinds else ()
    except ArgusError:
        # What is wrong with the request is said where it is accepted.
        return []
    chosen: dict[tuple[str, float], Offer] = {}
    for offer in whole:
        kind = (offer.level.variant, offer.level.steps_fraction)
        if kind in kinds:
            chosen.setdefault(kind, offer)
    return list(chosen.values())


def kept_steps(offer: Offer, ladder: Ladder) -> tuple[int, ...]:
    """Return the steps of a whole run whose states some level could start from, ascending."""
    kind = (offer.level.variant, offer.level.steps_fraction)
    alike = (x for x in ladder.all if (x.variant, x.steps_fraction) == kind)
    return tuple(sorted({k for x in alike if (k := x.skip(offer.reference_steps))}))
