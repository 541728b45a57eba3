"""What work stealing between nodes could gain: rows that wait on a node while another has room.

Rows wait at the coordinator until a node is about to have room, so what could be stolen are rows
that a node was sent ahead of time and has not begun. A row counts as stealable when it waits on a
node whose slots are taken while another node has one free; the seconds from then until it begins
are what stealing could have saved it at most. Waiting for the next boundary between two steps does
not count: that is the same everywhere.
"""

from __future__ import annotations

import argparse
import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import record

from argus.control.fleet import Fleet
from argus.control.policies.argus import ArgusPolicy
from argus.control.policy import GiveUp, Start
from argus.coordinator.membership import LOOKAHEAD_ROWS
from argus.sim.engine import simulate
from argus.sim.outcome import Outcome
from argus.sim.published import modelled_prompts, published_profile
from argus.sim.setting import SimSetting
from argus.sim.types import Batching, Trace

NODES = 8
REQUESTS = 6000
BATCHING = Batching((2, 4, 8), (1.0, 1.5, 2.5))
"""As on the bundled family's CPU nodes: four rows in a forward take 2.5 times as long as one."""
SCALES = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 2.0, 2.0)


class Sent(ArgusPolicy):
    """Argus's policy, which writes down when each row was sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent_s: dict[int, float] = {}

    def dispatch(self, fleet: Fleet, now_s: float) -> Iterator[Start | GiveUp]:
        """Note what is sent."""
        for act in super().dispatch(fleet, now_s):
            if isinstance(act, Start):
                self.sent_s[act.task.order] = now_s
            yield act


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    batched: bool
    jitter: float = 0.0
    unequal: bool = False


SETTINGS = (
    Setting("one row at a time", False),
    Setting("batches of 4", True),
    Setting("batches of 4, 10 % jitter", True, 0.1),
    Setting("batches of 4, 10 % jitter, two nodes half as fast", True, 0.1, True),
)


def measure(setting: Setting, load: float, seed: int) -> dict[str, Any]:
    """Return what rows waited for on nodes, and what another node could have done about it."""
    profile = published_profile(BATCHING if setting.batched else None)
    prompts = modelled_prompts(profile, 2000, seed)
    speed = sum(1.0 / s for s in SCALES) / NODES if setting.unequal else 1.0
    if setting.batched:
        speed *= profile.batching.slots / profile.batching.seconds_scale[-1]
    rng = np.random.default_rng(seed)
    gaps = rng.exponential(1.0 / (load * speed * profile.capacity(NODES)), REQUESTS)
    trace = Trace(gaps.cumsum(), prompts.ids[rng.integers(0, len(prompts), REQUESTS)])
    sim = SimSetting(
        nodes=NODES,
        seconds_scales=SCALES if setting.unequal else (),
        jitter=setting.jitter,
        lookahead=LOOKAHEAD_ROWS,
    )
    policy = Sent()
    outcome = simulate(trace, prompts, profile, policy, sim, seed)
    waits, lost = _waits(outcome, policy.sent_s, profile.batching.slots)
    return {
        "setting": setting.name,
        "load": load,
        "rows": len(waits),
        "waits_for_slot_share": float((waits > 1e-6).mean()),
        "mean_wait_ms": 1000 * float(waits.mean()),
        "stealable_share": float((lost > 1e-6).mean()),
        "mean_saved_ms": 1000 * float(lost.mean()),
        "mean_latency_s": float(np.nanmean(outcome.finish_s - outcome.arrival_s)),
    }


def _waits(
    outcome: Outcome, sent_s: dict[int, float], slots: int
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return for each row the seconds in which its node was full, and those with room elsewhere."""
    made = [i for i in sent_s if outcome.level[i] >= 0]
    free = [_free(outcome, node, slots) for node in range(NODES)]
    waits, lost = [], []
    for i in made:
        start_s = float(outcome.start_s[i])
        own = int(outcome.node[i])
        full_s = _first(free[own], sent_s[i], start_s)
        waits.append(full_s - sent_s[i])
        others = (free[node] for node in range(NODES) if node != own)
        first_s = min((_first(spans, sent_s[i], full_s) for spans in others), default=full_s)
        lost.append(full_s - first_s)
    return np.array(waits), np.array(lost)


def _free(outcome: Outcome, node: int, slots: int) -> list[tuple[float, float]]:
    """Return the intervals in which a node has a free slot."""
    mine = np.flatnonzero(outcome.node == node)
    changes = sorted(
        [(float(outcome.finish_s[i]), -1) for i in mine]
        + [(float(outcome.start_s[i]), 1) for i in mine]
    )
    spans, held, since_s = [], 0, 0.0
    for at_s, change in changes:
        if held < slots and at_s > since_s + 1e-9:
            spans.append((since_s, at_s))
        held, since_s = held + change, at_s
    spans.append((since_s, np.inf))
    return spans


def _first(spans: list[tuple[float, float]], from_s: float, to_s: float) -> float:
    """Return the first moment of an interval that lies in some span; its end where none does."""
    place = bisect.bisect_right(spans, (from_s, np.inf)) - 1
    for start_s, end_s in spans[max(0, place) :]:
        if start_s >= to_s:
            break
        if end_s > from_s + 1e-9:
            return max(start_s, from_s)
    return to_s


def main() -> None:
    """Print the table; with --out, write it there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rows = [measure(setting, load, 1) for setting in SETTINGS for load in (0.8, 1.1)]
    print(record.table(rows))
    if asked.out is not None:
        record.write(asked.out, "stealing", {f"{NODES} nodes, {REQUESTS} requests": rows})


if __name__ == "__main__":
    main()
