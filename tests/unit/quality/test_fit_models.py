"""What runs in numpy is what scikit-learn and torch fitted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.ensemble import GradientBoostingRegressor
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsRegressor

from argus.control.learned.models import Harmless, Network, Staircase
from argus.control.reuse import PUBLISHED
from argus.quality.fit import network, ordinal, trees
from argus.quality.fit.data import TEST
from argus.quality.fit.recipes import (
    learnt_thresholds,
    nearest_neighbours,
    published_thresholds,
    strategies,
)
from tests.unit.quality.fitting import training, truth
from tests.unit.quality.synthetic import COST_S, LEVELS

UNSEEN = truth().data.split(TEST).prompts


def test_trees_answer_as_in_scikit_learn() -> None:
    features, fitting = training()
    known, targets = fitting.residuals()
    boosted = GradientBoostingRegressor(
        n_estimators=30, learning_rate=0.1, max_depth=4, init="zero", random_state=0
    )
    boosted.fit(fitting.inputs.rows[known], targets)
    exported = trees.export([t.tree_ for t in boosted.estimators_[:, 0]], 0.1, fitting.means)
    inputs = features.inputs(UNSEEN)
    expected = fitting.means + boosted.predict(inputs.rows).reshape(-1, len(LEVELS))
    assert exported(inputs) == pytest.approx(expected, abs=1e-12)


def test_a_network_answers_as_in_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "EPOCHS", 2)
    features, fitting = training()
    _, model = next(network.small_network(fitting))
    assert isinstance(model, Network)
    inputs = features.inputs(UNSEEN)
    rows = torch.tensor((inputs.rows - model.shift) / model.scale)
    answers = []
    for k in range(len(model.outer)):
        layers = torch.nn.Sequential(
            torch.nn.Linear(rows.shape[1], network.HIDDEN),
            torch.nn.ReLU(),
            torch.nn.Linear(network.HIDDEN, 1),
        ).double()
        with torch.no_grad():
            layers[0].weight.copy_(torch.tensor(model.inner[k].T))
            layers[0].bias.copy_(torch.tensor(model.inner_bias[k]))
            layers[2].weight.copy_(torch.tensor(model.outer[k][None]))
            layers[2].bias.copy_(torch.tensor(model.outer_bias[k]))
            answers.append(layers(rows)[:, 0].numpy())
    expected = fitting.means + np.mean(answers, axis=0).reshape(-1, len(LEVELS))
    assert model(inputs) == pytest.approx(expected, abs=1e-12)
    assert np.abs(model.outer).max() > 0


def test_learnt_thresholds_are_isotonic_regressions() -> None:
    features, fitting = training()
    ((_, model),) = learnt_thresholds(fitting)
    inputs = features.inputs(UNSEEN)
    answers = model(inputs)
    for i, level in enumerate(LEVELS):
        expected = np.full(len(UNSEEN), fitting.means[i])
        if level.skip_fraction:
            rising = IsotonicRegression(out_of_bounds="clip")
            rising.fit(fitting.inputs.similarity, fitting.targets[:, i])
            expected = rising.predict(inputs.similarity)
        assert answers[:, i] == pytest.approx(expected)


def test_published_thresholds_promise_no_harm_exactly_where_the_rule_allows() -> None:
    features, fitting = training()
    ((_, model),) = published_thresholds(fitting)
    assert isinstance(model, Staircase)
    answers = model(features.inputs(UNSEEN))
    for prompt, row in zip(UNSEEN, answers, strict=True):
        assert prompt.similarity is not None
        for level, value in zip(LEVELS, row, strict=True):
            if level.skip_fraction:
                allowed = PUBLISHED(prompt.similarity) >= level.skip_fraction
                assert (value == 1.0) == allowed


def test_nearest_neighbours_are_those_of_scikit_learn() -> None:
    features, fitting = training()
    _, model = next(nearest_neighbours(fitting))
    inputs = features.inputs(UNSEEN)
    model = replace(model, prior=np.array([0.0]))
    k, weight = int(model.k[0]), float(model.weight[0])
    own, other = fitting.inputs, inputs
    assert own.embeddings is not None
    assert other.embeddings is not None
    near = np.sqrt(weight)
    for scale, places in ((0.0, [1, 2, 6, 7]), (near, [3, 4, 5])):
        regression = KNeighborsRegressor(k)
        regression.fit(
            np.column_stack([own.embeddings, scale * own.similarity]), fitting.targets[:, places]
        )
        expected = regression.predict(np.column_stack([other.embeddings, scale * other.similarity]))
        assert model(inputs)[:, places] == pytest.approx(expected)


def test_harmless_levels_are_counted_in_order() -> None:
    targets = np.array([[1, 1.0, 0.995, 0.8], [1, 0.5, 1.0, 1.0], [1, 1.2, np.nan, 1.0]])
    assert ordinal.labels(targets, [1, 2, 3]).tolist() == [2, 0, 1]


def test_the_classifier_is_one_logistic_regression_a_border() -> None:
    features, fitting = training()
    _, model = next(ordinal.harmless_level(fitting))
    assert isinstance(model, Harmless)
    orders = strategies(fitting.levels, COST_S)
    inputs = features.inputs(UNSEEN)
    rows, unseen = (
        (np.concatenate([i.prompts, i.nearness], axis=1) - model.shift) / model.scale
        for i in (fitting.inputs, inputs)
    )
    for s, order in enumerate(orders):
        found = ordinal.labels(fitting.targets, order)
        above = []
        for c in range(len(order)):
            regression = LogisticRegression(C=ordinal.STRENGTHS[0], max_iter=500)
            above.append(regression.fit(rows, found > c).predict(unseen))
        expected = np.minimum.accumulate(np.stack(above, axis=1), axis=1).sum(axis=1)
        assert (model.classes(inputs)[:, s] == expected).all()
        answers = model(inputs)
        for place, i in enumerate(order):
            assert ((answers[:, i] == 1.0) == (place < expected)).all()


def test_strategies_are_states_in_order_and_levels_worth_their_cost() -> None:
    _, fitting = training()
    states, plain = strategies(fitting.levels, COST_S)
    assert states == [3, 4, 5]
    costs, means = COST_S[plain], fitting.means[plain]
    assert (np.diff(costs) < 0).all()
    assert (np.diff(means) < 0).all()
