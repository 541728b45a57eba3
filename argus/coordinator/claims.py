"""What goes along with a row, so that another coordinator can take it up, and how it is read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from argus.control.levels import Ladder
from argus.control.offers import Offer, make_offers
from argus.control.policy import Task
from argus.control.predictor import QualityPredictor
from argus.control.reuse import NearState
from argus.control.row_costs import RowShape
from argus.coordinator.flight import Flight
from argus.errors import ArgusError, InvalidArgumentError
from argus.rpc.convert_cluster import claimed_request_from_proto, claimed_request_to_proto
from argus.types import (
    MAX_DEADLINE_S,
    MAX_GUIDANCE,
    MAX_SEED,
    MAX_STEPS,
    SHADOW_TENANT,
    ImageRequest,
    Level,
    VariantInfo,
    forwards,
    lanes,
)
from argus.v1 import cluster_pb2

MOST_ATTEMPTS = 2**31
MOST_QUALITY = 100.0


def claim_of(flight: Flight, now_s: float) -> cluster_pb2.Claim | None:
    """Return what goes along with a request's row; nothing with those that no client made."""
    if flight.request.tenant == SHADOW_TENANT:
        return None
    offer = flight.decision.offer
    return cluster_pb2.Claim(
        request=claimed_request_to_proto(flight.request),
        quality=offer.quality,
        reference_steps=offer.reference_steps,
        similarity=offer.near.similarity if offer.near else 0.0,
        losses=flight.losses,
        age_s=now_s - flight.accepted_s,
    )


class ClaimReader:
    """Makes requests in flight of rows that nodes bring along.

    Args:
        ladder: every level that there is.
        variants: by name.
        predictor: of the levels' quality.
    """

    def __init__(
        self, ladder: Ladder, variants: Mapping[str, VariantInfo], predictor: QualityPredictor
    ) -> None:
        self._ladder = ladder
        self._variants = variants
        self._predictor = predictor

    def flight(self, row: cluster_pb2.HeldRow, order: int, now_s: float) -> Flight:
        """Return the request whose row a node has.

        Args:
            row: as its node said it.
            order: counts accepted requests.
            now_s: the time.

        Raises:
            InvalidArgumentError: the claim makes no sense, or there is none.
        """
        work = row.work
        if not work.HasField("claim"):
            raise InvalidArgumentError("claim", "is missing")
        request = claimed_request_from_proto(work)
        offer = self.offer(work)
        if not (math.isfinite(row.age_s) and row.age_s >= 0):
            raise InvalidArgumentError("age_s", f"must not be below 0, not {row.age_s}")
        left_s = math.inf
        if request.deadline_s is not None:
            left_s = work.deadline_s
            if not abs(left_s) <= MAX_DEADLINE_S:
                raise InvalidArgumentError("deadline_s", f"{left_s} s cannot be left")
        task = Task(
            id=request.request_id,
            offers=self._offers(request, offer),
            arrived_s=now_s - row.age_s,
            deadline_at_s=now_s + left_s,
            order=order,
            tenant=request.tenant,
        )
        return Flight(request=request, seed=work.seed, task=task, losses=work.claim.losses)

    def offer(self, work: cluster_pb2.Work) -> Offer:
        """Return what a row was made an offer of, as far as its work and claim say.

        Raises:
            InvalidArgumentError: its variant is not known here, or its numbers make no sense.
        """
        variant, claim = self._variants.get(work.variant), work.claim
        if variant is None:
            raise InvalidArgumentError("variant", f"{work.variant!r} is not known here")
        _check_work(work, variant)
        true_guidance = work.true_guidance if work.HasField("true_guidance") else 1.0
        taken = lanes(work.guidance, variant.guidance_embedded, true_guidance)
        count = forwards(work.sampler, work.steps, left_out=work.skip)
        return Offer(
            level=self._level(work),
            row=RowShape(work.variant, work.width, work.height, count, taken),
            guidance=work.guidance,
            sampler=work.sampler,
            quality=claim.quality,
            steps=work.steps,
            reference_steps=claim.reference_steps or work.steps,
            skip=work.skip,
            near=_near(work) if work.skip else None,
        )

    def _level(self, work: cluster_pb2.Work) -> Level:
        """Return the level that a row was given out at; a ladder may have changed since."""
        own = (x for x in self._ladder.all if (x.name, x.variant) == (work.level, work.variant))
        share = min(1.0, work.steps / max(1, work.claim.reference_steps))
        made_up = Level(work.level, work.variant, share, work.claim.quality, work.skip / work.steps)
        return next(own, made_up)

    def _offers(self, request: ImageRequest, offer: Offer) -> tuple[Offer, ...]:
        """Return what a request may become if its row is lost: what it might if it came now."""
        try:
            offers = make_offers(request, self._ladder, self._variants, self._predictor)
        except ArgusError:
            offers = ()
        return offers or (replace(offer, skip=0, near=None, row=offer.whole),)


def _check_work(work: cluster_pb2.Work, variant: VariantInfo) -> None:
    """Raise InvalidArgumentError where numbers are none that a coordinator could have given out."""
    claim = work.claim
    for name, value, low, high in (
        ("steps", work.steps, 1, MAX_STEPS),
        ("skip", work.skip, 0, work.steps - 1),
        ("reference_steps", claim.reference_steps, 0, MAX_STEPS),
        ("width", work.width, 1, variant.max_size),
        ("height", work.height, 1, variant.max_size),
        ("seed", work.seed, 0, MAX_SEED),
        ("attempt", work.attempt, 1, MOST_ATTEMPTS),
        ("guidance", work.guidance, 0.0, MAX_GUIDANCE),
        ("quality", claim.quality, 0.0, MOST_QUALITY),
        ("similarity", claim.similarity, -1.0, 1.0),
    ):
        # What is not a number is in no range.
        if not low <= value <= high:
            raise InvalidArgumentError(name, f"must be {low} to {high}, not {value}")


def _near(work: cluster_pb2.Work) -> NearState:
    """Return the cached prompt that a row goes on from; nobody is to start from it here."""
    return NearState(
        variant=work.variant,
        steps=work.steps,
        key=work.start_key,
        similarity=work.claim.similarity,
        nodes={work.skip: frozenset()},
    )
