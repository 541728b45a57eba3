"""Fitting a profile: chosen on train prompts, bounded on calibration prompts, judged on others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from argus.control.learned.files import predictor_files
from argus.quality.fit.budget import spend
from argus.quality.fit.calibrate import Bin, calibration_error, coverage, reliability
from argus.quality.fit.command import details, fit
from argus.quality.fit.compare import RECIPES, folds_of
from argus.quality.fit.data import CALIBRATION, TEST, TRAIN
from argus.quality.fit.features import bundled_classes
from argus.quality.fit.judge import AGNOSTIC, KNOWS, SHRUNK, closed, judge, judged_groups
from argus.quality.fit.ladders import ladders
from argus.quality.fit.sections import predictor_sections
from tests.unit.quality.fitting import CLASSES, QUICK, quick_fit, truth
from tests.unit.quality.synthetic import COST_S, LEVELS, draw


def test_test_prompts_take_no_part_in_the_predictor() -> None:
    data = truth().data
    spoiled = data.scores.copy(), data.relative.copy()
    for array in spoiled:
        array[data.splits == TEST] = np.random.default_rng(9).uniform(0.1, 1, array[0].shape)
    changed = replace(data, scores=spoiled[0], relative=spoiled[1])
    recipes = {name: RECIPES[name] for name in QUICK}
    again = fit(changed, CLASSES, lambda line: None, recipes)
    assert predictor_files(again.predictor) == predictor_files(quick_fit().predictor)


def test_calibration_prompts_set_the_bounds_and_nothing_else() -> None:
    data = truth().data
    relative = data.relative.copy()
    relative[data.splits == CALIBRATION, :, 1:] *= 0.5
    recipes = {name: RECIPES[name] for name in QUICK}
    again = fit(replace(data, relative=relative), CLASSES, lambda line: None, recipes).predictor
    prompts = data.split(TEST).prompts
    quality, lower = quick_fit().predictor.arrays(prompts)
    other_quality, other_lower = again.arrays(prompts)
    assert (other_quality == quality).all()
    assert (other_lower <= lower).all()
    assert (other_lower < lower).any()


def test_what_depends_on_the_prompt_is_found_and_kept() -> None:
    result = quick_fit()
    assert [c.name for c in result.candidates][-1] == "level means"
    assert result.candidates[0].name == "nearest neighbours"
    regrets = [c.regret for c in result.candidates]
    assert regrets == sorted(regrets)


def test_the_predictor_closes_half_of_the_gap_to_who_knows_the_truth() -> None:
    """The truth is what no measurement shows: the chance of each fact, prompt by prompt."""
    known, data = truth(), truth().data
    test = data.splits == TEST
    held, chance = data.split(TEST), known.chance[test]
    quality, _ = quick_fit().predictor.arrays(held.prompts)
    states = list(next(part for part in ladders(LEVELS) if part.name == "states only").places)
    cost = COST_S[states]
    budget = 0.8 * cost[0]
    means = np.tile(quick_fit().predictor.means[states], (len(held), 1))
    reached = []
    for guess in (means, quality[:, states], chance[:, states]):
        shares = spend(guess, cost, budget)
        assert shares is not None
        assert (shares @ cost).mean() == pytest.approx(budget)
        reached.append((shares * chance[:, states]).sum(axis=1).mean())
    agnostic, predicted, ideal = reached
    assert (predicted - agnostic) / (ideal - agnostic) > 0.5


def test_bounds_hold_on_prompts_held_out() -> None:
    """Within the binomial error of as many prompts; 99.9 % of lotteries end inside."""
    predictor, data = quick_fit().predictor, truth().data.split(TEST)
    _, lower = predictor.arrays(data.prompts)
    counts = coverage(lower, data)
    assert [c.level for c in counts] == [level.name for level in LEVELS[1:]]
    for level in counts:
        # Four repeats of a prompt are not independent: the error is that of the prompts. The bound
        # itself is drawn, too, from as many prompts again.
        prompts = len(data)
        least = binom.ppf(0.001, prompts, 0.9) / prompts - 2 * np.sqrt(0.09 / prompts)
        assert level.share >= least, level


def test_folds_are_even_and_divide_no_group() -> None:
    data = truth().data.split(TRAIN)
    folds = folds_of(data)
    for group in np.unique(data.groups):
        assert len(set(folds[data.groups == group])) == 1
    sizes = np.bincount(folds.astype(int))
    assert len(sizes) == 5
    assert max(sizes) - min(sizes) <= max(np.unique(data.groups, return_counts=True)[1])


def test_ceilings_are_ordered_and_shares_are_between_the_policies_that_they_are_made_of() -> None:
    data = draw(seed=3).data.split(TEST)
    quality, _ = quick_fit().predictor.arrays(data.prompts)
    means = quick_fit().predictor.means
    choices = judge(data, {"predictor": quality, "oracle again": data.scores.mean(axis=1)}, means)
    at = {(c.policy, c.ladder, c.saved): c.values.mean() for c in choices}
    for policy, ladder, saved in at:
        # Nobody beats who knows every picture, at any budget.
        assert at[policy, ladder, saved] <= at[KNOWS, ladder, saved] + 1e-9
    for choice in choices:
        assert choice.spent <= 1 - choice.saved + 1e-9
    for share in closed(choices, judged_groups(data), AGNOSTIC):
        assert np.isnan(share.share) or share.share == 0.0
    whole = closed(choices, judged_groups(data), KNOWS)
    assert {s.share for s in whole if s.ceiling == KNOWS and not np.isnan(s.share)} == {1.0}
    assert any(c.policy == SHRUNK for c in choices)


def test_reliability_is_the_means_of_sorted_parts() -> None:
    data = truth().data.split(TEST)
    predicted = np.broadcast_to(np.linspace(0, 1, len(LEVELS)), (len(data), len(LEVELS)))
    bins = reliability(predicted, data, bins=len(LEVELS) - 1)
    real = data.relative.transpose(2, 0, 1).reshape(len(LEVELS), -1)[1:]
    assert [b.measured for b in bins] == pytest.approx(real.mean(axis=1))
    assert [b.predicted for b in bins] == pytest.approx(predicted[0, 1:])
    assert calibration_error([Bin(0.5, 0.6, 30), Bin(0.9, 0.7, 10)]) == pytest.approx(0.125)


def test_details_are_json_and_become_sections_of_the_report() -> None:
    lines: list[str] = []
    found = details(quick_fit(), truth().data, lines.append)
    kinds = [row["kind"] for row in found["comparison"]]
    assert sorted(kinds) == sorted(QUICK)
    assert {c["policy"] for c in found["choices"]} >= {*QUICK, "predictor", KNOWS, AGNOSTIC}
    assert lines
    predictor = replace(quick_fit().predictor, details=found)
    text, _ = predictor_files(predictor)  # refuses NaN
    assert "gap_closed" in text
    titles = [section.title for section in predictor_sections("neighbours", found)]
    assert len(titles) == 5
    bodies = "".join(section.body for section in predictor_sections("neighbours", found))
    assert "nearest neighbours" in bodies
    assert "<svg" in bodies


def test_every_word_of_bundled_captions_that_matters_is_in_a_class() -> None:
    from argus.quality.domain import draw_domain

    classes = bundled_classes()
    assert {"circles", "crosses", "shape"} <= classes["shapes"]
    words = {word for c in classes.values() for word in c}
    used = {
        word
        for prompt in draw_domain(150, 1).prompts
        for word in prompt.text.replace(",", " ").split()
    }
    plain = {"a", "an", "and", "of", "on", "to", "the", "there", "is", "background"}
    assert used - words <= plain | {"picture", "image", "drawing", "with"}
