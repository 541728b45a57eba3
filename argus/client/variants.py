"""What can be asked for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from argus.rpc.convert import variant_from_proto
from argus.types import VariantInfo
from argus.v1 import image_pb2


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant that live nodes hold.

    Attributes:
        info: what it is and allows.
        levels: levels of the ladder that run on it, best first.
        nodes: live nodes that hold it.
    """

    info: VariantInfo
    levels: tuple[str, ...]
    nodes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Name to ask for it by."""
        return self.info.name


def variants_from_proto(messages: Iterable[image_pb2.Variant]) -> list[Variant]:
    """Return the variants in the order they came: the default first."""
    return [Variant(variant_from_proto(m), tuple(m.levels), tuple(m.nodes)) for m in messages]
