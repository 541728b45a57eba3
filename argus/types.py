"""Value types that every room shares. Nothing here does I/O, and nothing here imports torch."""

from __future__ import annotations

import enum
from bisect import bisect_left
from dataclasses import dataclass

MAX_PROMPT_CHARS = 4000
MAX_STEPS = 1000
MAX_GUIDANCE = 50.0
MAX_SEED = 2**63 - 1
MAX_DEADLINE_S = 86_400.0
SHADOW_TENANT = "argus:shadow"
"""Tenant of requests that a coordinator makes to itself; no client can name one with a colon."""
OFF = "off"
"""Value of settings of addresses that says: do not listen."""


class ImageFormat(enum.Enum):
    """Encodings an image can be returned in; the value is the file extension."""

    PNG = "png"
    WEBP = "webp"
    JPEG = "jpeg"


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image wanted, as the client put it, validated but not yet resolved.

    Fields that are None (or empty) are resolved against the variant chosen.
    `deadline_s` is in seconds from acceptance, sizes are in pixels.
    """

    request_id: str
    prompt: str
    negative_prompt: str = ""
    seed: int | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance: float | None = None
    sampler: str = ""
    variant: str = ""
    level: str = ""
    deadline_s: float | None = None
    min_quality: float | None = None
    format: ImageFormat = ImageFormat.PNG
    preview_every: int = 0
    eta: float = 0.0
    guidance_rescale: float = 0.0
    true_guidance: float = 1.0
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class VariantInfo:
    """One set of weights and what it allows; sizes in pixels.

    `guidance_embedded` is set where guidance was distilled into the weights: it is then an input
    of the model, if anything, and no row takes a second lane for it. `accepts` names the optional
    fields of a request that mean something to the family: eta, guidance_rescale, true_guidance.
    """

    name: str
    pipeline: str
    width: int
    height: int
    size_multiple: int
    max_size: int
    samplers: tuple[str, ...]
    default_sampler: str
    default_steps: int
    default_guidance: float
    guidance_embedded: bool = False
    accepts: tuple[str, ...] = ()
    weights: str = ""
    """Fingerprint of the weights; empty where no states are cached."""


@dataclass(frozen=True, slots=True)
class StepCosts:
    """Measured seconds of one denoising step by number of lanes, at the native size.

    `lanes` ascends and has the same length as `seconds`. Cost is never assumed to be linear:
    between measurements it is interpolated, beyond the last it grows by the last slope.
    """

    lanes: tuple[int, ...]
    seconds: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.lanes or len(self.lanes) != len(self.seconds):
            raise ValueError("step costs need as many seconds as lane counts, at least one")
        if any(a >= b for a, b in zip(self.lanes, self.lanes[1:], strict=False)):
            raise ValueError(f"lane counts must ascend: {self.lanes}")

    def step_s(self, lanes: int) -> float:
        """Return the seconds of one step over `lanes` lanes."""
        i = bisect_left(self.lanes, lanes)
        if i < len(self.lanes) and self.lanes[i] == lanes:
            return self.seconds[i]
        if i == 0:
            return self.seconds[0]
        if len(self.lanes) == 1:
            return self.seconds[0] * lanes / self.lanes[0]
        i = min(i, len(self.lanes) - 1)
        low, high = self.lanes[i - 1], self.lanes[i]
        slope = (self.seconds[i] - self.seconds[i - 1]) / (high - low)
        return self.seconds[i - 1] + slope * (lanes - low)


@dataclass(frozen=True, slots=True)
class VariantCosts:
    """What a variant costs on one node, measured, in seconds."""

    steps: StepCosts
    text_encode_s: float
    decode_s: float


@dataclass(frozen=True, slots=True)
class Level:
    """One (variant, approximation) pair of the ladder.

    `steps_fraction` is the share of the reference steps that the schedule has, in (0, 1];
    `skip_fraction` the share of those that are not run, since the state of a cached prompt takes
    their place, in [0, 1); `quality` the expected relative quality, 1 = the reference level.
    """

    name: str
    variant: str
    steps_fraction: float
    quality: float
    skip_fraction: float = 0.0

    @property
    def is_whole(self) -> bool:
        """Whether the variant runs every step."""
        return self.steps_fraction == 1.0 and not self.skip_fraction

    def steps(self, reference_steps: int) -> int:
        """Return the steps to run when the reference level would run `reference_steps`."""
        return max(1, round(reference_steps * self.steps_fraction))

    def skip(self, reference_steps: int) -> int:
        """Return the steps that a cached state stands for, rounded down."""
        # 0.3 of 50 is 15 - 2e-15 in floats.
        return int(self.steps(reference_steps) * self.skip_fraction + 1e-9)


TWO_LOOKS = frozenset({"heun", "flow_heun"})
"""Samplers that look twice in each step but the last."""


def forwards(sampler: str, steps: int, left_out: int = 0) -> int:
    """Return the forwards that a run takes.

    Args:
        sampler: its name.
        steps: of the full schedule.
        left_out: how many of them are not run. PNDM's second look is in step 0 of a schedule that
            is run as a whole; of a single step there is none.
    """
    run = steps - left_out
    if sampler in TWO_LOOKS:
        return 2 * run - 1
    return run + 1 if sampler == "pndm" and run == steps > 1 else run


def lanes(guidance: float, guidance_embedded: bool, true_guidance: float = 1.0) -> int:
    """Return the lanes a row takes: two with classifier-free guidance, as diffusers decides it.

    Where guidance is embedded in the weights, `true_guidance` is what takes a second lane.
    """
    return 2 if (true_guidance if guidance_embedded else guidance) > 1.0 else 1


@dataclass(frozen=True, slots=True)
class ResolvedRequest:
    """A request with a level chosen and every default filled in: what a node runs.

    `skip` is the number of steps not run because a cached state takes their place: the row starts
    before step `skip` of `steps`. `checkpoints` are the steps before which the latents are kept.
    A row that would be late may be spaced anew, down to `fewest_forwards` in all; 0: it may not.
    `start_key` names the cached entry to start from, `keep_key` the one that is made of the row.
    """

    request_id: str
    attempt: int
    prompt: str
    negative_prompt: str
    seed: int
    width: int
    height: int
    steps: int
    guidance: float
    sampler: str
    variant: str
    level: str
    deadline_s: float | None = None
    format: ImageFormat = ImageFormat.PNG
    preview_every: int = 0
    eta: float = 0.0
    guidance_rescale: float = 0.0
    true_guidance: float = 1.0
    skip: int = 0
    checkpoints: tuple[int, ...] = ()
    fewest_forwards: int = 0
    start_key: str = ""
    keep_key: str = ""
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """What a node said of itself when it joined; memory in bytes.

    `weights_budget` is the most bytes of weights on its device, 0 without a limit; `weights_bytes`
    and `load_s` go along with `variants`, 0 or empty where they are not known.
    """

    name: str
    device: str
    device_name: str
    memory_bytes: int
    slots: int
    max_lanes: int
    argus_version: str
    variants: tuple[VariantInfo, ...]
    costs: tuple[VariantCosts, ...]
    cache_group: str = ""
    weights_budget: int = 0
    weights_bytes: tuple[int, ...] = ()
    load_s: tuple[float, ...] = ()
    pinned: tuple[str, ...] = ()

    @property
    def is_crowded(self) -> bool:
        """Whether its device has no room for all of its variants at once."""
        return 0 < self.weights_budget < sum(self.weights_bytes)

    def variant(self, name: str) -> VariantInfo | None:
        """Return the resident variant of that name, or None."""
        return next((v for v in self.variants if v.name == name), None)

    def costs_of(self, name: str) -> VariantCosts | None:
        """Return the costs of the resident variant of that name, or None."""
        return next(
            (c for v, c in zip(self.variants, self.costs, strict=True) if v.name == name), None
        )
