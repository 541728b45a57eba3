"""Sets of prompts are read as they are written, and split without leaks."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from argus.errors import ConfigError
from argus.quality.domain import draw_domain
from argus.quality.prompts import Prompt, prompt_id, read_prompts, write_prompts
from argus.quality.split import Shares, split_prompts


def test_text_files_have_a_prompt_a_line(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a red circle\n\n  a blue ring  \n", encoding="utf-8")
    found = read_prompts(file)
    assert [p.text for p in found] == ["a red circle", "a blue ring"]
    assert [p.id for p in found] == [prompt_id("a red circle"), prompt_id("a blue ring")]


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    prompts = draw_domain(12, 4).prompts
    write_prompts(tmp_path / "p.csv", prompts)
    assert read_prompts(tmp_path / "p.csv") == prompts


def test_parquet_files_are_read_by_column(tmp_path: Path) -> None:
    table = pyarrow.table({"kind": ["x", None], "prompt": ["one", "two"], "more": [1, 2]})
    pyarrow.parquet.write_table(table, tmp_path / "p.parquet")
    assert [(p.text, p.kind) for p in read_prompts(tmp_path / "p.parquet")] == [
        ("one", "x"),
        ("two", ""),
    ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.json", "{}", "must end in .txt, .csv, .parquet"),
        ("p.txt", "\n \n", "holds no prompt"),
        ("p.txt", "a\nA\n", "line 2: prompt_id: .* is that of line 1"),
        ("p.txt", "x" * 4001, "line 1: prompt: 4,001 characters"),
        ("p.csv", "text\nhello\n", "has no column prompt, only text"),
        ("p.csv", "prompt,split\nhello,dev\n", "line 2: split: .* not 'dev'"),
        ("p.csv", "prompt,kind\n ,x\n", "line 2: prompt: is empty"),
        ("p.parquet", "no", "not a Parquet file"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        read_prompts(tmp_path / name)


def test_the_bundled_domain_keeps_its_neighbours_apart() -> None:
    domain = draw_domain(60, 40)
    asked = {p.text.casefold() for p in domain.prompts}
    assert len(asked) == 60
    assert len({p.text for p in domain.neighbours} - asked) == 40
    assert {p.split for p in domain.prompts} == {"train", "calibration", "test"}
    assert {p.kind for p in domain.prompts} == {"1 object", "2 objects", "3 objects"}


@settings(max_examples=50, deadline=None)
@given(
    groups=st.lists(st.integers(0, 6), min_size=1, max_size=30),
    seed=st.integers(0, 99),
    near=st.floats(0.5, 0.99),
)
def test_nothing_in_one_split_gives_away_another(groups: list[int], seed: int, near: float) -> None:
    prompts = [Prompt(str(i), f"prompt {i}", group=f"g{g}") for i, g in enumerate(groups)]
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(len(prompts), 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = split_prompts(prompts, Shares(), seed, vectors, near)
    assert [p.text for p in found] == [p.text for p in prompts]
    for a, b in combinations(range(len(prompts)), 2):
        if prompts[a].group == prompts[b].group or vectors[a] @ vectors[b] > near:
            assert found[a].split == found[b].split


def test_splits_have_their_shares_in_every_kind() -> None:
    prompts = [Prompt(str(i), f"p{i}", kind=f"k{i % 3}") for i in range(300)]
    found = split_prompts(prompts, Shares(0.5, 0.2, 0.3), seed=1)
    for kind in ("k0", "k1", "k2"):
        own = [p.split for p in found if p.kind == kind]
        assert abs(own.count("train") - 50) <= 1
        assert abs(own.count("calibration") - 20) <= 1
        assert abs(own.count("test") - 30) <= 1
