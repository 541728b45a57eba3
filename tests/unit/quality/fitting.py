"""Small fits that tests share."""

from __future__ import annotations

from functools import cache

from argus.control.learned.features import Features
from argus.quality.fit.command import Fit, fit
from argus.quality.fit.compare import RECIPES, with_means
from argus.quality.fit.data import TRAIN
from argus.quality.fit.features import learn_features
from argus.quality.fit.recipes import Training
from tests.unit.quality.synthetic import Truth, draw

CLASSES = {"shapes": frozenset({"circle", "square", "triangle", "cross"})}
QUICK = ("level means", "learnt thresholds", "nearest neighbours")


@cache
def truth() -> Truth:
    return draw()


@cache
def quick_fit() -> Fit:
    """A fit that compares the kinds which take no time."""
    recipes = {name: RECIPES[name] for name in QUICK}
    return fit(truth().data, CLASSES, lambda line: None, recipes)


@cache
def training() -> tuple[Features, Training]:
    data = truth().data.split(TRAIN)
    levels = with_means(data)
    features = learn_features(data, levels, CLASSES)
    return features, Training(features.inputs(data.prompts), data.targets, levels, data.cost_s)
