"""From keyword arguments to a request."""

from __future__ import annotations

from typing import TypedDict

from argus.rpc.checks import check_size
from argus.rpc.convert import new_request_id, parse_image_format, parse_size
from argus.types import ImageFormat, ImageRequest


class Options(TypedDict, total=False):
    """Keyword arguments of everything that makes an image. What is absent, or None, is left to
    the server; what is out of range is refused, never clamped.

    seed: of the initial noise, 0 to 2^63 - 1; absent: drawn by the server and reported.
    size: (width, height) or "WxH" in pixels; absent: the variant's native size.
    steps: denoising steps at the reference level, 1 to 1,000.
    guidance: classifier-free guidance scale, 0 to 50; at or below 1 none is applied.
    negative_prompt: what the picture should not show; used only with guidance above 1.
    sampler, variant: by name, see `variants()`.
    level: pins one level of the ladder by name; absent: Argus chooses.
    deadline_s: seconds from now by which the image must have arrived, at most 86,400.
    min_quality: lowest acceptable relative quality, 0 to 1, held against the predicted lower
        bound.
    format: "png", "webp" or "jpeg".
    request_id: 1 to 128 characters of [A-Za-z0-9._:-]; asking again with the same id finds the
        same image. Absent: a new one.
    preview_every: ask for a preview every so many steps; 0: none.
    eta: share of fresh noise in each DDIM step, 0 to 1; only with the sampler ddim.
    guidance_rescale: how far the spread of a guided output is drawn back to that of the prompt's
        own, 0 to 1 (Lin et al. 2023, "Common Diffusion Noise Schedules and Sample Steps Are
        Flawed").
    true_guidance: classifier-free guidance scale beside guidance embedded in the weights, 0 to 50;
        at or below 1 none is applied.

    tenant: whom the request is for, at most 64 characters of [A-Za-z0-9._-]; cached states of one
        tenant are never used for another.

    eta, guidance_rescale and true_guidance are for variants that accept them, see
    `Variant.info.accepts`; for others every value but the default (0, 0, 1) is refused.
    """

    seed: int | None
    size: tuple[int, int] | str | None
    steps: int | None
    guidance: float | None
    negative_prompt: str
    sampler: str
    variant: str
    level: str
    deadline_s: float | None
    min_quality: float | None
    format: ImageFormat | str
    request_id: str | None
    preview_every: int
    eta: float
    guidance_rescale: float
    true_guidance: float
    tenant: str


def build_request(
    prompt: str,
    *,
    size: tuple[int, int] | str | None = None,
    format: ImageFormat | str = ImageFormat.PNG,
    request_id: str | None = None,
    seed: int | None = None,
    steps: int | None = None,
    guidance: float | None = None,
    negative_prompt: str = "",
    sampler: str = "",
    variant: str = "",
    level: str = "",
    deadline_s: float | None = None,
    min_quality: float | None = None,
    preview_every: int = 0,
    eta: float = 0.0,
    guidance_rescale: float = 0.0,
    true_guidance: float = 1.0,
    tenant: str = "",
) -> ImageRequest:
    """Return the request; its fields are checked when it is put on the wire.

    Raises:
        InvalidArgumentError: a size or format that cannot be read.
    """
    width, height = _sides(size)
    return ImageRequest(
        request_id=new_request_id() if request_id is None else request_id,
        prompt=prompt,
        negative_prompt=negative_prompt,
        seed=seed,
        width=width,
        height=height,
        steps=steps,
        guidance=guidance,
        sampler=sampler,
        variant=variant,
        level=level,
        deadline_s=deadline_s,
        min_quality=min_quality,
        format=format if isinstance(format, ImageFormat) else parse_image_format(format),
        preview_every=preview_every,
        eta=eta,
        guidance_rescale=guidance_rescale,
        true_guidance=true_guidance,
        tenant=tenant,
    )


def _sides(size: tuple[int, int] | str | None) -> tuple[int, int] | tuple[None, None]:
    if size is None:
        return None, None
    if isinstance(size, str):
        return parse_size(size)
    check_size(size)
    return size
