"""Choices on prompts held out: what each policy gets for the same device seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from argus.quality.fit.budget import move_thresholds, spend, uniform
from argus.quality.fit.data import FitData, Floats
from argus.quality.fit.ladders import BUDGETS, Ladder, ladders

DRAWS = 2000
SURE = 0.95
AGNOSTIC, UNIFORM, MOVED = "best mix for all", "every level alike", "published, moved"
KNOWS, REPEATABLE, SHRUNK = "oracle", "repeatable oracle", "repeatable oracle, shrunk"


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What a policy got at one budget on one ladder.

    Attributes:
        policy: its name.
        ladder, saved: where; `saved` was asked for.
        values: (n,) main score expected of each prompt.
        spent: share of the first level's seconds that was not saved.
    """

    policy: str
    ladder: str
    saved: float
    values: Floats
    spent: float


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the gap between two policies a third one closes, with a 95 % interval.

    `share` is NaN where there is no gap; `gap` in the main score, with its own interval.
    """

    ladder: str
    saved: float
    ceiling: str
    gap: float
    gap_low: float
    gap_high: float
    share: float
    low: float
    high: float


def judge(data: FitData, predictions: Mapping[str, Floats], means: Floats) -> tuple[Choice, ...]:
    """Return what each policy gets on prompts with repeats, by ladder and budget.

    Prompts of which a picture is missing are left out. Budgets that a ladder cannot meet have no
    choices.

    Args:
        data: the prompts held out.
        predictions: (n, l) by policy.
        means: (l,) of the levels over the prompts that were learned from; the prompt-agnostic
            policy mixes by them.
    """
    whole = ~np.isnan(data.scores).any(axis=(1, 2))
    held = data.where(whole)
    found: list[Choice] = []
    for ladder in ladders(data.levels):
        for saved in BUDGETS:
            table = _Table(held, ladder, saved)
            if table.out_of_reach:
                continue
            found.append(table.choice(AGNOSTIC, np.tile(means, (len(held), 1))))
            found += table.uniform()
            found += table.moved()
            found += [table.choice(name, q[whole]) for name, q in predictions.items()]
            found += table.oracles()
    return tuple(found)


class _Table:
    """One ladder at one budget."""

    def __init__(self, data: FitData, ladder: Ladder, saved: float) -> None:
        self._data = data
        self._ladder = ladder
        self._places = list(ladder.places)
        self._saved = saved
        self._cost = data.cost_s[self._places]
        self._budget = (1 - saved) * self._cost[0]
        self._scores = data.scores[:, :, self._places]
        self._real = self._scores.mean(axis=1)

    @property
    def out_of_reach(self) -> bool:
        return bool(self._cost.min() > self._budget)

    def _of(self, policy: str, shares: Floats | None, real: Floats | None = None) -> list[Choice]:
        if shares is None:
            return []
        values = (shares * (self._real if real is None else real)).sum(axis=1)
        spent = float((shares @ self._cost).mean() / self._cost[0])
        return [Choice(policy, self._ladder.name, self._saved, values, spent)]

    def choice(self, policy: str, quality: Floats) -> Choice:
        (found,) = self._of(policy, spend(quality[:, self._places], self._cost, self._budget))
        return found

    def uniform(self) -> list[Choice]:
        return self._of(UNIFORM, uniform(len(self._data), self._cost, self._budget))

    def moved(self) -> list[Choice]:
        """NIRVANA's rule, on the levels it is for."""
        levels = [self._data.levels[i] for i in self._places]
        if any(level.steps_fraction < 1 or level.variant != levels[0].variant for level in levels):
            return []
        if any(p.similarity is None for p in self._data.prompts):
            return []
        similarity = np.array([p.similarity for p in self._data.prompts], dtype=np.float64)
        skips = np.array([level.skip_fraction for level in levels])
        return self._of(MOVED, move_thresholds(similarity, skips, self._cost, self._budget))

    def oracles(self) -> list[Choice]:
        """Who knows each picture; and who knows the prompt's other repeats, as measured or shrunk.

        Shrunk: drawn to the level's mean by the share of the differences between prompts that the
        seed alone explains, as the best linear guess is (empirical Bayes).
        """
        n, repeats, count = self._scores.shape
        pictures = self._scores.reshape(n * repeats, count)
        knows = spend(pictures, self._cost, self._budget)
        assert knows is not None, "reached only where the budget can be met"
        values = (knows * pictures).sum(axis=1).reshape(n, repeats).mean(axis=1)
        spent = float((knows @ self._cost).mean() / self._cost[0])
        found = [Choice(KNOWS, self._ladder.name, self._saved, values, spent)]
        if repeats < 2:
            return found
        for name, shrunk in ((REPEATABLE, False), (SHRUNK, True)):
            parts = [self._left_out(name, r, shrunk) for r in range(repeats)]
            mean = np.mean([part.values for part in parts], axis=0)
            spent = float(np.mean([part.spent for part in parts]))
            found.append(Choice(name, self._ladder.name, self._saved, mean, spent))
        return found

    def _left_out(self, name: str, repeat: int, shrunk: bool) -> Choice:
        others = np.delete(self._scores, repeat, axis=1)
        guess = others.mean(axis=1)
        if shrunk:
            means = guess.mean(axis=0)
            noise = others.var(axis=1, ddof=1).mean(axis=0) if others.shape[1] > 1 else guess.var(0)
            noise = noise / others.shape[1]
            between = np.maximum(guess.var(axis=0, ddof=1) - noise, 0.0)
            weight = between / np.maximum(between + noise, 1e-12)
            guess = means + weight * (guess - means)
        shares = spend(guess, self._cost, self._budget)
        (found,) = self._of(name, shares, self._scores[:, repeat])
        return found


