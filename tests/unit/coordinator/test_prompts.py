"""What the coordinator knows of a prompt when its level is chosen, and what that changes."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

import argus.coordinator.predictors
import argus.coordinator.service
from argus.config import CacheConfig, CoordinatorConfig
from argus.control.levels import Ladder
from argus.control.predictor import LevelMeans, QualityPredictor
from argus.coordinator.embedder import open_embedder
from argus.coordinator.embedding import Embedding
from argus.coordinator.predictors import load_predictor
from argus.coordinator.prompts import LATE_LOOKS, MOST_AT_A_TIME, PromptReader, Reading
from argus.errors import ConfigError, InvalidArgumentError, ModelError
from argus.types import ImageRequest
from tests.unit.coordinator.bench import BASE
from tests.unit.coordinator.cached import Angles, CachedBench, cached_bench
from tests.unit.coordinator.polling import eventually
from tests.unit.coordinator.predicting import EASY, HARD, LEVELS, fitted, write
from tests.unit.coordinator.scripted import ScriptedNode, coordinated

WAIT_S = 0.05


class Counted(Angles):
    """Notes what it embeds; `hold` makes it wait."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.hold = threading.Event()
        self.hold.set()

    def embed(self, prompts: Sequence[str]) -> NDArray[np.float32]:
        self.seen += prompts
        self.hold.wait(10)
        return super().embed(prompts)


@pytest.fixture
def embedder() -> Iterator[Counted]:
    embedder = Counted()
    yield embedder
    embedder.hold.set()


@pytest_asyncio.fixture
async def embedding(embedder: Counted) -> AsyncIterator[Embedding]:
    embedding = Embedding(lambda: embedder)
    yield embedding
    embedder.hold.set()
    await embedding.close()


async def reader(
    embedding: Embedding, predictor: QualityPredictor, bench: CachedBench | None = None
) -> PromptReader:
    """Return a reader whose embedder is loaded."""
    await embedding.open()
    return PromptReader(predictor, embedding, bench.cached if bench else None, WAIT_S)


async def read(reader: PromptReader, prompt: str = EASY, **fields: Any) -> Reading:
    request = ImageRequest(request_id="r", prompt=prompt, **fields)
    async with asyncio.timeout(5):
        return await reader.read(request, Ladder(LEVELS), {"base": BASE})


async def test_a_choice_sees_the_embedding_and_nothing_else_waits_for_it(
    embedding: Embedding, embedder: Counted
) -> None:
    own = await reader(embedding, fitted())
    plain = await read(own)
    assert (plain.prompt.embedding, embedder.seen) == (None, [])
    for fields in ({"deadline_s": 1.0}, {"min_quality": 0.5}):
        found = await read(own, **fields)
        assert found.prompt.embedding == pytest.approx([1.0, 0.0])
        assert (found.prompt.text, found.prompt.similarity, found.near) == (EASY, None, ())
    assert embedder.seen == [EASY, EASY]


async def test_a_predictor_that_needs_no_vectors_gets_none(
    embedding: Embedding, embedder: Counted
) -> None:
    own = await reader(embedding, LevelMeans())
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None
    assert embedder.seen == []


async def test_vectors_of_another_embedder_are_not_used(embedding: Embedding) -> None:
    own = await reader(embedding, fitted("another"))
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None


async def test_an_embedder_that_hangs_or_fails_costs_the_embedding_and_no_more(
    embedding: Embedding, embedder: Counted
) -> None:
    own = await reader(embedding, fitted())
    embedder.hold.clear()
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None
    embedder.hold.set()
    embedder.broken = True
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None
    embedder.broken = False
    assert (await read(own, deadline_s=1.0)).prompt.embedding is not None


