"""Fits a predictor to a profile and judges it: from a folder to a folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from argus.control.learned.bounds import Bounds
from argus.control.learned.domain import Domain
from argus.control.learned.files import ARRAYS, JSON, predictor_files
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Harmless
from argus.errors import ConfigError
from argus.quality.fit.calibrate import (
    COVERAGE,
    calibration_error,
    coverage,
    error_sizes,
    find_bounds,
    floors,
    one_each,
    reliability,
)
from argus.quality.fit.compare import RECIPES, Candidate, Fitted, cross_validate, fit_all, regret
from argus.quality.fit.data import CALIBRATION, TEST, TRAIN, FitData, Floats
from argus.quality.fit.features import Classes, learn_domain
from argus.quality.fit.judge import closed, judge, judged_groups, score_of
from argus.quality.fit.ladders import ladders
from argus.quality.fit.ordinal import labels
from argus.quality.fit.recipes import Recipe, strategies

WORST = 0.25
"""Share of the prompts that a strange prompt is held to be among: the worst at each level."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A predictor, and every kind that it was chosen from, fitted to the same prompts."""

    predictor: FittedPredictor
    candidates: tuple[Candidate, ...]
    fitted: Mapping[str, Fitted]


def fit(
    data: FitData,
    classes: Classes,
    say: Say,
    recipes: Mapping[str, Recipe] = RECIPES,
    seed: int = 0,
) -> Fit:
    """Choose, fit and calibrate.

    Train prompts choose and fit, calibration prompts set the bounds, test prompts take no part.

    Args:
        data: the profile.
        classes: see `learn_features`.
        say: told what was found.
        recipes: kinds to choose from.
        seed: of folds and of what recipes draw.
    """
    train = data.split(TRAIN)
    candidates = cross_validate(train, classes, recipes, seed)
    for c in candidates:
        say(f"{c.name} {c.settings}: regret {c.regret:.4f}, error {c.error:.4f}".replace(" :", ":"))
    wanted = {c.name: c.settings for c in candidates}
    fitted = {
        name: found
        for name, settings, found in fit_all(train, classes, recipes, seed)
        if wanted.get(name) == settings
    }
    best = candidates[0]
    chosen = fitted[best.name]
    count = len(data.levels)
    blank = Bounds(np.array([0.0]), np.array([1.0]), np.zeros(count), np.zeros(count))
    predictor = FittedPredictor(
        profile=data.profile,
        embedder=data.embedder,
        dimension=train.embeddings.shape[1] if data.embedder else 0,
        coverage=COVERAGE,
        features=chosen.features,
        domain=learn_domain(train, chosen.features.lexicon),
        model=chosen.model,
        bounds=blank,
        worst=_worst(train.targets),
        chains=chosen.chains,
    )
    aside = data.split(CALIBRATION)
    aside = aside.where(_usual(predictor, aside))
    predicted, _ = predictor.arrays(aside.prompts)
    sizes = error_sizes(best.predicted, train.targets)
    bounds = find_bounds(predicted, one_each(aside), predictor.means, sizes)
    return Fit(replace(predictor, bounds=bounds), candidates, fitted)


def _usual(predictor: FittedPredictor, data: FitData) -> Any:
    """Return (n,) whether prompts are like those learned from."""
    domain: Domain = predictor.domain
    words = np.array([domain.holds(p, predictor.features.lexicon) for p in data.prompts])
    return words & domain.near(data.embeddings) if predictor.embedder else words


def _worst(targets: Floats) -> Floats:
    """Return (l,) mean of the lowest quarter at each level; 1 at the reference."""
    found = np.ones(targets.shape[1])
    for i in range(1, targets.shape[1]):
        known = np.sort(targets[~np.isnan(targets[:, i]), i])
        found[i] = known[: max(1, int(WORST * len(known)))].mean()
    return found


