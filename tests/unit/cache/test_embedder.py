from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from argus.cache.embedder import MicroBatchingEmbedder
from argus.cache.embedders import ClipTextEmbedder, MeanPoolingEmbedder
from argus.errors import InternalError, ModelError, OverloadedError, UnavailableError
from argus.models import bundled_dir, bundled_variants
from argus.models.captions import facts_of, write_caption
from argus.models.scenes import scene_at


class Lengths:
    """Embeds a prompt by its length, in batches that can be held up."""

    name = "lengths"
    dimension = 2

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        self.batches.append(list(prompts))
        self.entered.release()
        self.open.wait()
        if "bad" in prompts:
            raise ValueError("no such word")
        return np.array([[len(prompt), 0.0] for prompt in prompts], dtype=np.float32)


async def entered(model: Lengths) -> None:
    await asyncio.to_thread(model.entered.acquire)


async def test_what_comes_while_the_model_works_shares_the_next_forward() -> None:
    model = Lengths()
    batching = MicroBatchingEmbedder(model, max_batch=3)
    first = asyncio.create_task(batching.embed("1"))
    await entered(model)
    others = [asyncio.create_task(batching.embed("x" * n)) for n in range(2, 7)]
    await asyncio.sleep(0)
    model.open.set()
    assert (await first)[0] == 1
    assert [vector[0] for vector in await asyncio.gather(*others)] == [2, 3, 4, 5, 6]
    assert [len(batch) for batch in model.batches] == [1, 3, 2]
    await batching.close()


async def test_a_full_queue_refuses_and_a_caller_that_left_costs_nothing() -> None:
    model = Lengths()
    batching = MicroBatchingEmbedder(model, max_waiting=2)
    first = asyncio.create_task(batching.embed("1"))
    await entered(model)
    left, stays = (asyncio.create_task(batching.embed(p)) for p in ("left", "stays"))
    await asyncio.sleep(0)
    with pytest.raises(OverloadedError):
        await batching.embed("refused")
    left.cancel()
    model.open.set()
    assert (await stays)[0] == 5
    await first
    assert model.batches == [["1"], ["stays"]]
    await batching.close()


async def test_a_failed_batch_reaches_its_callers_and_the_next_one_works() -> None:
    model = Lengths()
    model.open.set()
    batching = MicroBatchingEmbedder(model)
    with pytest.raises(InternalError, match="no such word"):
        await batching.embed("bad")
    assert (await batching.embed("good"))[0] == 4
    await batching.close()
    with pytest.raises(UnavailableError):
        await batching.embed("late")


async def test_closing_answers_what_waits() -> None:
    model = Lengths()
    batching = MicroBatchingEmbedder(model)
    waiting = [asyncio.create_task(batching.embed("x" * n)) for n in range(1, 4)]
    await asyncio.sleep(0)
    closing = asyncio.create_task(batching.close())
    model.open.set()
    assert [vector[0] for vector in await asyncio.gather(*waiting)] == [1, 2, 3]
    await closing


@pytest.fixture(scope="module")
def bundled() -> ClipTextEmbedder:
    import torch

    torch.set_num_threads(1)
    return ClipTextEmbedder(bundled_variants()["scenes-base"] / "text_encoder")


def test_the_bundled_encoder_gives_transformers_pooled_vectors(bundled: ClipTextEmbedder) -> None:
    import torch
    from transformers import AutoTokenizer, CLIPTextModel

    folder = bundled_variants()["scenes-base"]
    prompts = ["a red circle", "a small blue square left of a green ring on a white background"]
    model = CLIPTextModel.from_pretrained(folder / "text_encoder", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    with torch.inference_mode():
        pooled = [
            model(**tokenizer([p], return_tensors="pt")).pooler_output[0].numpy() for p in prompts
        ]
    vectors = bundled.embed(prompts)
    assert vectors.shape == (2, bundled.dimension)
    assert vectors.dtype == np.float32
    for vector, expected in zip(vectors, pooled, strict=True):
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-5)


def test_the_bundled_encoder_puts_the_same_scene_in_other_words_nearest(
    bundled: ClipTextEmbedder,
) -> None:
    rng = random.Random(5)
    facts = [facts_of(scene_at(5, i), rng, full=True) for i in range(100)]
    captions = [write_caption(fact, rng) for fact in facts]
    other_words = [write_caption(fact, rng) for fact in facts]
    cosines = bundled.embed(other_words) @ bundled.embed(captions).T
    same = np.diag(cosines)
    nearest = np.argmax(cosines, axis=1) == np.arange(100)
    others = cosines[~np.eye(100, dtype=bool)]
    assert nearest.mean() >= 0.9
    assert np.median(same) > np.quantile(others, 0.99)


def test_a_projection_is_used_where_there_is_one(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, CLIPTextConfig, CLIPTextModelWithProjection

    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(bundled_variants()["scenes-base"] / "tokenizer")
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, projection_dim=8, max_position_embeddings=32,
        eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    model = CLIPTextModelWithProjection(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embedder = ClipTextEmbedder(tmp_path)
    assert embedder.dimension == 8
    assert embedder.name.startswith("clip-text_embeds@")
    with torch.inference_mode():
        expected = model(**tokenizer(["a red circle"], return_tensors="pt")).text_embeds[0]
    expected = expected / expected.norm()
    np.testing.assert_allclose(embedder.embed(["a red circle"])[0], expected.numpy(), atol=1e-5)


def test_mean_pooling_ignores_padding(tmp_path: Path) -> None:
    import torch
    from transformers import AutoTokenizer, BertConfig, BertModel

    torch.manual_seed(2)
    tokenizer = AutoTokenizer.from_pretrained(bundled_variants()["scenes-base"] / "tokenizer")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64,
    )  # fmt: skip
    model = BertModel(config).eval()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    embedder = MeanPoolingEmbedder(tmp_path)
    prompts = ["a red circle", "a small blue square left of a large green ring"]
    together = embedder.embed(prompts)
    for prompt, vector in zip(prompts, together, strict=True):
        with torch.inference_mode():
            tokens = tokenizer([prompt], return_tensors="pt")
            states = model(tokens["input_ids"], tokens["attention_mask"]).last_hidden_state[0]
        mean = states.mean(dim=0)
        np.testing.assert_allclose(vector, (mean / mean.norm()).numpy(), atol=1e-5)


def test_other_weights_are_another_embedder(bundled: ClipTextEmbedder) -> None:
    small = ClipTextEmbedder(bundled_variants()["scenes-small"] / "text_encoder")
    same = (bundled_variants()["scenes-small"] / "text_encoder/model.safetensors").read_bytes() == (
        bundled_variants()["scenes-base"] / "text_encoder/model.safetensors"
    ).read_bytes()
    assert (small.name == bundled.name) is same


def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no .safetensors"):
        ClipTextEmbedder(tmp_path)
    with pytest.raises(ModelError, match="no .safetensors"):
        MeanPoolingEmbedder(bundled_dir() / "scenes-base" / "tokenizer")
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(ModelError):
        ClipTextEmbedder(tmp_path)
