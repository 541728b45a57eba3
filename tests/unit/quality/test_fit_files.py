"""A predictor is written and read without loss; what is spoiled is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from argus.control.learned.files import parse_predictor, predictor_files
from argus.control.learned.fitted import FittedPredictor
from argus.control.learned.models import Model
from argus.errors import ConfigError
from argus.quality.fit import network, trees
from argus.quality.fit.compare import RECIPES
from argus.quality.fit.data import TEST
from tests.unit.quality.fitting import quick_fit, training, truth


def with_model(kind: str) -> FittedPredictor:
    return replace(quick_fit().predictor, model=model_of(kind))


def model_of(kind: str) -> Model:
    _, fitting = training()
    return next(model for _, model in RECIPES[kind](fitting))


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "EPOCHS", 1)
    monkeypatch.setattr(trees, "COUNTS", (5,))


@pytest.mark.parametrize("kind", list(RECIPES))
def test_what_is_read_predicts_bit_by_bit_what_was_written(kind: str) -> None:
    predictor = with_model(kind)
    read = parse_predictor(*predictor_files(predictor), "there")
    prompts = truth().data.split(TEST).prompts
    for one, other in zip(predictor.arrays(prompts), read.arrays(prompts), strict=True):
        assert (one == other).all()
    assert read.levels == predictor.levels
    assert (read.profile, read.embedder, read.coverage) == ("0123456789abcdef", "words@1", 0.9)
    assert predictor_files(read) == predictor_files(predictor)


Spoil = Callable[[dict[str, Any]], object]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda d: d.pop("kind"), "predictor.json: kind: missing"),
        (lambda d: d.update(kind="oracle"), "predictor.json: kind: must be"),
        (lambda d: d.update(schema=2), "predictor.json: schema: 1 is read"),
        (lambda d: d.update(coverage=1.5), "predictor.json: coverage: must be"),
        (lambda d: d.update(profle="x"), "did you mean 'profile'"),
        (lambda d: d["levels"][1].pop("name"), r"levels\[1\].name: missing"),
        (lambda d: d["levels"][1].update(quality="good"), r"levels\[1\].quality: must be"),
        (lambda d: d["lexicon"].update(words=[1]), "lexicon.words: a list of words"),
        (lambda d: d["domain"].update(least_known=2), "domain.least_known: must be"),
        (lambda d: d.update(chains=[[[99]]]), "chains: blocks of places"),
        (lambda d: d.update(chains=[1]), "chains: lists of lists"),
        (lambda d: d.update(dimension=0), "dimension: must be"),
    ],
)
def test_a_spoiled_description_is_refused_with_its_field(spoil: Spoil, words: str) -> None:
    text, arrays = predictor_files(quick_fit().predictor)
    data = json.loads(text)
    spoil(data)
    with pytest.raises(ConfigError, match=words):
        parse_predictor(json.dumps(data), arrays, "there")


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_description_is_refused(text: str) -> None:
    _, arrays = predictor_files(quick_fit().predictor)
    with pytest.raises(ConfigError, match=r"there/predictor\.json"):
        parse_predictor(text, arrays, "there")


@pytest.mark.parametrize(
    ("kind", "name", "change", "words"),
    [
        ("boosted trees", "worst", lambda a: a[1:], "worst: shape must be 8"),
        ("boosted trees", "worst", lambda a: a.astype(np.float32), "worst: float64 needed"),
        ("boosted trees", "bounds.margins", lambda a: a * np.nan, "bounds.margins: holds"),
        ("boosted trees", "model.feature", lambda a: a + 10_000, "model.feature: features are"),
        ("boosted trees", "model.left", lambda a: a * 0, "model.left: a child must come"),
        ("boosted trees", "model.right", lambda a: a + 99, "model.right: a child must come"),
        ("boosted trees", "model.value", lambda a: a[:, 1:], "model.value: shape must be"),
        ("boosted trees", "bounds.qualities", lambda a: -a, "bounds.qualities: must ascend"),
        ("small network", "model.inner", lambda a: a[:, 1:], "model.inner: shape must be"),
        ("small network", "model.outer_bias", lambda a: a[1:], "model.outer_bias: shape"),
        ("learnt thresholds", "model.similarities", lambda a: -a, "similarities: must ascend"),
        ("harmless level", "model.rank", lambda a: a[:, 1:], "model.rank: shape must be"),
        ("level means", "projection.axes", lambda a: a[1:], "projection.axes: shape must be"),
        ("level means", "domain.embeddings", lambda a: None, "domain.embeddings: missing"),
    ],
)
def test_spoiled_arrays_are_refused_by_name(
    kind: str, name: str, change: Callable[[Any], Any], words: str
) -> None:
    text, content = predictor_files(with_model(kind))
    arrays = load(content)
    changed = change(arrays.pop(name))
    if changed is not None:
        arrays[name] = np.ascontiguousarray(changed)
    with pytest.raises(ConfigError, match=words):
        parse_predictor(text, save(arrays), "there")


def test_an_array_too_many_and_a_torn_file_are_refused() -> None:
    text, content = predictor_files(quick_fit().predictor)
    with pytest.raises(ConfigError, match="more: unknown array"):
        parse_predictor(text, save(load(content) | {"more": np.zeros(1)}), "there")
    with pytest.raises(ConfigError, match=r"there/predictor\.safetensors: not a safetensors"):
        parse_predictor(text, content[:-9], "there")
