"""Scorers agree with transformers and with the verifier, and refuse folders that do not fit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

from argus.errors import InvalidArgumentError, ModelError, NotFoundError
from argus.models.captions import caption_of, parse_caption
from argus.models.scenes import render, scene_at
from argus.models.tokenizer import build_tokenizer
from argus.models.verifier import verify
from argus.quality.scorers import Judged, names, open_scorers
from argus.quality.scorers.no_reference import ANTONYMS

PROMPTS = ("a red circle", "a large blue ring on a white background", "two green squares")
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small random CLIP in the standard format, as real weights come."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("clip")
    tokenizer: CLIPTokenizer = build_tokenizer()
    text = {"vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48}
    text |= {"num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 24}
    text |= {"eos_token_id": tokenizer.eos_token_id, "bos_token_id": tokenizer.bos_token_id}
    vision = {"hidden_size": 40, "intermediate_size": 48, "num_hidden_layers": 2}
    vision |= {"num_attention_heads": 4, "image_size": 56, "patch_size": 14}
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    processor = CLIPImageProcessor(
        size={"shortest_edge": 56}, crop_size={"height": 56, "width": 56}
    )
    model.save_pretrained(path)
    CLIPProcessor(image_processor=processor, tokenizer=tokenizer).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def pictures() -> list[Pixels]:
    rng = np.random.default_rng(0)
    sizes = ((64, 64), (96, 80), (64, 64))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def judged(pictures: list[Pixels], references: list[Pixels] | None = None) -> list[Judged]:
    beside: list[Any] = list(references or [None] * len(pictures))
    return [Judged(*each) for each in zip(PROMPTS, pictures, beside, strict=True)]


def logits(folder: Path, texts: list[str], pictures: list[Pixels]) -> NDArray[np.float64]:
    """Return (pictures, texts) as transformers itself computes them, one pair at a time."""
    model = CLIPModel.from_pretrained(folder)
    processor = CLIPProcessor.from_pretrained(folder)
    values = np.zeros((len(pictures), len(texts)))
    for i, picture in enumerate(pictures):
        for k, text in enumerate(texts):
            inputs = processor(text=[text], images=[picture], return_tensors="pt", truncation=True)
            with torch.no_grad():
                values[i, k] = model(**inputs).logits_per_image.item()
    return values


def test_clip_and_pickscore_are_transformers_own(folder: Path, pictures: list[Pixels]) -> None:
    clip, pick = open_scorers(("clip", "pickscore"), folder)
    wanted = logits(folder, list(PROMPTS), pictures).diagonal()
    np.testing.assert_allclose(pick.score(judged(pictures))["pickscore"], wanted, rtol=1e-5)
    scale = CLIPModel.from_pretrained(folder).logit_scale.exp().item()
    found = clip.score(judged(pictures))["clip"]
    np.testing.assert_allclose(found, wanted / scale, rtol=1e-5, atol=1e-7)


def test_antonym_quality_is_the_mean_softmax_of_the_pairs(
    folder: Path, pictures: list[Pixels]
) -> None:
    (scorer,) = open_scorers(("qualiclip",), folder)
    wanted = np.zeros(len(pictures))
    for pair in ANTONYMS:
        values = torch.from_numpy(logits(folder, list(pair), pictures))
        wanted += values.softmax(dim=1)[:, 0].numpy() / len(ANTONYMS)
    np.testing.assert_allclose(scorer.score(judged(pictures))["qualiclip"], wanted, rtol=1e-4)


def test_a_batch_scores_as_its_pictures_alone(folder: Path, pictures: list[Pixels]) -> None:
    for scorer in open_scorers(tuple(n for n in names() if n != "facts"), folder):
        batch = judged(pictures, [p[:, ::-1].copy() for p in pictures])
        alone = [scorer.score([one]) for one in batch]
        for column, values in scorer.score(batch).items():
            wanted = np.concatenate([found[column] for found in alone])
            np.testing.assert_allclose(values, wanted, rtol=1e-4, atol=1e-6)


def test_distances_are_nothing_to_oneself_and_undefined_without_a_reference(
    folder: Path, pictures: list[Pixels]
) -> None:
    for scorer in open_scorers(("pixels", "features"), folder):
        (same,) = scorer.score(judged(pictures, pictures)).values()
        np.testing.assert_allclose(same, 0, atol=1e-6)
        (none,) = scorer.score(judged(pictures)).values()
        assert np.isnan(none).all()


def test_pixel_distance_is_the_root_mean_square() -> None:
    (scorer,) = open_scorers(("pixels",))
    black, grey = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 51, np.uint8)
    assert scorer.score([Judged("x", grey, black)])["pixels"] == pytest.approx(0.2)
    with pytest.raises(InvalidArgumentError, match="reference"):
        scorer.score([Judged("x", grey, black[:4])])


def test_facts_are_those_of_the_verifier() -> None:
    import random

    (scorer,) = open_scorers(("facts",))
    scenes = [scene_at(5, i) for i in range(12)]
    captions = [caption_of(scene, random.Random(i)) for i, scene in enumerate(scenes)]
    images = (render(scenes, 64) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    right = [Judged(text, image) for (text, _), image in zip(captions, images, strict=True)]
    wrong = [Judged(text, image) for (text, _), image in zip(captions, images[::-1], strict=True)]
    assert scorer.score(right)["all_facts"].mean() == 1
    found = scorer.score(wrong)
    for i, ((text, _), image) in enumerate(zip(captions, images[::-1], strict=True)):
        facts = parse_caption(text)
        assert facts is not None
        assert found["facts"][i] == verify(image, facts).score
    assert found["all_facts"].mean() < 0.5


def test_a_caption_of_another_world_has_no_facts() -> None:
    (scorer,) = open_scorers(("facts",))
    image = np.zeros((64, 64, 3), np.uint8)
    for text in ("a cat on a sofa", "", "红色的圆"):
        assert all(np.isnan(v).all() for v in scorer.score([Judged(text, image)]).values())


def test_unknown_scorers_are_named() -> None:
    with pytest.raises(NotFoundError, match="did you mean 'clip'"):
        open_scorers(("clop",))


def test_versions_tell_weights_apart(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    weights = load_file(other / "model.safetensors")
    weights["visual_projection.weight"] += 1e-3
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    one, two = (open_scorers(("clip",), path)[0].version for path in (folder, other))
    assert one != two


def _no_weights(path: Path) -> None:
    (path / "model.safetensors").rename(path / "pytorch_model.bin")


def _lost_weight(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _other_shape(path: Path) -> None:
    weights = load_file(path / "model.safetensors")
    weights["visual_projection.weight"] = torch.zeros(7, 40)
    save_file(weights, path / "model.safetensors", {"format": "pt"})


def _other_kind(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    config["model_type"] = "siglip"
    (path / "config.json").write_text(json.dumps(config))


def _no_tokenizer(path: Path) -> None:
    for file in path.glob("*token*"):
        file.unlink()
    for file in ("vocab.json", "merges.txt"):
        (path / file).unlink(missing_ok=True)


def _no_processor(path: Path) -> None:
    for file in path.glob("*processor*"):
        file.unlink()


def _few_tokens(path: Path) -> None:
    config = json.loads((path / "config.json").read_text())
    config["text_config"]["vocab_size"] = 50
    (path / "config.json").write_text(json.dumps(config))
    weights = load_file(path / "model.safetensors")
    name = "text_model.embeddings.token_embedding.weight"
    weights[name] = weights[name][:50].clone()
    save_file(weights, path / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (shutil.rmtree, "no such folder"),
        (_no_weights, "no .safetensors file"),
        (_lost_weight, "1 weights are missing, such as visual_projection.weight"),
        (_other_shape, "1 weights are of the wrong shape, such as visual_projection.weight"),
        (_other_kind, "model_type is 'siglip', not 'clip'"),
        (_no_tokenizer, "holds no tokenizer, neither tokenizer.json nor vocab.json"),
        (_no_processor, "image processor"),
        (_few_tokens, "tokens, the model knows 50"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_spoiled_folder_is_refused(
    folder: Path, tmp_path: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    path = tmp_path / "clip"
    shutil.copytree(folder, path)
    spoil(path)
    with pytest.raises(ModelError, match=message) as caught:
        open_scorers(("clip",), path)
    assert str(path) in str(caught.value)
