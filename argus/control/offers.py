"""What a request may become: the levels open to it, each with the row it would be there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from argus.control.extras import refused_extra
from argus.control.levels import Ladder
from argus.control.predictor import Expectation, PromptView, QualityPredictor
from argus.control.reuse import NearState, nearest_similarity
from argus.control.row_costs import RowShape
from argus.errors import InvalidArgumentError
from argus.types import ImageRequest, Level, VariantInfo, forwards, lanes


@dataclass(frozen=True, slots=True)
class Offer:
    """One level a request may be made at, every default filled in."""

    level: Level
    row: RowShape
    guidance: float
    sampler: str
    quality: float
    """Expected relative quality."""
    steps: int
    """Steps to run; the row's forwards, which a sampler may make more of, are in `row`."""
    reference_steps: int
    """Steps the reference level would run."""
    skip: int = 0
    """Steps that a cached state stands for."""
    near: NearState | None = None
    """Whose state; None where every step is run."""
    fallback: bool = False
    """Whether it is only for when no node can make any other offer."""
    lower: float = 0.0
    """Relative quality that is reached with the predictor's coverage; min_quality is held to it."""
    fitted: float | None = None
    """That bound before live pictures widened it; None where none are looked at."""

    def may_run_on(self, node: str) -> bool:
        """Whether the node can read the state that is needed, if one is."""
        return self.near is None or node in self.near.nodes[self.skip]

    @property
    def fetch_s(self) -> float:
        """Expected seconds until the state is there."""
        return 0.0 if self.near is None else self.near.fetch_s

    @property
    def whole(self) -> RowShape:
        """The row it becomes when the state is not there after all."""
        return self.row._replace(forwards=forwards(self.sampler, self.steps))


def make_offers(
    request: ImageRequest,
    ladder: Ladder,
    variants: Mapping[str, VariantInfo],
    predictor: QualityPredictor,
    near: Sequence[NearState] = (),
    *,
    prompt: PromptView | None = None,
    always_reuse: bool = False,
) -> tuple[Offer, ...]:
    """Return what `request` may become, the level it is measured against first.

    Size and steps come from the request or from the variant of the first visible level, so that
    they do not change with the level; guidance and sampler, where not asked for, from the variant
    that makes the picture. Lower levels that cannot make the picture asked for (its size, its
    sampler, less than one step, a field their variant does not accept) are left out, and so are
    levels that continue a cached state where none is near enough. Without a deadline there is
    exactly one offer, the reference: the same request then gives the same picture whatever the
    load. Whatever is to continue a state by the request's own wish has the whole run as a fallback,
    for when no node can read that state any more.

    Args:
        request: what is asked for.
        ladder: every level there is.
        variants: by name.
        predictor: of the levels' quality.
        near: cached prompts near the request's, at most one for each variant and step count.
        prompt: what is known of the prompt; None: its text, and how near `near` is.
        always_reuse: whether a request without a deadline is made from a cached state, too, from
            the latest one that is harmless.

    Raises:
        NotFoundError: unknown variant or level.
        InvalidArgumentError: width, height, sampler or steps are not allowed, the variant does not
            accept eta, guidance_rescale or true_guidance, or the lower bound of no level reaches
            min_quality.
    """
    visible = [x for x in ladder.visible(request.variant, request.level) if x.variant in variants]
    if not visible:
        return ()
    reference = variants[visible[0].variant]
    _check(request, visible[0], reference)
    if prompt is None:
        prompt = PromptView(request.prompt, similarity=nearest_similarity(near))
    (expected,) = predictor.predict([prompt], visible)
    all_offers = [
        _offer(request, level, expectation, reference, variants[level.variant], near)
        for level, expectation in zip(visible, expected, strict=True)
        if _can(request, level, reference, variants[level.variant])
    ]
    offers = [offer for offer in all_offers if offer is not None]
    if request.level:
        offers = [offers[0], *(replace(offer, fallback=True) for offer in offers[1:])]
    elif request.deadline_s is None:
        offers = _without_deadline(offers, always_reuse)
    return _good_enough(request, offers)