async def test_of_a_crowd_only_so_many_wait_for_their_embeddings(
    embedding: Embedding, embedder: Counted
) -> None:
    own = await reader(embedding, fitted())
    own._wait_s = 5.0
    embedder.hold.clear()
    first = [asyncio.create_task(read(own, deadline_s=1.0)) for _ in range(MOST_AT_A_TIME)]
    await eventually(lambda: bool(embedder.seen))
    late = await read(own, deadline_s=1.0)
    assert (late.prompt.text, late.prompt.embedding, late.near) == (EASY, None, ())
    assert own.unembedded == 1
    embedder.hold.set()
    for found in await asyncio.gather(*first):
        assert found.prompt.embedding == pytest.approx([1.0, 0.0])
    assert (await read(own, deadline_s=1.0)).prompt.embedding is not None


async def test_while_the_loop_is_late_nothing_is_embedded_for_the_predictor_alone(
    monkeypatch: pytest.MonkeyPatch, embedding: Embedding, embedder: Counted
) -> None:
    own = await reader(embedding, fitted())
    for _ in range(LATE_LOOKS - 1):
        own.hear(0.1)
        assert (await read(own, deadline_s=1.0)).prompt.embedding is not None
    embedder.seen.clear()
    own.hear(0.1)
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None
    assert (embedder.seen, own.unembedded) == ([], 1)
    # Nobody refuses it, and its level hangs on what is predicted.
    assert (await read(own, min_quality=0.5)).prompt.embedding is not None
    own.hear(0.001)
    assert (await read(own, deadline_s=1.0)).prompt.embedding is not None
    async with cached_bench(monkeypatch) as bench:
        bench.join_with()
        own = await reader(embedding, fitted(), bench)
        for _ in range(LATE_LOOKS):
            own.hear(0.1)
        embedder.seen.clear()
        request = ImageRequest(request_id="r", prompt=EASY, deadline_s=5.0)
        await own.read(request, bench.catalog.ladder, bench.catalog.variants)
        assert embedder.seen == [EASY]  # the cache saves more than it costs


async def test_the_cache_and_the_predictor_share_one_embedding(
    monkeypatch: pytest.MonkeyPatch, embedding: Embedding, embedder: Counted
) -> None:
    async with cached_bench(monkeypatch) as bench:
        n1 = bench.join_with()
        await bench.cache(n1, HARD)
        own = await reader(embedding, fitted(), bench)
        request = ImageRequest(request_id="r", prompt="a red circle @80", deadline_s=5.0)
        found = await own.read(request, bench.catalog.ladder, bench.catalog.variants)
        assert embedder.seen == ["a red circle @80"]
        assert found.prompt.embedding is not None
        assert found.prompt.similarity == pytest.approx(np.cos(np.radians(10)), abs=1e-3)
        assert [state.similarity for state in found.near] == [found.prompt.similarity]
        # A prompt is near only while somebody can read the state.
        bench.dispatcher.node_lost(n1, "a test")
        found = await own.read(request, bench.catalog.ladder, bench.catalog.variants)
        assert found.prompt.similarity is None


async def test_a_look_up_that_hangs_is_waited_for_once(
    monkeypatch: pytest.MonkeyPatch, embedding: Embedding, embedder: Counted
) -> None:
    async with cached_bench(monkeypatch, look_up_s=WAIT_S) as bench:
        bench.join_with()
        own = await reader(embedding, fitted(), bench)
        embedder.hold.clear()
        request = ImageRequest(request_id="r", prompt=EASY, deadline_s=5.0)
        found = await own.read(request, bench.catalog.ladder, bench.catalog.variants)
        assert (found.prompt.embedding, found.near) == (None, ())
        assert embedder.seen == [EASY]


async def test_the_embedder_is_loaded_for_variants_that_the_predictor_knows(
    embedding: Embedding,
) -> None:
    own = PromptReader(fitted(), embedding, None, WAIT_S)
    own.meet([])
    await asyncio.sleep(0)
    assert embedding.name == ""
    own.meet([BASE])
    await eventually(lambda: embedding.name == "angles")
    await own.stop()


