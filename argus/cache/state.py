"""A state: one latent tensor as raw bytes, so that storing it needs no tensor library."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from argus.cache.keys import EntryKey
from argus.errors import InvalidArgumentError

ITEM_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of one element by dtype."""
_AS_NUMPY = {"float32": np.float32, "float16": np.float16, "bfloat16": np.uint16}


def tensor_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Return the bytes of a tensor.

    Raises:
        InvalidArgumentError: there is no such shape, or the dtype is not one that is stored.
    """
    if dtype not in ITEM_BYTES:
        raise InvalidArgumentError(
            "state.dtype", f"must be one of {', '.join(ITEM_BYTES)}, not {dtype!r}"
        )
    if not shape or min(shape) < 1:
        raise InvalidArgumentError("state.shape", f"no such shape: {shape}")
    return math.prod(shape) * ITEM_BYTES[dtype]


@dataclass(frozen=True, slots=True)
class State:
    """Latents before a step: C-ordered little-endian bytes, shape without a batch axis, dtype."""

    data: memoryview
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        needed = tensor_bytes(self.shape, self.dtype)
        if self.data.nbytes != needed:
            raise InvalidArgumentError(
                "state.data", f"{self.shape} {self.dtype} takes {needed} B, not {self.data.nbytes}"
            )

    @staticmethod
    def of(data: bytes | bytearray | memoryview, shape: tuple[int, ...], dtype: str) -> State:
        """Return a read-only state over `data`, which is not copied."""
        return State(memoryview(data).cast("B").toreadonly(), tuple(shape), dtype)

    @staticmethod
    def of_array(array: NDArray[Any], dtype: str | None = None) -> State:
        """Return a read-only state over an array; bfloat16 comes as uint16 with `dtype` named."""
        flat = np.ascontiguousarray(array)
        return State.of(flat.reshape(-1).view(np.uint8).data, flat.shape, dtype or flat.dtype.name)

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor."""
        return self.data.nbytes

    def array(self) -> NDArray[Any]:
        """Return the tensor, not copied and not writable; bfloat16 as uint16 with its bits."""
        return np.frombuffer(self.data, dtype=_AS_NUMPY[self.dtype]).reshape(self.shape)


@dataclass(frozen=True, slots=True)
class EntryInfo:
    """What is known of a stored entry without its tensors.

    `steps` is N of the run it was taken from, `ks` the stored K in ascending order, `owner` the
    tenant who paid for that run (also in the shared pool), `created_unix_s` the wall clock when
    it was written, `nbytes` the bytes of its tensors.
    """

    key: EntryKey
    steps: int
    ks: tuple[int, ...]
    owner: str
    created_unix_s: float
    nbytes: int

    def __post_init__(self) -> None:
        if not self.ks or list(self.ks) != sorted(set(self.ks)):
            raise InvalidArgumentError("states", f"ascending K are needed, not {self.ks}")
        if not 0 < self.ks[0] <= self.ks[-1] < self.steps:
            raise InvalidArgumentError(
                "states", f"K must be within 1 … {self.steps - 1}, not {self.ks}"
            )


@dataclass(frozen=True, slots=True)
class StoredState:
    """A state as it was found, with its entry."""

    state: State
    info: EntryInfo


@dataclass(frozen=True, slots=True)
class EntryRecord:
    """An entry to be stored: its states by K."""

    key: EntryKey
    steps: int
    owner: str
    created_unix_s: float
    states: Mapping[int, State]

    @property
    def info(self) -> EntryInfo:
        """The record without its tensors.

        Raises:
            InvalidArgumentError: there is no state, or one whose K is not below `steps`.
        """
        return EntryInfo(
            self.key,
            self.steps,
            tuple(sorted(self.states)),
            self.owner,
            self.created_unix_s,
            sum(state.nbytes for state in self.states.values()),
        )
