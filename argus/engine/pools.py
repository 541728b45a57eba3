"""Who sits in which slot: pools by batch key, filled and freed row by row."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

from argus.diffusion.adapter import Conditioning, PipelineAdapter
from argus.engine.events import RowWarning
from argus.engine.row import BatchKey, Row
from argus.engine.slots import SlotPool
from argus.errors import InternalError, ModelError

IDLE_POOLS = 4
"""Slot pools without rows that are kept for the next row of their shape."""
KEPT_ENCODINGS = 128
_OF_TEXT = (ValueError, TypeError, LookupError, AssertionError, OverflowError)
EncodingKey = tuple[int, str, bool, int, int]
"""Load of the variant, text, whether it is the negative one, width and height in pixels."""


class Pools:
    """The slot pools of an engine and the encoded texts it still remembers.

    `place`, `of` and `forget` are for the device thread; `free` and `in_use` for any.
    """

    def __init__(self, slots: int) -> None:
        self._slots = slots
        self._lock = threading.Lock()
        self._pools: OrderedDict[BatchKey, SlotPool] = OrderedDict()
        self._encodings: OrderedDict[EncodingKey, Conditioning] = OrderedDict()

    @property
    def in_use(self) -> int:
        """Slots taken, over all pools."""
        with self._lock:
            return sum(pool.in_use for pool in self._pools.values())

    def __len__(self) -> int:
        return len(self._pools)

    def of(self, row: Row) -> SlotPool:
        """Return the pool that the row sits in."""
        return self._pools[row.key]

    def place(self, row: Row, adapter: PipelineAdapter) -> None:
        """Encode the row's texts and put them into a slot with its latents.

        They are the state that the row starts from, if it came; otherwise its noise, and a row that
        was promised one is told so.

        Raises whatever the device raises; `free` then gives back what was taken.
        """
        request = row.request
        prompt = self._encode(adapter, row, request.prompt, False)
        negative = None
        if row.lanes == 2:
            negative = self._encode(adapter, row, request.negative_prompt, True)
        for field, text in (("prompt", prompt), ("negative_prompt", negative)):
            if text is not None and text.truncated:
                cut = f"{field} was cut, left out: {text.truncated}"
                row.tell(RowWarning("PROMPT_TRUNCATED", cut))
        if request.negative_prompt and negative is None:
            row.tell(RowWarning("NEGATIVE_PROMPT_UNUSED", "without guidance it has no effect"))
        with self._lock:
            pool = self._pool(row.key, adapter)
            row.slot = pool.take()
        latents = _start(row, adapter)
        pool.put(row.slot, latents, row.table.states, prompt, negative, request.guidance)

    def free(self, row: Row) -> None:
        """Give back the row's slot, if it has one."""
        with self._lock:
            if row.slot >= 0:
                self._pools[row.key].give_back(row.slot)
                row.slot = -1

    def forget(self, present: set[int]) -> None:
        """Drop what is kept for loadings of variants that are no longer there."""
        with self._lock:
            for key in [k for k in self._pools if k.load not in present]:
                if self._pools[key].in_use == 0:
                    del self._pools[key]
        for encoding in [k for k in self._encodings if k[0] not in present]:
            del self._encodings[encoding]

    def _pool(self, key: BatchKey, adapter: PipelineAdapter) -> SlotPool:
        if key not in self._pools:
            idle = [k for k, pool in self._pools.items() if pool.in_use == 0]
            for old in idle[: max(0, len(idle) - IDLE_POOLS + 1)]:
                del self._pools[old]
            self._pools[key] = SlotPool(
                key, self._slots, adapter.conditioning, adapter.dtype, adapter.device
            )
        self._pools.move_to_end(key)
        return self._pools[key]

    def _encode(
        self, adapter: PipelineAdapter, row: Row, text: str, negative: bool
    ) -> Conditioning:
        width, height = row.request.width, row.request.height
        key = (row.key.load, text, negative, width, height)
        if key not in self._encodings:
            self._encodings[key] = _encoded(adapter, text, negative, width, height)
            if len(self._encodings) > KEPT_ENCODINGS:
                self._encodings.popitem(last=False)
        self._encodings.move_to_end(key)
        return self._encodings[key]


def _encoded(
    adapter: PipelineAdapter, text: str, negative: bool, width: int, height: int
) -> Conditioning:
    """Return the encoded text.

    Raises:
        InternalError: the tokenizer failed. What it says may quote the text, which belongs into no
            log; errors of the device, which cannot, pass as they are.
    """
    try:
        return adapter.encode(text, negative, width, height)
    except _OF_TEXT as error:
        kind = type(error).__name__
    raise InternalError(f"the text could not be encoded: {kind}")


def _start(row: Row, adapter: PipelineAdapter) -> torch.Tensor:
    """Return the row's first latents on the device, and skip the steps that a state stands for."""
    if row.start is not None:
        try:
            found = row.start.take(row.key.latent)
        except ModelError as error:
            row.tell(RowWarning("STATE_MISSED", f"every step is run: {error}"))
        else:
            row.skip_steps()
            return _sent(found, adapter.device).float()
    noise = _sent(row.draw_noise(adapter.dtype), adapter.device)
    return noise.float() * row.table.initial_scale


def _sent(tensor: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Return a tensor of the CPU on the device, without waiting for the steps queued there."""
    if device.type == "cuda":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