async def test_an_embedder_that_cannot_be_loaded_leaves_predictions_without(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def load() -> Angles:
        raise ModelError("no text encoder here")

    embedding = Embedding(load)
    own = PromptReader(fitted(), embedding, None, WAIT_S)
    own.meet([BASE])
    await eventually(lambda: "no text encoder here" in caplog.text)
    assert (await read(own, deadline_s=1.0)).prompt.embedding is None
    await own.stop()
    await embedding.close()


# -- through the services ------------------------------------------------------------------------


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, embedder: Counted) -> dict[str, str]:
    """Settings of a coordinator that predicts for the levels of `predicting`."""
    rows = [
        {
            "name": level.name,
            "variant": level.variant,
            "steps_fraction": level.steps_fraction,
            "quality": level.quality,
            "measured": "for a test",
        }
        for level in LEVELS
    ]
    levels = tmp_path / "levels.json"
    levels.write_text(json.dumps({"reference": {"variant": "base"}, "levels": rows}))
    monkeypatch.setattr(argus.coordinator.service, "open_embedder", lambda config: embedder)
    return {"levels": str(levels), "predictor": write(tmp_path, fitted())}


async def test_min_quality_and_the_image_event_are_about_this_prompt(
    served: dict[str, str], embedder: Counted
) -> None:
    """Ten steps take 1.1 s alone and five .6: only the second level is done within .8 s."""
    async with coordinated(**served) as cluster, ScriptedNode().joined(cluster.address):
        await eventually(lambda: cluster.coordinator._embedding.name == "angles")
        easy = (await cluster.generate("1", prompt=EASY, deadline_s=0.8, min_quality=0.75))[-1]
        assert (easy.image.level, round(easy.image.predicted_quality, 6)) == ("base-5", 0.9)
        hard = (await cluster.generate("2", prompt=HARD, deadline_s=0.8))[-1]
        assert (hard.image.level, round(hard.image.predicted_quality, 6)) == ("base-5", 0.3)
        # .9 is expected, but .8 is what is held to.
        with pytest.raises(InvalidArgumentError, match=r"0\.85 is out of reach.*0\.8"):
            await cluster.generate("3", prompt=EASY, level="base-5", min_quality=0.85)
        whole = (await cluster.generate("4", prompt=HARD))[-1]
        assert (whole.image.level, whole.image.predicted_quality) == ("base-10", 1.0)
        strange = (await cluster.generate("5", prompt="un gato @45", deadline_s=0.8))[-1]
        assert round(strange.image.predicted_quality, 6) == 0.2
        assert embedder.seen == [EASY, HARD, EASY, "un gato @45"]


# -- from files ----------------------------------------------------------------------------------


def test_without_a_predictor_the_means_are_what_is_expected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(argus.coordinator.predictors, "bundled_dir", lambda: tmp_path)
    assert isinstance(load_predictor(CoordinatorConfig()), LevelMeans)
    (tmp_path / "predictor").mkdir()
    write(tmp_path / "predictor", fitted())
    assert load_predictor(CoordinatorConfig()).variants == {"base"}


def test_a_folder_that_holds_none_is_refused_with_the_setting(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="coordinator.predictor: cannot read"):
        load_predictor(CoordinatorConfig(predictor=str(tmp_path)))
    write(tmp_path, fitted())
    (tmp_path / "predictor.safetensors").write_bytes(b"spoiled")
    with pytest.raises(ConfigError, match="coordinator.predictor: .*predictor.safetensors: not a"):
        load_predictor(CoordinatorConfig(predictor=str(tmp_path)))


def test_prompts_are_embedded_by_one_thread() -> None:
    """Two that wait for each other on a busy machine made every request wait half a second."""
    import torch

    found: list[int] = []
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        open_embedder(CacheConfig())
        embedding = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        embedding.start()
        embedding.join()
    finally:
        torch.set_num_threads(before)
    assert found == [1]
