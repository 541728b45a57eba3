"""`make bench-cache-parts`, second half: what eviction and a look-up gate are worth on a replay.

50,000 prompts of `prompt_stream` ask one partition of 50 steps. A hit starts from the most alike
entry held, by the published thresholds; a miss runs all steps and stores its states, as nodes do.
The ledger under test is the one that nodes use.
"""

from __future__ import annotations

import argparse
import math
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import prompt_stream
import record
from numpy.typing import NDArray

from argus.cache.keys import EntryKey
from argus.cache.ledger import Ledger, Policy, Uses
from argus.cache.state import EntryInfo
from argus.clock import ManualClock
from argus.control.reuse import checkpoint_steps, choose_skip

STEPS = 50
KS = checkpoint_steps(STEPS)
STATE_BYTES = 131_072
BUDGET_SHARES = (0.02, 0.05, 0.10)
PARTITION = "0" * 32


class NeverForgets(Ledger):
    """Benefit without ageing: priorities are sums of K / N from the beginning of time."""

    def add(self, info: EntryInfo, uses: Uses | None = None, age_s: float = 0.0) -> list[EntryKey]:
        """Account for an entry as if nothing had ever been evicted."""
        victims = super().add(info, uses, age_s)
        self._floor = 0.0
        return victims


class Cache:
    """A ledger of whole entries, or of single states where `by_state`.

    A single state is an entry of its own to the ledger.
    """

    def __init__(self, ledger: Ledger, by_state: bool = False) -> None:
        self.ledger = ledger
        self.held: defaultdict[int, tuple[int, ...]] = defaultdict(tuple)
        """The K held of each prompt, ascending."""
        self._units = [(k,) for k in KS] if by_state else [KS]
        self._infos: dict[tuple[int, int], EntryInfo] = {}
        self._prompts: dict[EntryKey, tuple[int, tuple[int, ...]]] = {}

    def use(self, prompt: int, k: int) -> None:
        """Count a use."""
        unit = next(unit for unit in self._units if k in unit)
        self.ledger.use(self._info(prompt, unit).key, k)

    def store(self, prompt: int) -> None:
        """Keep the states of a prompt."""
        for unit in self._units:
            if unit[0] in self.held[prompt]:
                continue
            victims = self.ledger.add(self._info(prompt, unit))
            self.held[prompt] = tuple(sorted({*self.held[prompt], *unit}))
            for victim in victims:
                other, gone = self._prompts[victim]
                self.held[other] = tuple(k for k in self.held[other] if k not in gone)

    def _info(self, prompt: int, unit: tuple[int, ...]) -> EntryInfo:
        info = self._infos.get((prompt, unit[0]))
        if info is None:
            key = EntryKey(PARTITION, f"{prompt * 64 + unit[0]:032x}")
            info = EntryInfo(key, STEPS, unit, "", 0.0, len(unit) * STATE_BYTES)
            self._infos[prompt, unit[0]] = info
            self._prompts[key] = (prompt, unit)
        return info


def replay(stream: prompt_stream.Stream, cache: Cache) -> Counter[int]:
    """Return how many prompts skipped how many steps."""
    skips: Counter[int] = Counter()
    for i, near in enumerate(stream.near):
        skip = 0
        for neighbour, similarity in near:
            stored = cache.held.get(neighbour)
            if stored:
                skip = choose_skip(similarity, STEPS, stored)
                break
        skips[skip] += 1
        if skip:
            cache.use(neighbour, skip)
        else:
            cache.store(int(stream.same_as[i]))
    return skips


def row(skips: Counter[int], **labels: Any) -> dict[str, Any]:
    count = sum(skips.values())
    saved = sum(k * times for k, times in skips.items())
    shares = {f"K={k} %": round(100 * skips[k] / count, 1) for k in (0, *KS)}
    return labels | {"steps saved": saved, "of all steps %": 100 * saved / count / STEPS} | shares


