"""The process that scores pictures."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from argus.coordinator.judge import COMMAND, Judge
from argus.errors import InternalError, UnavailableError
from argus.models.captions import parse_caption
from argus.models.verifier import verify
from tests.unit.coordinator.polling import eventually

PROMPT = "a large red circle on a white background"


def disc(colour: tuple[int, int, int]) -> np.ndarray:
    y, x = np.mgrid[:64, :64]
    picture = np.full((64, 64, 3), 245, dtype=np.uint8)
    picture[(x - 32) ** 2 + (y - 32) ** 2 < 18**2] = colour
    return picture


RED, BLUE = disc((220, 40, 40)), disc((40, 70, 220))


def encoded(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
async def judge() -> AsyncIterator[Judge]:
    judge = Judge("facts")
    yield judge
    await judge.close()


def children() -> list[psutil.Process]:
    found = psutil.Process().children()
    return [child for child in found if "argus.quality.judge" in child.cmdline()]


async def test_a_pair_is_scored_as_by_the_scorer_itself_and_the_next_one_after_a_mishap(
    judge: Judge,
) -> None:
    facts = parse_caption(PROMPT)
    assert facts is not None
    expected = {name: verify(p, facts).score for name, p in (("red", RED), ("blue", BLUE))}
    assert expected["blue"] < expected["red"]
    with pytest.raises(InternalError, match="not scored"):
        await judge.score(PROMPT, b"no picture", encoded(RED))
    scores = await judge.score(PROMPT, encoded(BLUE), encoded(RED))
    assert scores.made["facts"] == pytest.approx(expected["blue"])
    assert scores.reference["facts"] == pytest.approx(expected["red"])
    other = await judge.score("der Turm zu Babel\n", encoded(BLUE), encoded(RED))
    assert other.made["facts"] is None

    (process,) = children()
    assert process.pid == judge.pid
    process.kill()
    await eventually(lambda: judge.pid is None)
    await judge.open()
    assert [child.pid for child in children()] == [judge.pid]
    await judge.close()
    await eventually(lambda: not children())


async def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    judge = Judge("clip", str(tmp_path))
    with pytest.raises(UnavailableError, match=str(tmp_path)):
        await judge.open()
    assert not children()


async def test_the_process_ends_with_its_stdin() -> None:
    process = await asyncio.create_subprocess_exec(
        *COMMAND, "--scorer", "facts", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.close()
    await process.communicate()
    assert process.returncode == 0