def closed(
    choices: tuple[Choice, ...], groups: NDArray[np.str_], policy: str, seed: int = 0
) -> tuple[Share, ...]:
    """Return what share of the gap from the prompt-agnostic mix to each oracle a policy closes.

    Intervals come from the bootstrap over groups of prompts (Efron, 1979), choices held.

    Args:
        choices: of `judge`.
        groups: (n,) of the prompts that were judged.
        policy: whose.
        seed: of the draws.
    """
    at = {(c.policy, c.ladder, c.saved): c for c in choices}
    counts = _draws(groups, seed)
    shares = []
    for ladder, saved in dict.fromkeys((c.ladder, c.saved) for c in choices):
        low, own = at[AGNOSTIC, ladder, saved].values, at[policy, ladder, saved].values
        for ceiling in (KNOWS, REPEATABLE, SHRUNK):
            if (ceiling, ladder, saved) not in at:
                continue
            high = at[ceiling, ladder, saved].values
            gaps, gains = counts @ (high - low), counts @ (own - low)
            gap, gain = float((high - low).mean()), float((own - low).mean())
            gap_low, gap_high = _interval(gaps)
            share, bounds = np.nan, (np.nan, np.nan)
            if gap_low > 0:
                share = gain / gap
                bounds = _interval(gains / np.where(gaps > 0, gaps, np.nan))
            shares.append(Share(ladder, saved, ceiling, gap, gap_low, gap_high, share, *bounds))
    return tuple(shares)


def judged_groups(data: FitData) -> NDArray[np.str_]:
    """Return the groups of the prompts that `judge` does not leave out."""
    return data.groups[~np.isnan(data.scores).any(axis=(1, 2))]


def _draws(groups: NDArray[np.str_], seed: int) -> Floats:
    """Return (draws, n) weights that sum to 1: how often each prompt was drawn."""
    names, place = np.unique(groups, return_inverse=True)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    counts = drawn[:, place].astype(np.float64)
    return np.asarray(counts / counts.sum(axis=1, keepdims=True))


def _interval(values: Floats) -> tuple[float, float]:
    low, high = np.nanquantile(values, [(1 - SURE) / 2, (1 + SURE) / 2])
    return float(low), float(high)


def score_of(values: Floats, groups: NDArray[np.str_], seed: int = 0) -> tuple[float, float, float]:
    """Return the mean of (n,) scores and its 95 % interval, by resampling groups."""
    return float(values.mean()), *_interval(_draws(groups, seed) @ values)
