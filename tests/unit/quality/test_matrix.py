"""The score matrix keeps what it is given, and its ratios are those of the definition."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from argus.errors import ConfigError
from argus.quality.matrix import META, ScoreMatrix
from argus.quality.summary import seed_noise, summarise
from tests.unit.quality.build import LEVELS, matrix

SCORES = np.array(
    [
        [[1.0, 0.5, 0.9], [0.8, 0.8, 0.4]],
        [[0.5, 0.75, 0.5], [0.0, 0.2, 0.1]],
    ]
)


def test_a_matrix_survives_its_file(tmp_path: Path) -> None:
    written = matrix(SCORES, similarity=[0.25, math.nan])
    written.write(tmp_path / "m.parquet")
    read = ScoreMatrix.read(tmp_path / "m.parquet")
    assert read.header == written.header
    assert read.rows.texts == written.rows.texts
    assert read.rows.wholes == written.rows.wholes
    np.testing.assert_array_equal(read.rows.similarity, written.rows.similarity)
    np.testing.assert_array_equal(read.scores(), SCORES)
    assert read.fingerprint() == written.fingerprint()


def test_another_score_is_another_fingerprint() -> None:
    other = SCORES.copy()
    other[0, 0, 0] += 1e-9
    assert matrix(SCORES).fingerprint() != matrix(other).fingerprint()


def test_relative_quality_is_clipped_nowhere_and_undefined_without_a_reference() -> None:
    relative = matrix(SCORES).relative()
    np.testing.assert_allclose(relative[0], [[1, 0.5, 0.9], [1, 1, 0.5]])
    np.testing.assert_allclose(relative[1, 0], [1, 1.5, 1])
    assert np.isnan(relative[1, 1]).all()


def test_a_picture_whose_state_was_missing_is_not_of_its_level() -> None:
    scores = matrix(SCORES, missed=frozenset({(0, 2)})).scores()
    assert np.isnan(scores[0, :, 2]).all()
    assert scores[1, 0, 2] == 0.5


def test_a_summary_says_what_can_be_computed_by_hand() -> None:
    whole, half, skip = summarise(matrix(SCORES, missed=frozenset({(0, 2)})), [4.0, 2.0, 2.5])
    assert (whole.quality, whole.verdict, whole.unharmed) == (1.0, "the reference", 1.0)
    # Prompt 0: mean of .5 and 1; prompt 1: 1.5 alone, as the other reference scored 0.
    assert half.quality == pytest.approx((0.75 + 1.5) / 2)
    assert half.undefined == 1
    assert half.unharmed == 0.75
    assert (skip.missed, skip.pictures) == (2, 2)
    assert half.efficient
    assert not skip.efficient  # half is better and costs less


def test_differences_within_the_noise_are_called_so() -> None:
    rng = np.random.default_rng(0)
    base = rng.uniform(0.5, 1, (60, 1))
    scores = np.stack([base, base + rng.normal(0, 0.05, (60, 1)), base - 0.2], axis=2)
    levels = summarise(matrix(scores))
    assert levels[1].verdict == "no difference beyond the noise of the seeds"
    assert levels[2].verdict == "worse"
    assert levels[2].high < 1


def test_seed_noise_is_the_spread_over_repeats() -> None:
    rng = np.random.default_rng(1)
    means = rng.normal(0.7, 0.1, (400, 1, 1))
    noise = seed_noise(matrix(means + rng.normal(0, 0.05, (400, 3, 3))))
    assert noise is not None
    assert noise.within == pytest.approx(0.05, rel=0.1)
    assert noise.between == pytest.approx(math.hypot(0.1, 0.05 / 3**0.5), rel=0.1)
    assert seed_noise(matrix(SCORES[:, :1])) is None


def _spoil(file: Path, metadata: bytes | None, drop: str = "") -> None:
    matrix(SCORES).write(file)
    table = pyarrow.parquet.read_table(file)
    if drop:
        table = table.drop_columns([drop])
    if metadata is not None:
        table = table.replace_schema_metadata({META: metadata} if metadata else {})
    pyarrow.parquet.write_table(table, file)


@pytest.mark.parametrize(
    ("metadata", "drop", "message"),
    [
        (b"", "", "no argus metadata"),
        (b"{", "", "metadata: not JSON"),
        (b'{"schema": 2}', "", "schema: 1 is read here, not 2"),
        (None, "seed", "no column seed"),
        (None, "facts", "no column facts"),
    ],
)
def test_a_spoiled_file_is_refused(
    tmp_path: Path, metadata: bytes | None, drop: str, message: str
) -> None:
    _spoil(tmp_path / "m.parquet", metadata, drop)
    with pytest.raises(ConfigError, match=message):
        ScoreMatrix.read(tmp_path / "m.parquet")


def test_levels_keep_their_order() -> None:
    assert matrix(SCORES).levels == LEVELS