def details(result: Fit, data: FitData, say: Say) -> dict[str, Any]:
    """Return how a predictor was found and what it does on the test prompts, as JSON values."""
    test, predictor = data.split(TEST), result.predictor
    train = data.split(TRAIN)
    quality, lower = predictor.arrays(test.prompts)
    bins = reliability(quality, test)
    covered = coverage(lower, test)
    predictions = {name: fitted(test) for name, fitted in result.fitted.items()}
    predictions["predictor"] = quality
    choices = judge(test, predictions, predictor.means)
    groups = judged_groups(test)
    shares = closed(choices, groups, "predictor")
    for share in shares:
        if np.isnan(share.share):
            continue
        say(
            f"{share.ladder}, {share.saved:.0%} saved: {share.share:.0%} of the gap of "
            f"{share.gap:.4f} to the {share.ceiling} ({share.low:.0%} to {share.high:.0%})"
        )
    return _plain(
        {
            "prompts": {name: len(data.split(name)) for name in (TRAIN, CALIBRATION, TEST)},
            "strange": {
                name: int((~_usual(predictor, data.split(name))).sum())
                for name in (TRAIN, CALIBRATION, TEST)
            },
            "comparison": _comparison(result, train, data.split(CALIBRATION), test),
            "harmless": _accuracy(result, test),
            "reliability": [asdict(b) for b in bins],
            "calibration_error": calibration_error(bins),
            "coverage": [asdict(c) | {"share": c.share} for c in covered],
            "floors": [asdict(f) for f in floors(predictor, test)],
            "choices": [_choice(c, groups) for c in choices],
            "gap_closed": [asdict(share) for share in shares],
            "milliseconds": _milliseconds(predictor, test),
        }
    )


def _comparison(result: Fit, train: FitData, aside: FitData, test: FitData) -> list[dict[str, Any]]:
    """Return one row for each kind, as they were ranked."""
    parts = ladders(train.levels)
    rows = []
    for c in result.candidates:
        fitted = result.fitted[c.name]
        row: dict[str, Any] = {
            "kind": c.name,
            "settings": c.settings,
            "regret": c.regret,
            "error": c.error,
        }
        for name, part in (("calibration", aside), ("test", test)):
            predicted = fitted(part)
            row[f"regret_{name}"] = regret(predicted, part, parts)
            off = (predicted - part.targets)[:, 1:]
            row[f"error_{name}"] = float(np.sqrt(np.nanmean(off**2)))
        rows.append(row)
    return rows


def _accuracy(result: Fit, test: FitData) -> list[dict[str, Any]]:
    """Return how often the ordinal classifier names a test picture's harmless level.

    Beside it, how often the most frequent class of the same pictures does.
    """
    fitted = result.fitted.get("harmless level")
    if fitted is None or not isinstance(fitted.model, Harmless):
        return []
    found = fitted.model.classes(fitted.features.inputs(test.prompts))
    rows = []
    orders = strategies(fitted.features.levels, test.cost_s)
    for s, order in enumerate(orders):
        real = np.stack([labels(test.relative[:, r], order) for r in range(test.relative.shape[1])])
        known = ~np.isnan(test.relative[:, :, order]).any(axis=2).T
        right = (real == found[None, :, s])[known]
        near = (np.abs(real - found[None, :, s]) <= 1)[known]
        counts = np.bincount(real[known])
        rows.append(
            {
                "levels": ", ".join(test.levels[i].name for i in order),
                "classes": len(order) + 1,
                "accuracy": float(right.mean()),
                "within_one": float(near.mean()),
                "most_frequent": float(counts.max() / counts.sum()),
                "pictures": int(known.sum()),
            }
        )
    return rows


def _choice(choice: Any, groups: Any) -> dict[str, Any]:
    mean, low, high = score_of(choice.values, groups)
    return {
        "policy": choice.policy,
        "ladder": choice.ladder,
        "saved": choice.saved,
        "really_saved": 1 - choice.spent,
        "score": mean,
        "low": low,
        "high": high,
    }


def _milliseconds(predictor: FittedPredictor, data: FitData) -> dict[str, float]:
    """Return milliseconds a prompt in batches of 1, 16 and 64, the least of several runs."""
    found = {}
    for batch in (1, 16, 64):
        prompts = [data.prompts[i % len(data)] for i in range(batch)]
        seconds = []
        for _ in range(10):
            began = time.perf_counter()
            predictor.predict(prompts, predictor.levels)
            seconds.append(time.perf_counter() - began)
        found[str(batch)] = 1000 * min(seconds) / batch
    return found


def _plain(value: Any) -> Any:
    """Return a value as JSON can hold it: null for NaN, no digits that mean nothing."""
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float):
        return None if value != value else round(value, 6)
    return value


def write_predictor(folder: Path, predictor: FittedPredictor) -> Sequence[Path]:
    """Write the two files, and return their paths.

    Raises:
        ConfigError: they cannot be written.
    """
    text, arrays = predictor_files(predictor)
    paths = folder / JSON, folder / ARRAYS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        paths[0].write_text(text, encoding="utf-8")
        paths[1].write_bytes(arrays)
    except OSError as error:
        raise ConfigError(f"{folder}: {error.strerror or error}") from error
    return paths


def fit_and_judge(data: FitData, classes: Classes, say: Say, seed: int = 0) -> FittedPredictor:
    """Return the best predictor of a profile, with its details."""
    result = fit(data, classes, say, seed=seed)
    return replace(result.predictor, details=details(result, data, say))
