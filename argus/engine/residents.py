"""The variants of an engine by name, and who uses them now."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from argus.clock import Clock
from argus.diffusion.adapter import PipelineAdapter
from argus.engine.buckets import Buckets
from argus.engine.forwards import Forwards
from argus.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from argus.types import VariantCosts

RETRY_S = 5.0
"""A variant whose weights could not be brought back is not tried again sooner."""


@dataclass(slots=True, eq=False)
class Resident:
    """One variant. Fields that change are changed under the lock of `Residents` only.

    Attributes:
        adapter: the variant itself.
        forwards: its forwards; replaced whenever its weights have been moved.
        buckets: lane counts of its forwards.
        costs: measured when it was loaded.
        load: counts loadings; none other has this one's.
        limits: lanes of the widest forward that memory was found to hold, by latent shape.
        decode_batch: images that are decoded at once.
        home: the device it runs on.
        parkable: whether its weights may be dropped, since they can be read from its folder again.
        pinned: never parked.
        used_s: when a row last gave its claim back.
        since_s: when it became resident.
        move_s: seconds that loading it or bringing it in took last.
        claims: rows and decodes that use it now.
        on_device: whether rows can run.
        moving: whether the loader has it in hand.
        closing: it takes no more rows, since another variant waits for its room.
        failed_s: when bringing it in failed last; its rows fail until a retry is due.
        failure: why it failed.
    """

    adapter: PipelineAdapter
    forwards: Forwards
    buckets: Buckets
    costs: VariantCosts
    load: int
    decode_batch: int
    home: torch.device
    parkable: bool
    pinned: bool
    used_s: float
    since_s: float
    move_s: float
    claims: int = 0
    on_device: bool = True
    moving: bool = False
    closing: bool = False
    failed_s: float | None = None
    failure: str = ""
    limits: dict[tuple[int, int, int], int] = field(default_factory=dict)

    @property
    def native(self) -> tuple[int, int, int]:
        """Latent shape of the native size, which costs were measured at."""
        return self.adapter.latent_shape(self.adapter.info.width, self.adapter.info.height)

    def max_lanes(self, latent: tuple[int, int, int]) -> int:
        """Return the lanes of the widest forward of that shape."""
        return self.limits.get(latent, self.buckets.max_lanes)

    def step_s(self, latent: tuple[int, int, int], lanes: int) -> float:
        """Return the seconds of a step; of other sizes than the native one by their area."""
        (_, height, width), (_, own_height, own_width) = latent, self.native
        return self.costs.steps.step_s(lanes) * height * width / (own_height * own_width)

    @property
    def name(self) -> str:
        """Name of the variant."""
        return self.adapter.info.name


class Residents:
    """The variants, and the claims that keep them where they are. Safe from any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._by_name: dict[str, Resident] = {}
        self._loads = itertools.count(1)
        self.version = 0
        """Changes whenever a variant comes or goes."""

    def next_load(self) -> int:
        """Return a number that no other loading has."""
        return next(self._loads)

    def __getitem__(self, name: str) -> Resident:
        """Return the variant of that name.

        Raises:
            NotFoundError: there is none.
        """
        with self._lock:
            found = self._by_name.get(name)
            if found is None:
                raise NotFoundError("variant", name, self._by_name)
            return found

    def __contains__(self, name: str) -> bool:
        """Whether there is a variant of that name."""
        with self._lock:
            return name in self._by_name

    @contextmanager
    def locked(self) -> Iterator[list[Resident]]:
        """Hold the lock, for looking at all variants and changing them together."""
        with self._lock:
            yield list(self._by_name.values())

    def snapshot(self) -> dict[str, Resident]:
        """Return all variants by name."""
        with self._lock:
            return dict(self._by_name)

    def on_device(self) -> tuple[str, ...]:
        """Return the names of the variants whose weights are on the device."""
        with self._lock:
            return tuple(r.name for r in self._by_name.values() if r.on_device)

    def failure(self, name: str, load: int) -> str | None:
        """Return why rows of that loading of a variant cannot run, if they cannot."""
        with self._lock:
            found = self._by_name.get(name)
            if found is None or found.load != load:
                return f"variant {name!r} was unloaded"
            return found.failure if self.resting(found) else None

    def resting(self, resident: Resident) -> bool:
        """Whether bringing a variant in failed, too short a time ago to try again."""
        failed_s = resident.failed_s
        return failed_s is not None and self._clock.now() - failed_s <= RETRY_S

    def claim(self, name: str) -> Resident | None:
        """Keep a variant where it is while a row uses it; return None if it takes none now."""
        with self._lock:
            found = self._by_name.get(name)
            if found is None or not found.on_device or found.closing:
                return None
            found.claims += 1
            return found

    def hold(self, resident: Resident) -> None:
        """Claim a variant once more, for something that a row of it left behind."""
        with self._lock:
            resident.claims += 1

    def release(self, resident: Resident) -> None:
        """Give a claim back."""
        with self._lock:
            resident.claims -= 1
            resident.used_s = self._clock.now()

    def put(self, resident: Resident) -> None:
        """Take a variant.

        Raises:
            AlreadyExistsError: one of that name is there.
        """
        with self._lock:
            if resident.name in self._by_name:
                raise AlreadyExistsError(f"a variant named {resident.name!r} is already loaded")
            self._by_name[resident.name] = resident
            self.version += 1

    def drop(self, name: str) -> Resident:
        """Forget a variant and return it; rows of it that still wait fail.

        Raises:
            NotFoundError: there is none of that name.
            FailedPreconditionError: it is pinned, in use, or being moved.
        """
        with self._lock:
            found = self[name]
            self.check_movable(found)
            self.version += 1
            return self._by_name.pop(name)

    def check_movable(self, resident: Resident) -> None:
        """Raise FailedPreconditionError where a variant is pinned, in use, or being moved."""
        if resident.pinned or resident.moving or resident.claims:
            why = "pinned" if resident.pinned else "being moved" if resident.moving else "in use"
            raise FailedPreconditionError(f"variant {resident.name!r} is {why}")

    def all(self) -> list[Resident]:
        """Return all variants."""
        with self._lock:
            return list(self._by_name.values())

    def pin(self, name: str, pinned: bool) -> None:
        """Keep a variant from being parked, or let it be parked again.

        Raises:
            NotFoundError: there is none of that name.
        """
        with self._lock:
            found = self[name]
            found.pinned = pinned or not found.parkable
