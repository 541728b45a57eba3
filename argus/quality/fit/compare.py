"""Which kind of model predicts best: cross-validated on the prompts to learn from, by regret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from argus.control.learned.features import Features
from argus.control.learned.models import Model
from argus.control.learned.order import Chain, find_chains, settle
from argus.quality.fit.budget import spend
from argus.quality.fit.data import FitData, Floats, mean_where
from argus.quality.fit.features import Classes, learn_features
from argus.quality.fit.ladders import BUDGETS, Ladder, ladders
from argus.quality.fit.network import small_network
from argus.quality.fit.ordinal import harmless_level
from argus.quality.fit.recipes import (
    Recipe,
    Training,
    learnt_thresholds,
    level_means,
    nearest_neighbours,
    published_thresholds,
)
from argus.quality.fit.trees import boosted_trees
from argus.types import Level

FOLDS = 5
RECIPES: Mapping[str, Recipe] = {
    "level means": level_means,
    "published thresholds": published_thresholds,
    "learnt thresholds": learnt_thresholds,
    "nearest neighbours": nearest_neighbours,
    "harmless level": harmless_level,
    "boosted trees": boosted_trees,
    "small network": small_network,
}


@dataclass(frozen=True, slots=True, eq=False)
class Fitted:
    """What was fitted to some prompts: the model, and what it is to be asked with.

    Attributes:
        features: of its inputs, with the levels' means over the prompts.
        chains: orders that the means do not contradict.
        model: None where the recipe cannot be used with these prompts.
    """

    features: Features
    chains: tuple[Chain, ...]
    model: Model

    def __call__(self, data: FitData) -> Floats:
        """Return (n, l) predictions, in order."""
        return settle(self.model(self.features.inputs(data.prompts)), self.chains)


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A kind of model with the settings that predicted best.

    Attributes:
        name: of the recipe.
        settings: in words.
        predicted: (n, l) of the prompts to learn from, each by a model fitted without its fold.
        error: root mean squared error of those.
        regret: what is lost against the choice that knows every picture beforehand, in the main
            score, on average over ladders and budgets.
    """

    name: str
    settings: str
    predicted: Floats
    error: float
    regret: float


def with_means(data: FitData) -> tuple[Level, ...]:
    """Return the levels with their mean quality over some prompts, the reference with 1."""
    means = mean_where(data.targets, axis=0)
    levels = zip(data.levels, means.tolist(), strict=True)
    return tuple(
        replace(level, quality=1.0 if i == 0 else mean) for i, (level, mean) in enumerate(levels)
    )


def fit_all(
    data: FitData, classes: Classes, recipes: Mapping[str, Recipe], seed: int = 0
) -> Iterator[tuple[str, str, Fitted]]:
    """Fit every recipe to some prompts; yield it with its name and settings."""
    levels = with_means(data)
    features = learn_features(data, levels, classes)
    counts = (~np.isnan(data.targets)).sum(axis=0)
    chains = find_chains(levels, [x.quality for x in levels], counts.tolist())
    training = Training(features.inputs(data.prompts), data.targets, levels, data.cost_s, seed)
    for name, recipe in recipes.items():
        for settings, model in recipe(training):
            yield name, settings, Fitted(features, chains, model)


def folds_of(data: FitData, folds: int = FOLDS, seed: int = 0) -> Floats:
    """Return (n,) the fold of each prompt; groups are not divided, folds about equally large."""
    names, sizes = np.unique(data.groups, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    filled = np.zeros(folds, dtype=int)
    fold_of = {}
    for i in order:
        fold = int(filled.argmin())
        filled[fold] += sizes[i]
        fold_of[names[i]] = fold
    return np.array([fold_of[group] for group in data.groups])


def cross_validate(
    data: FitData, classes: Classes, recipes: Mapping[str, Recipe] = RECIPES, seed: int = 0
) -> tuple[Candidate, ...]:
    """Return every recipe with its best settings, the least regret first.

    Settings are chosen by squared error, kinds by regret; both on predictions for prompts whose
    group the model was not fitted to.

    Args:
        data: the prompts to learn from; no other may take part.
        classes: see `learn_features`.
        recipes: by name.
        seed: of folds and of what recipes draw.
    """
    fold_of = folds_of(data, seed=seed)
    predicted: dict[tuple[str, str], Floats] = {}
    for fold in range(FOLDS):
        own = fold_of == fold
        for name, settings, fitted in fit_all(data.where(~own), classes, recipes, seed):
            empty = np.full((len(data), len(data.levels)), np.nan)
            predicted.setdefault((name, settings), empty)[own] = fitted(data.where(own))
    parts = ladders(data.levels)
    best: dict[str, Candidate] = {}
    for (name, settings), values in predicted.items():
        error = _error(values, data)
        if name not in best or error < best[name].error:
            best[name] = Candidate(name, settings, values, error, 0.0)
    judged = [replace(c, regret=regret(c.predicted, data, parts)) for c in best.values()]
    return tuple(sorted(judged, key=lambda c: c.regret))


def regret(predicted: Floats, data: FitData, parts: tuple[Ladder, ...]) -> float:
    """Return what a choice by predictions loses against one that knows every picture.

    On average over the ladders and the budgets that they can meet, in the main score; prompts count
    with their mean over repeats.
    """
    scores = mean_where(data.scores, axis=1)
    whole = ~np.isnan(scores).any(axis=1)
    losses = []
    for part in parts:
        places = list(part.places)
        cost = data.cost_s[places]
        real, expected = scores[whole][:, places], predicted[whole][:, places]
        for saved in BUDGETS:
            knows = spend(real, cost, (1 - saved) * cost[0])
            guesses = spend(expected, cost, (1 - saved) * cost[0])
            if knows is not None and guesses is not None:
                losses.append(float(((knows - guesses) * real).sum(axis=1).mean()))
    return float(np.mean(losses)) if losses else 0.0


def _error(predicted: Floats, data: FitData) -> float:
    off = (predicted - data.targets)[:, 1:]
    return float(np.sqrt(np.nanmean(off**2)))
