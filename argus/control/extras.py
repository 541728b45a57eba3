"""Fields of a request that only some families understand."""

from __future__ import annotations

from dataclasses import dataclass

from argus.types import ImageRequest, VariantInfo

DEFAULTS = {"eta": 0.0, "guidance_rescale": 0.0, "true_guidance": 1.0}
"""What such a field holds when nothing was asked for, which every variant can do."""
NOISY_SAMPLER = "ddim"
"""The one sampler whose fresh noise eta scales."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a variant cannot do what a field asks."""

    field: str
    reason: str


def refused_extra(request: ImageRequest, variant: VariantInfo) -> Refusal | None:
    """Return the first field that holds more than its default and `variant` cannot serve."""
    for field, default in DEFAULTS.items():
        value = getattr(request, field)
        if value != default and field not in variant.accepts:
            return Refusal(
                field,
                f"variant {variant.name} ({variant.pipeline}) has no use for it; only {default:g} "
                f"is possible, not {value:g}",
            )
    sampler = request.sampler or variant.default_sampler
    if request.eta != DEFAULTS["eta"] and sampler != NOISY_SAMPLER:
        return Refusal("eta", f"only sampler {NOISY_SAMPLER} has one; this request runs {sampler}")
    return None
