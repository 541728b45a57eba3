"""Entries with random states, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from argus.cache.keys import EntryKey, Partition
from argus.cache.state import EntryRecord, State

STEPS = 50
SHAPE = (4, 8, 8)
STATE_BYTES = 4 * 8 * 8 * 2
PARTITION = Partition.of(
    variant="base",
    weights="f" * 32,
    sampler="ddim",
    steps=STEPS,
    width=64,
    height=64,
    guidance=7.5,
)
OTHER = replace(PARTITION, sampler="euler")


def key(prompt: str, partition: Partition = PARTITION) -> EntryKey:
    return EntryKey.of(partition, prompt)


def state(seed: int, dtype: str = "float16") -> State:
    rng = np.random.default_rng(seed)
    kind = np.float32 if dtype == "float32" else np.uint16
    bits = rng.integers(0, 2**16, SHAPE, dtype=np.uint16).astype(kind)
    if dtype == "float16":
        bits = rng.standard_normal(SHAPE).astype(np.float16)
    return State.of_array(bits, dtype)


def record(
    prompt: str,
    ks: Sequence[int] = (5, 10),
    *,
    partition: Partition = PARTITION,
    owner: str = "",
    created_unix_s: float = 1e9,
    seed: int = 0,
    dtype: str = "float16",
) -> EntryRecord:
    states = {k: state(1000 * seed + k, dtype) for k in ks}
    return EntryRecord(key(prompt, partition), STEPS, owner, created_unix_s, states)


def unit(seed: int, dimension: int = 16) -> NDArray[np.float32]:
    vector = np.random.default_rng(seed).standard_normal(dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)
