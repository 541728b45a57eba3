"""The variants seen so far and the ladder they form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from argus.control.levels import Ladder, LevelProfile
from argus.errors import InvalidArgumentError
from argus.types import NodeInfo, VariantInfo

MAX_VARIANTS = 256


class Catalog:
    """Variants in the order they were first seen; the first is the default without a profile.

    A variant whose nodes are all gone stays known: asking for it is then a matter of
    availability, not of a wrong name.

    Args:
        profile: measured levels, or None.
        cached: whether states are cached.
    """

    def __init__(self, profile: LevelProfile | None, cached: bool = False) -> None:
        self._profile = profile
        self._cached = cached
        self._variants: dict[str, VariantInfo] = {}
        self.ladder = Ladder.build(profile, [])

    @property
    def variants(self) -> Mapping[str, VariantInfo]:
        """Variants by name."""
        return self._variants

    def learn(self, info: NodeInfo, is_live: Callable[[str], bool]) -> None:
        """Take in the variants of a node that joins.

        Args:
            info: the node.
            is_live: whether a live node holds the variant of that name.

        Raises:
            InvalidArgumentError: a variant makes no sense, or is not what live nodes know by its
                name.
        """
        for variant in info.variants:
            _check(variant)
            known = self._variants.get(variant.name)
            if known is not None and not _same(known, variant) and is_live(variant.name):
                raise InvalidArgumentError(
                    "variants", f"{variant.name} is not the variant other nodes hold by that name"
                )
        if len(self._variants | {v.name: v for v in info.variants}) > MAX_VARIANTS:
            raise InvalidArgumentError("variants", f"more than {MAX_VARIANTS} in the cluster")
        for variant in info.variants:
            known = self._variants.get(variant.name)
            if known is not None and is_live(variant.name) and not variant.weights:
                variant = replace(variant, weights=known.weights)
            self._variants[variant.name] = variant
        self.ladder = Ladder.build(self._profile, list(self._variants.values()), self._cached)


def _same(one: VariantInfo, other: VariantInfo) -> bool:
    """Return whether two nodes hold the same; one without a cache does not look at the weights."""
    if not (one.weights and other.weights):
        one, other = replace(one, weights=""), replace(other, weights="")
    return one == other


def _check(variant: VariantInfo) -> None:
    numbers = (
        ("width", variant.width),
        ("height", variant.height),
        ("size_multiple", variant.size_multiple),
        ("max_size", variant.max_size),
        ("default_steps", variant.default_steps),
    )
    for name, value in numbers:
        if value < 1:
            raise InvalidArgumentError("variants", f"{variant.name}: {name} must be at least 1")
    if variant.default_sampler not in variant.samplers:
        raise InvalidArgumentError(
            "variants", f"{variant.name}: default_sampler is not among its samplers"
        )
