"""Train, calibration and test prompts, with nothing in one that gives away another."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from argus.errors import InvalidArgumentError
from argus.quality.prompts import Prompt


@dataclass(frozen=True, slots=True)
class Shares:
    """How large the splits should be, relative to each other."""

    train: float = 0.6
    calibration: float = 0.2
    test: float = 0.2

    def __post_init__(self) -> None:
        for name in ("train", "calibration", "test"):
            if not getattr(self, name) > 0:
                raise InvalidArgumentError(name, f"must be above 0, not {getattr(self, name)}")


def split_prompts(
    prompts: Sequence[Prompt],
    shares: Shares,
    seed: int,
    vectors: NDArray[np.float32] | None = None,
    nearest: float = 0.99,
) -> tuple[Prompt, ...]:
    """Return the prompts with their splits, in the order given.

    What is of one group falls into one split, and so do prompts whose embeddings are nearer than
    `nearest`, directly or over others. Groups are dealt in an order drawn by lot, the larger ones
    first, to the split that lacks most; prompts of one kind are spread over the splits in the
    same way.

    Args:
        prompts: the set.
        shares: of the splits.
        seed: of the order.
        vectors: (n, dimension) embeddings of length 1; None: only groups count.
        nearest: cosine above which two prompts are as good as the same.
    """
    groups = _components(prompts, vectors, nearest)
    members: dict[int, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    order = list(members.values())
    random.Random(seed).shuffle(order)
    order.sort(key=len, reverse=True)
    wanted = {"train": shares.train, "calibration": shares.calibration, "test": shares.test}
    total = sum(wanted.values())
    held: dict[tuple[str, str], int] = {}
    kinds = {kind: sum(p.kind == kind for p in prompts) for kind in {p.kind for p in prompts}}
    chosen = [""] * len(prompts)
    for group_members in order:
        kind = prompts[group_members[0]].kind

        def lack(split: str, kind: str = kind) -> float:
            return wanted[split] / total * kinds[kind] - held.get((kind, split), 0)

        split = max(wanted, key=lack)
        for i in group_members:
            chosen[i] = split
            place = prompts[i].kind, split
            held[place] = held.get(place, 0) + 1
    return tuple(
        replace(p, split=split, group=p.group or p.id)
        for p, split in zip(prompts, chosen, strict=True)
    )


def _components(
    prompts: Sequence[Prompt], vectors: NDArray[np.float32] | None, nearest: float
) -> list[int]:
    """Return a number for each prompt, the same for those that must stay together."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    n = len(prompts)
    first: dict[str, int] = {}
    pairs = [(i, first.setdefault(p.group or p.id, i)) for i, p in enumerate(prompts)]
    if vectors is not None:
        if len(vectors) != n:
            raise InvalidArgumentError("vectors", f"{n} are needed, not {len(vectors)}")
        near = np.argwhere(np.triu(vectors @ vectors.T > nearest, k=1))
        pairs += [(int(a), int(b)) for a, b in near]
    rows, columns = np.array(pairs).T
    graph = coo_matrix((np.ones(len(pairs)), (rows, columns)), (n, n))
    labels: list[int] = connected_components(graph, directed=False)[1].tolist()
    return labels
