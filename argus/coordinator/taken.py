"""Pictures that are compared with what the reference level makes of the same request."""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace

from argus.control.levels import Ladder
from argus.coordinator.flight import Flight
from argus.coordinator.judge import Scores
from argus.quality.live import Comparison, LivePicture
from argus.types import SHADOW_TENANT, ImageRequest, Level
from argus.v1 import image_pb2


@dataclass(frozen=True, slots=True)
class Taken:
    """A picture that was made for a client below the reference level.

    Attributes:
        request: as it came.
        level: it was made at.
        reference: level that its quality is relative to.
        reference_steps: of that level.
        predicted: relative quality.
        lower: bound stated of it, without a margin; None where none was.
        similarity: to the cached prompt whose state it continues; None where it continues none.
        skip: steps that state stood for.
        image: the picture.
    """

    request: ImageRequest
    level: Level
    reference: Level
    reference_steps: int
    predicted: float
    lower: float | None
    similarity: float | None
    skip: int
    image: image_pb2.Image

    @staticmethod
    def of(flight: Flight, image: image_pb2.Image, reference: Level) -> Taken:
        """Return what is to be remembered of a request that ended with `image`."""
        offer = flight.made_at
        return Taken(
            request=flight.request,
            level=offer.level,
            reference=reference,
            reference_steps=offer.reference_steps,
            predicted=offer.quality,
            lower=offer.fitted,
            similarity=offer.near.similarity if offer.near else None,
            skip=offer.skip,
            image=image,
        )

    def again(self) -> ImageRequest:
        """Return the request for the same picture at the reference level."""
        return replace(
            self.request,
            request_id=f"shadow-{uuid.uuid4().hex}",
            seed=self.image.seed,
            width=self.image.width,
            height=self.image.height,
            steps=self.reference_steps,
            variant=self.reference.variant,
            level=self.reference.name,
            deadline_s=None,
            min_quality=None,
            preview_every=0,
            tenant=SHADOW_TENANT,
        )


def reference_of(level: Level, ladder: Ladder) -> Level | None:
    """Return the level that another one's quality is relative to; None: it is not of the ladder."""
    if level.name in {own.name for own in ladder.levels}:
        return ladder.levels[0]
    return next((own for own in ladder.of_variant(level.variant) if own.is_whole), None)


def relative(scores: Scores, column: str) -> float | None:
    """Return the relative quality; None where it is not defined."""
    made, reference = scores.made[column], scores.reference[column]
    return None if made is None or reference is None or reference <= 0 else made / reference


def comparison(
    request_id: str, taken: Taken, reference: image_pb2.Image, scores: Scores
) -> Comparison:
    """Return what is kept of a pair."""
    image = taken.image
    return Comparison(
        id=request_id,
        prompt=taken.request.prompt,
        seed=image.seed,
        similarity=taken.similarity,
        made=LivePicture(taken.level, image.steps, taken.skip, image.node, scores.made),
        reference=LivePicture(
            taken.reference, reference.steps, 0, reference.node, scores.reference
        ),
    )
