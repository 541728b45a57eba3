"""Where the weights of the variants are: loaded, parked and brought back in the background."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch

from argus.clock import Clock
from argus.diffusion.adapter import PipelineAdapter
from argus.engine.buckets import Buckets, probe_buckets, time_buckets
from argus.engine.edges import measure_edges, probe_decode
from argus.engine.forwards import Forwards
from argus.engine.moves import Holding, Order, choose_move
from argus.engine.options import EngineOptions
from argus.engine.residents import Resident, Residents
from argus.engine.tuning import Tuning, tune
from argus.errors import AlreadyExistsError, FailedPreconditionError, ModelError, NotFoundError
from argus.types import VariantCosts

log = logging.getLogger(__name__)

Load = Callable[[], PipelineAdapter]
NO_BUDGET = 2**62
"""Free bytes where there is no budget."""


class Residency:
    """Keeps the weights of the variants within a budget of the device's memory.

    One background thread loads and moves, while rows of other variants go on. A variant in use is
    never moved. Parked weights are kept in host memory up to `host_bytes`; beyond that, and on the
    CPU, they are dropped and read from their folder again.

    `serve` is for the device thread, everything else for any.
    """

    def __init__(
        self,
        residents: Residents,
        options: EngineOptions,
        clock: Clock,
        on_change: Callable[[], None],
    ) -> None:
        """Start without variants.

        Args:
            residents: where they are put.
            options: of the engine.
            clock: the engine's.
            on_change: called from the loader when rows may have to be looked at again.
        """
        self._residents = residents
        self._options = options
        self._budget = options.weights_bytes
        self._clock = clock
        self._on_change = on_change
        # Bytes that moves under way have freed on paper only, or will take.
        self._reserved = 0
        self._loader = ThreadPoolExecutor(1, thread_name_prefix="argus-loader")

    def add(self, adapter: PipelineAdapter) -> None:
        """Take an adapter made elsewhere: measure it and let it stay for good.

        Raises:
            AlreadyExistsError: a variant of that name is there.
        """
        self._residents.put(self._measured(adapter, 0.0, parkable=False, pinned=True))

    def load(
        self, folder: Path, weights_bytes: int, load: Load, *, pinned: bool = False
    ) -> Future[Resident]:
        """Load a variant in the background, parking idle ones if there is no room.

        Args:
            folder: for messages; the variant is named after it.
            weights_bytes: that its weights will take on the device.
            load: reads it.
            pinned: never park it.

        The future fails with:
            ModelError: it is broken, or larger than the budget or than what pinned and busy
                variants leave of it.
            AlreadyExistsError: a variant of that name is there.
        """
        return self._loader.submit(self._load, folder, weights_bytes, load, pinned)

    def unload(self, name: str) -> None:
        """Forget a variant and its weights; rows of it that still wait fail.

        Raises:
            NotFoundError: there is none of that name.
            FailedPreconditionError: it is pinned, in use, or being moved.
        """
        # By the loader, for nothing may wait for the device while a graph is captured.
        self._loader.submit(self._clear, self._residents.drop(name))

    def move(self, order: Order) -> Future[float]:
        """Carry out an order in the background; return the seconds that it took.

        No row is interrupted: what rows use is not moved. The future fails with ModelError where
        the weights could not be brought in.

        Raises:
            NotFoundError: there is no variant of a name.
            FailedPreconditionError: a variant is pinned, in use, or being moved, or there is no
                room for the one to be brought in.
        """
        with self._residents.locked() as all_of_them:
            by_name = {r.name: r for r in all_of_them}
            for name in (*order.park, *([order.load] if order.load else ())):
                if name not in by_name:
                    raise NotFoundError("variant", name, by_name)
            into = by_name[order.load] if order.load else None
            if into is not None and into.moving:
                raise FailedPreconditionError(f"variant {into.name!r} is being moved")
            if into is not None and into.on_device:
                into = None
            for name in order.park:
                self._residents.check_movable(by_name[name])
            parked = [by_name[name] for name in order.park]
            out = [r for r in parked if r.on_device]
            if into is not None:
                out += self._missing_room(into, out, all_of_them if order.make_room else [])
                into.moving = True
                self._reserved += into.adapter.weights_bytes
            self._set_out(out)
            drop = [r for r in parked if r not in out] if order.drop else []
            for resident in drop:
                resident.moving = True
        return self._loader.submit(self._carry_out, out, into, drop, not order.drop)

    def serve(self, waiting: Mapping[str, float]) -> None:
        """Start the move that is due, if any; it runs in the background.

        Args:
            waiting: variants that rows wait for, with the earliest due time.
        """
        with self._residents.locked() as all_of_them:
            still = [r for r in all_of_them if not r.moving]
            wanted = {
                r.name: waiting[r.name]
                for r in still
                if r.name in waiting and not r.on_device and not self._residents.resting(r)
            }
            if not wanted:
                # What a variant was closed for has found room elsewhere, or is gone.
                for resident in still:
                    resident.closing = False
                return
            holdings = [_holding(r, waiting) for r in still]
            move = choose_move(
                holdings,
                wanted,
                self._free(all_of_them),
                self._clock.now(),
                moving=len(still) < len(all_of_them),
            )
            if move is None:
                return
            if move.refuse is not None:
                refused = self._residents[move.refuse]
                refused.failed_s = self._clock.now()
                refused.failure = (
                    f"{refused.name} does not fit into the budget of {self._budget:,} bytes "
                    "(node.weights_bytes) beside the variants that are pinned"
                )
                return
            for name in move.close:
                log.info("%s takes no more rows: %s waits for room", name, ", ".join(wanted))
                self._residents[name].closing = True
            if move.into is None:
                return
            out = [self._residents[name] for name in move.out]
            into = self._residents[move.into]
            for resident in still:
                resident.closing = False
            into.moving = True
            self._reserved += into.adapter.weights_bytes
            self._set_out(out)
        self._loader.submit(self._swap, out, into)

    def close(self) -> None:
        """End the loader."""
        self._loader.shutdown(wait=True, cancel_futures=True)

    # -- under the lock ----------------------------------------------------------------------

    def _free(self, all_of_them: list[Resident]) -> int:
        if not self._budget:
            return NO_BUDGET
        held = sum(r.adapter.weights_bytes for r in all_of_them if r.on_device)
        return self._budget - held - self._reserved

    def _missing_room(
        self, into: Resident, out: list[Resident], others: list[Resident]
    ) -> list[Resident]:
        """Return who makes the room that a variant needs beyond what `out` leaves.

        Raises:
            FailedPreconditionError: there is not enough.
        """
        freed = sum(r.adapter.weights_bytes for r in out)
        missing = into.adapter.weights_bytes - freed - self._free(self._residents.all())
        found = []
        for resident in sorted(others, key=lambda r: r.used_s):
            idle = resident.on_device and not (resident.moving or resident.claims)
            if missing > 0 and idle and not resident.pinned and resident not in out:
                found.append(resident)
                missing -= resident.adapter.weights_bytes
        if missing > 0:
            raise FailedPreconditionError(
                f"variant {into.name!r} takes {into.adapter.weights_bytes:,} bytes, {missing:,} "
                f"more than there is room for in the budget of {self._budget:,} "
                "(node.weights_bytes) beside variants that stay, are pinned or in use"
            )
        return found

    def _set_out(self, out: list[Resident]) -> None:
        """Mark variants that are about to be parked; their memory is not free yet."""
        for resident in out:
            resident.on_device, resident.moving = False, True
            self._reserved += resident.adapter.weights_bytes

    # -- in the loader's thread --------------------------------------------------------------

    def _load(self, folder: Path, weights_bytes: int, load: Load, pinned: bool) -> Resident:
        name = folder.resolve().name
        if name in self._residents:
            raise AlreadyExistsError(f"a variant named {name!r} is already loaded")
        self._make_room(folder, weights_bytes)
        try:
            start = time.perf_counter()
            adapter = load()
            load_s = time.perf_counter() - start
            log.info("%s loaded in %.1f s", name, load_s)
            if self._budget and adapter.weights_bytes > self._budget:
                raise _too_large(folder, adapter.weights_bytes, self._budget)
            resident = self._measured(adapter, load_s, parkable=True, pinned=pinned)
            self._residents.put(resident)
            return resident
        except torch.OutOfMemoryError as error:
            raise ModelError(f"{folder}: the device's memory does not hold it: {error}") from error
        finally:
            with self._residents.locked():
                self._reserved -= weights_bytes
            self._on_change()

    def _make_room(self, folder: Path, weights_bytes: int) -> None:
        """Reserve room for a new variant, parking idle ones; those unused for longest first."""
        if self._budget and weights_bytes > self._budget:
            raise _too_large(folder, weights_bytes, self._budget)
        with self._residents.locked() as all_of_them:
            missing = weights_bytes - self._free(all_of_them)
            out = []
            for resident in sorted(all_of_them, key=lambda r: r.used_s):
                idle = resident.on_device and not (resident.moving or resident.claims)
                if missing > 0 and idle and not resident.pinned:
                    out.append(resident)
                    missing -= resident.adapter.weights_bytes
            if missing > 0:
                raise ModelError(
                    f"{folder}: no room for {weights_bytes:,} bytes of weights: the budget is "
                    f"{self._budget:,} (node.weights_bytes), and the variants there are pinned or "
                    "in use"
                )
            self._reserved += weights_bytes
            self._set_out(out)
        try:
            self._park_all(out)
        except BaseException:
            with self._residents.locked():
                self._reserved -= weights_bytes
            raise

    def _measured(
        self, adapter: PipelineAdapter, load_s: float, *, parkable: bool, pinned: bool
    ) -> Resident:
        with _current(adapter.device):
            return self._measured_here(adapter, load_s, parkable=parkable, pinned=pinned)

    def _measured_here(
        self, adapter: PipelineAdapter, load_s: float, *, parkable: bool, pinned: bool
    ) -> Resident:
        tuning = tune(adapter, self._options)
        forwards = Forwards(adapter, tuning)
        buckets = probe_buckets(adapter, self._options.max_lanes, forward=forwards.forward)
        if self._options.graphs:
            forwards.capture(_native(adapter), buckets.sizes)
        if forwards.graphs:
            buckets = time_buckets(forwards, _native(adapter), buckets)
        # Fitted now, for it runs the VAE; the first row that wants previews should have them all.
        adapter.preview_map()
        text_s, decode_s = measure_edges(adapter)
        now_s = self._clock.now()
        return Resident(
            adapter=adapter,
            forwards=forwards,
            buckets=buckets,
            costs=VariantCosts(buckets.costs, text_s, decode_s),
            load=self._residents.next_load(),
            decode_batch=probe_decode(adapter),
            home=adapter.device,
            parkable=parkable,
            pinned=pinned,
            used_s=now_s,
            since_s=now_s,
            move_s=load_s,
        )

    def _forwards(self, adapter: PipelineAdapter, tuning: Tuning, buckets: Buckets) -> Forwards:
        """Return the forwards of an adapter that has come back, as they were chosen at first."""
        with _current(adapter.device):
            forwards = Forwards(adapter, tuning)
            if self._options.graphs:
                forwards.capture(_native(adapter), buckets.sizes)
        return forwards

    def _carry_out(
        self, out: list[Resident], into: Resident | None, drop: list[Resident], keep: bool
    ) -> float:
        """Carry out an order that was found possible; return the seconds that it took."""
        start = time.perf_counter()
        for resident in drop:
            resident.adapter.move(torch.device("meta"))
            with self._residents.locked():
                resident.moving = False
        if into is None:
            try:
                self._park_all(out, keep)
            finally:
                self._on_change()
        else:
            self._swap(out, into, keep)
            if not into.on_device:
                raise ModelError(into.failure)
        return time.perf_counter() - start

    def _swap(self, out: list[Resident], into: Resident, keep: bool = True) -> None:
        """Park some variants and bring one in; a failure is kept for its rows."""
        start = time.perf_counter()
        try:
            self._park_all(out, keep)
            into.adapter.move(into.home)
            forwards = self._forwards(into.adapter, into.forwards.tuning, into.buckets)
        except Exception as error:
            log.exception("%s could not be brought back", into.name)
            if into.adapter.device == into.home:
                into.adapter.move(torch.device("meta"))
            with self._residents.locked():
                into.failed_s = self._clock.now()
                into.failure = f"{into.name} could not be brought back: {error}"
        else:
            with self._residents.locked():
                into.forwards = forwards
                into.failed_s, into.since_s = None, self._clock.now()
                into.on_device, into.move_s = True, time.perf_counter() - start
            log.info("%s is resident again after %.2f s", into.name, into.move_s)
        finally:
            with self._residents.locked():
                into.moving = False
                self._reserved -= into.adapter.weights_bytes
            self._on_change()

    def _park_all(self, out: list[Resident], keep: bool = True) -> None:
        """Park variants marked by `_set_out`; where one fails, it and those after it stay."""
        for i, resident in enumerate(out):
            try:
                self._park(resident, keep)
            except BaseException:
                with self._residents.locked():
                    for back in out[i:]:
                        back.on_device, back.moving = True, False
                        self._reserved -= back.adapter.weights_bytes
                raise

    def _park(self, resident: Resident, may_keep: bool) -> None:
        """Take the weights off the device; into host memory where they may and fit."""
        size = resident.adapter.weights_bytes
        with self._residents.locked() as all_of_them:
            in_host = sum(
                r.adapter.weights_bytes
                for r in all_of_them
                if r.home.type == "cuda" and r.adapter.device.type == "cpu"
            )
        # On the CPU the host's memory is the device's.
        fits = in_host + size <= self._options.host_bytes
        keep = may_keep and resident.home.type == "cuda" and fits
        self._clear(resident)
        resident.adapter.move(torch.device("cpu" if keep else "meta"))
        with self._residents.locked():
            resident.moving = False
            self._reserved -= size
        if resident.home.type == "cuda":
            torch.cuda.empty_cache()
        log.info("%s is parked %s", resident.name, "in host memory" if keep else "on disk")

    def _clear(self, resident: Resident) -> None:
        """Drop what refers to the weights where they are."""
        if resident.home.type == "cuda":
            # Steps of a row that was given up may still be under way.
            torch.cuda.synchronize(resident.home)
        resident.forwards.forget()


def _too_large(folder: Path, weights_bytes: int, budget: int) -> ModelError:
    return ModelError(
        f"{folder}: its weights take {weights_bytes:,} bytes, more than the budget of {budget:,} "
        "(node.weights_bytes)"
    )


def _current(device: torch.device) -> AbstractContextManager[None]:
    """Make a CUDA device the thread's current one; nothing elsewhere."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _native(adapter: PipelineAdapter) -> tuple[int, int, int]:
    return adapter.latent_shape(adapter.info.width, adapter.info.height)


def _holding(resident: Resident, waiting: Mapping[str, float]) -> Holding:
    name = resident.name
    return Holding(
        name=name,
        weights_bytes=resident.adapter.weights_bytes,
        resident=resident.on_device,
        pinned=resident.pinned,
        busy=resident.claims > 0 or (name in waiting and not resident.closing),
        closing=resident.closing,
        used_s=resident.used_s,
        since_s=resident.since_s,
        move_s=resident.move_s,
    )