def evictions(stream: prompt_stream.Stream) -> dict[str, list[dict[str, Any]]]:
    """Replay every policy at every budget."""

    def ledger(kind: type[Ledger], budget: int, policy: Policy) -> Ledger:
        return kind(budget, policy, math.inf, ManualClock())

    endless = Cache(ledger(Ledger, 2**62, Policy.FIFO))
    base = row(replay(stream, endless), budget="all", policy="nothing evicted")
    everything = endless.ledger.bytes_used
    tables: dict[str, list[dict[str, Any]]] = {}
    policies, alternatives = [base], []
    for share in BUDGET_SHARES:
        budget = int(share * everything)
        label = f"{share:.0%} = {budget / 2**20:.0f} MiB"
        for policy in Policy:
            skips = replay(stream, Cache(ledger(Ledger, budget, policy)))
            policies.append(row(skips, budget=label, policy=policy.value))
        for unit, by_state in (("entry", False), ("single state", True)):
            for ageing, kind in (("aged", Ledger), ("not aged", NeverForgets)):
                skips = replay(stream, Cache(ledger(kind, budget, Policy.BENEFIT), by_state))
                rule = {"budget": label, "unit": unit, "benefit": ageing}
                alternatives.append(row(skips, **rule))
    tables["Steps saved by policy and budget"] = policies
    tables["Benefit with and without ageing, by what is evicted"] = alternatives
    return tables


class Centroids:
    """Online spherical k-means over the cached prompts."""

    def __init__(self, count: int, dimension: int) -> None:
        self._limit = count
        self._sums = np.zeros((0, dimension), dtype=np.float32)
        self._units = np.zeros((0, dimension), dtype=np.float32)

    def score(self, vector: NDArray[np.float32]) -> float:
        """Return the cosine to the nearest centroid."""
        return float((self._units @ vector).max()) if len(self._units) else -1.0

    def learn(self, vector: NDArray[np.float32]) -> None:
        """Take in a prompt that was cached."""
        if len(self._units) < self._limit:
            self._sums = np.vstack([self._sums, vector])
            self._units = np.vstack([self._units, vector])
            return
        nearest = int(np.argmax(self._units @ vector))
        self._sums[nearest] += vector
        self._units[nearest] = self._sums[nearest] / np.linalg.norm(self._sums[nearest])


def gate_row(
    stream: prompt_stream.Stream, vectors: NDArray[np.float32], centroids: int, keep: float
) -> dict[str, Any]:
    """Return how well a gate would skip look-ups that miss, learning as it goes.

    The gate skips a look-up when its score is below the `1 - keep` quantile of the last 2,000
    scores of look-ups that hit, so `keep` is the share of hits that it is meant to let through.
    """
    gate = Centroids(centroids, vectors.shape[1])
    held: set[int] = set()
    hit_scores: list[float] = []
    bar = -1.0
    skipped = skipped_misses = misses = hits_lost = steps_lost = hits = 0
    seconds = 0.0
    for i, near in enumerate(stream.near[: len(vectors)]):
        start_s = time.perf_counter()
        score = gate.score(vectors[i])
        seconds += time.perf_counter() - start_s
        found = next((s for j, s in near if j in held), 0.0)
        skip = choose_skip(found, STEPS, KS)
        hits += skip > 0
        misses += skip == 0
        if score < bar:
            skipped += 1
            skipped_misses += skip == 0
            hits_lost += skip > 0
            steps_lost += skip
        if skip:
            hit_scores.append(score)
            if len(hit_scores) % 100 == 0:
                bar = float(np.quantile(hit_scores[-2000:], 1.0 - keep))
        else:
            held.add(int(stream.same_as[i]))
            gate.learn(vectors[i])
    return {
        "centroids": centroids,
        "hits meant to pass": keep,
        "skipped of misses %": 100 * skipped_misses / misses,
        "precision %": 100 * skipped_misses / max(1, skipped),
        "hits lost": hits_lost,
        "steps lost a skipped look-up": steps_lost / max(1, skipped),
        "gate µs": 1e6 * seconds / len(vectors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--prompts", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    stream = prompt_stream.make(options.prompts, options.seed)
    tables = evictions(stream)
    vectors = prompt_stream.embeddings(stream, 384, options.seed)[:20_000]
    tables["A gate before the look-up, first 20,000 prompts"] = [
        gate_row(stream, vectors, centroids, keep)
        for centroids in (1, 64, 512)
        for keep in (0.99, 0.999)
    ]
    print(record.write(options.out, "cache_replay", tables))


if __name__ == "__main__":
    main()