def _without_deadline(offers: Sequence[Offer], always_reuse: bool) -> list[Offer]:
    """Return the one offer of a request that has time, and what takes its place without nodes."""
    whole = offers[0]
    same = [x for x in offers if (x.row.variant, x.steps) == (whole.row.variant, whole.steps)]
    latest = max(same, key=lambda offer: offer.skip)
    if not always_reuse or not latest.skip:
        return [whole]
    return [latest, replace(whole, fallback=True)]


def _good_enough(request: ImageRequest, offers: Sequence[Offer]) -> tuple[Offer, ...]:
    floor = request.min_quality
    if floor is None:
        return tuple(offers)
    good = tuple(offer for offer in offers if offer.lower >= floor)
    if not good:
        best = max(offer.lower for offer in offers)
        raise InvalidArgumentError(
            "min_quality",
            f"{floor:g} is out of reach; the best predicted is {best:g}, as the lower bound that "
            "min_quality is held against",
        )
    return good


def _offer(
    request: ImageRequest,
    level: Level,
    expected: Expectation,
    reference: VariantInfo,
    variant: VariantInfo,
    near: Sequence[NearState],
) -> Offer | None:
    """Return the offer of a level, or None where it needs a state and there is none."""
    width, height = _size(request, reference)
    reference_steps = _reference_steps(request, reference)
    steps = level.steps(reference_steps)
    guidance = variant.default_guidance if request.guidance is None else request.guidance
    sampler = request.sampler or variant.default_sampler
    taken = lanes(guidance, variant.guidance_embedded, request.true_guidance)
    skip = level.skip(reference_steps)
    state = _state(near, variant.name, steps, skip)
    if level.skip_fraction and state is None:
        return None
    row = RowShape(variant.name, width, height, forwards(sampler, steps, left_out=skip), taken)
    return Offer(
        level,
        row,
        guidance,
        sampler,
        expected.quality,
        steps,
        reference_steps,
        skip,
        near=state,
        lower=expected.lower,
        fitted=expected.fitted,
    )


def _state(near: Sequence[NearState], variant: str, steps: int, skip: int) -> NearState | None:
    """Return the near state that a level of the variant may start from, if there is one."""
    fitting = (state for state in near if (state.variant, state.steps) == (variant, steps))
    return next((state for state in fitting if state.allows(skip)), None)


def _size(request: ImageRequest, reference: VariantInfo) -> tuple[int, int]:
    width = reference.width if request.width is None else request.width
    return width, reference.height if request.height is None else request.height


def _reference_steps(request: ImageRequest, reference: VariantInfo) -> int:
    return reference.default_steps if request.steps is None else request.steps


def _fits(pixels: int, variant: VariantInfo) -> bool:
    return 0 < pixels <= variant.max_size and pixels % variant.size_multiple == 0


def _has_a_step(level: Level, reference_steps: int) -> bool:
    return round(reference_steps * level.steps_fraction) >= 1


def _can(request: ImageRequest, level: Level, reference: VariantInfo, variant: VariantInfo) -> bool:
    """Return whether `level` can make the picture asked for."""
    return (
        all(_fits(pixels, variant) for pixels in _size(request, reference))
        and (not request.sampler or request.sampler in variant.samplers)
        and _has_a_step(level, _reference_steps(request, reference))
        and refused_extra(request, variant) is None
    )


def _check(request: ImageRequest, level: Level, variant: VariantInfo) -> None:
    """Raise InvalidArgumentError where the level asked for cannot make the picture."""
    for field, pixels in zip(("width", "height"), _size(request, variant), strict=True):
        if not _fits(pixels, variant):
            raise InvalidArgumentError(
                field,
                f"variant {variant.name} makes multiples of {variant.size_multiple} "
                f"from {variant.size_multiple} to {variant.max_size} pixels, not {pixels}",
            )
    if request.sampler and request.sampler not in variant.samplers:
        raise InvalidArgumentError(
            "sampler",
            f"unknown {request.sampler!r}; variant {variant.name} knows: "
            + ", ".join(variant.samplers),
        )
    steps = _reference_steps(request, variant)
    if not _has_a_step(level, steps):
        raise InvalidArgumentError(
            "steps",
            f"level {level.name} runs {level.steps_fraction:g} of the steps, which leaves none "
            f"of {steps}",
        )
    refusal = refused_extra(request, variant)
    if refusal is not None:
        raise InvalidArgumentError(refusal.field, refusal.reason)
