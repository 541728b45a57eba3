"""Seeds and request ids of several images of one prompt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b

from argus.client.request import Options
from argus.client.result import ImageResult
from argus.errors import InvalidArgumentError, UnavailableError
from argus.rpc.checks import MAX_UINT32, check_request_id, check_whole
from argus.rpc.convert import new_request_id
from argus.types import MAX_SEED


@dataclass(frozen=True, slots=True)
class Series:
    """`count` images: seeds count up from `seed`, ids are `request_id` with a number from 1.

    One image alone has the id as it is.
    """

    seed: int | None
    request_id: str
    count: int

    def options(self, position: int) -> Options:
        """Return what only the image at `position`, from 0, has."""
        return {
            "seed": None if self.seed is None else self.seed + position,
            "request_id": self.id_of(position),
        }

    def id_of(self, position: int) -> str:
        """Return the request id of the image at `position`."""
        return self.request_id if self.count == 1 else f"{self.request_id}-{position + 1}"

    def in_order(self, results: Iterable[ImageResult]) -> list[ImageResult]:
        """Return the images of the whole series, which came in any order, by position."""
        by_id = {result.request_id: result for result in results}
        return [by_id[self.id_of(position)] for position in range(self.count)]

    @contextmanager
    def in_whole(self) -> Iterator[None]:
        """Let the loss of one image name the id that repeats the whole series."""
        try:
            yield
        except UnavailableError as error:
            if self.count == 1:
                raise
            wanted = f"request_id={self.request_id}"
            message = re.sub(rf"{re.escape(wanted)}-\d+", wanted, str(error))
            raise UnavailableError(message) from error


def plan_series(seed: int | None, request_id: str | None, count: int) -> Series:
    """Return the series, checked to its last image; an id that is None is made.

    Several images without a seed count up from one that the id decides.

    Raises:
        InvalidArgumentError: no count of images, or the seed or the id of some image would not be
            allowed.
    """
    check_whole("n", count, 1, MAX_UINT32)
    if request_id == "":
        raise InvalidArgumentError("request_id", "must not be empty; leave it out for a new one")
    check_whole("seed", seed, 0, MAX_SEED)
    if seed is not None and seed + count - 1 > MAX_SEED:
        raise InvalidArgumentError(
            "seed",
            f"must be at most {MAX_SEED - count + 1:,} for {count:,} images, not {seed:,}",
        )
    request_id = request_id or new_request_id()
    if seed is None and count > 1:
        # By the id, so that asking again with the same one asks for the same images.
        digest = blake2b(request_id.encode(), digest_size=8).digest()
        seed = int.from_bytes(digest, "big") % (MAX_SEED - count + 2)
    series = Series(seed, request_id, count)
    check_request_id(series.id_of(count - 1))
    return series
