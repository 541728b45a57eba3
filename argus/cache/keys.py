"""What a state belongs to: the partition it was made in and the prompt it was made for.

A state may only be continued where every step before it would have been computed in the same way
for the same prompt. The partition holds what decides that; the prompt alone may differ.
"""

from __future__ import annotations

import json
import unicodedata
from dataclasses import asdict, dataclass
from hashlib import blake2b

from argus.errors import InvalidArgumentError

_DIGEST_BYTES = 16
GUIDANCE_CLASS_WIDTH = 0.5
UNGUIDED = 0


def digest(text: str) -> str:
    """Return 32 hexadecimal digits that stand for `text` (BLAKE2b, 128 bits)."""
    return blake2b(text.encode("utf-8"), digest_size=_DIGEST_BYTES).hexdigest()


def normalise_prompt(prompt: str) -> str:
    """Return the form in which two prompts are the same entry: NFKC, one case, single spaces."""
    folded = unicodedata.normalize("NFKC", prompt).casefold()
    return " ".join(folded.split())


def guidance_class(guidance: float) -> int:
    """Return the class of a guidance scale: 0 without guidance, else its count of half units.

    The early steps, which are the ones that are skipped, depend smoothly on the scale, and people
    choose few values (3.5, 5, 7, 7.5): half units keep those apart and put 7.4 beside 7.5. The
    class is of the scale, not of the number of lanes, since models with embedded guidance read
    the scale as well. Scales of at most 1 mean that the negative prompt plays no part, which is
    another computation, so they are a class of their own.
    """
    if guidance <= 1.0:
        return UNGUIDED
    return max(UNGUIDED + 1, round(guidance / GUIDANCE_CLASS_WIDTH))


@dataclass(frozen=True, slots=True)
class Partition:
    """The circumstances under which states can be exchanged; sizes in pixels.

    `tenant` None is the pool shared by the tenants that opted into it. A tenant that did not opt
    in has partitions of its own, so no look-up of anyone else can reach them. Without tenants the
    name is empty.
    """

    variant: str
    weights: str
    """Fingerprint of the variant's weights and configuration (`fingerprint.folder_fingerprint`)."""
    sampler: str
    steps: int
    width: int
    height: int
    guidance_class: int
    negative: str = ""
    """Digest of the normalised negative prompt where guidance uses one, else empty."""
    eta: float = 0.0
    adapters: str = ""
    tenant: str | None = ""

    @staticmethod
    def of(
        *,
        variant: str,
        weights: str,
        sampler: str,
        steps: int,
        width: int,
        height: int,
        guidance: float,
        negative_prompt: str = "",
        eta: float = 0.0,
        adapters: str = "",
        tenant: str = "",
        shared: bool = False,
    ) -> Partition:
        """Return the partition of a request.

        Args:
            negative_prompt: as written; left out of the partition when guidance is off.
            adapters: what names the adapter set and its scales; empty for none.
            tenant: who asks.
            shared: whether that tenant opted into the shared pool.
        """
        group = guidance_class(guidance)
        negative = normalise_prompt(negative_prompt) if group != UNGUIDED else ""
        return Partition(
            variant=variant,
            weights=weights,
            sampler=sampler,
            steps=steps,
            width=width,
            height=height,
            guidance_class=group,
            negative=digest(negative) if negative else "",
            eta=eta,
            adapters=adapters,
            tenant=None if shared else tenant,
        )

    @property
    def digest(self) -> str:
        """32 hexadecimal digits, the same in every process and version of Python."""
        return digest(self.to_json())

    def to_json(self) -> str:
        """Return all fields as JSON with sorted names."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Partition:
        """Return the partition that `to_json` wrote.

        Raises:
            InvalidArgumentError: it is not such a text.
        """
        try:
            return Partition(**json.loads(text))
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidArgumentError("partition", f"not a partition: {error}") from error


@dataclass(frozen=True, slots=True)
class EntryKey:
    """One prompt in one partition, both as digests. The prompt cannot be read back from it."""

    partition: str
    prompt: str

    def __post_init__(self) -> None:
        for name, value in (("partition", self.partition), ("prompt", self.prompt)):
            if len(value) != 2 * _DIGEST_BYTES or not set(value) <= set("0123456789abcdef"):
                raise InvalidArgumentError(
                    f"key.{name}", f"32 hexadecimal digits are needed, not {value!r}"
                )

    @staticmethod
    def of(partition: Partition, prompt: str) -> EntryKey:
        """Return the key of a prompt as the client wrote it."""
        return EntryKey(partition.digest, digest(normalise_prompt(prompt)))

    @staticmethod
    def parse(text: str) -> EntryKey:
        """Return the key written as `str(key)`.

        Raises:
            InvalidArgumentError: it is not a key.
        """
        partition, _, prompt = text.partition(".")
        return EntryKey(partition, prompt)

    def __str__(self) -> str:
        return f"{self.partition}.{self.prompt}"
