"""Seeds and request ids of the pictures that one `argus generate` makes."""

from __future__ import annotations

import re
from dataclasses import dataclass

from argus.client import Options
from argus.errors import InvalidArgumentError
from argus.rpc.checks import check_request_id, check_whole
from argus.rpc.convert import new_request_id
from argus.types import MAX_SEED


@dataclass(frozen=True, slots=True)
class Series:
    """`count` pictures: seeds count up from `seed`, ids are `request_id` with a number."""

    seed: int | None
    request_id: str
    count: int

    def options(self, position: int) -> Options:
        """Return what only the picture at `position`, from 0, has."""
        return {
            "seed": None if self.seed is None else self.seed + position,
            "request_id": self.id_of(position),
        }

    def id_of(self, position: int) -> str:
        """Return the request id of the picture at `position`."""
        return self.request_id if self.count == 1 else f"{self.request_id}-{position + 1}"

    def in_whole(self, message: str) -> str:
        """Return `message` with the id that repeats the whole series for that of one picture."""
        if self.count == 1:
            return message
        wanted = f"request_id={self.request_id}"
        return re.sub(rf"{re.escape(wanted)}-\d+", wanted, message)


def plan_series(seed: int | None, request_id: str | None, count: int) -> Series:
    """Return the series, checked to its last picture; an id that is None is made.

    Raises:
        InvalidArgumentError: the seed or the id of some picture would not be allowed.
    """
    if request_id == "":
        raise InvalidArgumentError("request_id", "must not be empty; leave it out for a new one")
    check_whole("seed", seed, 0, MAX_SEED)
    if seed is not None and seed + count - 1 > MAX_SEED:
        raise InvalidArgumentError(
            "seed",
            f"must be at most {MAX_SEED - count + 1:,} for {count:,} pictures, not {seed:,}",
        )
    series = Series(seed, request_id or new_request_id(), count)
    check_request_id(series.id_of(count - 1))
    return series
