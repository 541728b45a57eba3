"""A node's cache on a real folder: what it fetches, keeps, and says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from local_postgres import LocalPostgres

import argus.node.cache
from argus.cache.files import entry_path
from argus.cache.keys import EntryKey, Partition
from argus.clock import ManualClock
from argus.config import CacheConfig
from argus.errors import ConfigError
from argus.node.cache import NodeCache
from argus.v1 import cluster_pb2

PARTITION = Partition.of(
    variant="v", weights="w", sampler="ddim", steps=10, width=64, height=64, guidance=2.0
)
LATENTS = {k: torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (2, 5)}
PATIENCE_S = 10.0


def key(prompt: str) -> EntryKey:
    return EntryKey.of(PARTITION, prompt)


class Listener:
    """Keeps reports, and waits for one."""

    def __init__(self) -> None:
        self.reports: list[cluster_pb2.CacheReport] = []
        self._changed = threading.Condition()

    def __call__(self, report: cluster_pb2.CacheReport) -> None:
        with self._changed:
            self.reports.append(report)
            self._changed.notify_all()

    def until(self, holds: Callable[[cluster_pb2.CacheReport], Any]) -> cluster_pb2.CacheReport:
        def found() -> list[cluster_pb2.CacheReport]:
            return [report for report in self.reports if holds(report)]

        with self._changed:
            assert self._changed.wait_for(found, PATIENCE_S), self.reports
            return found()[0]


@contextmanager
def opened(
    folder: Path | None, node: str = "n1", half: bool = False, **settings: Any
) -> Iterator[tuple[NodeCache, Listener]]:
    config = CacheConfig(folder=str(folder) if folder else "", **settings)
    cache, listener = NodeCache(config, node, half=half), Listener()
    cache.listen(listener)
    try:
        yield cache, listener
    finally:
        cache.close()


def kept(cache: NodeCache, prompt: str = "a red circle") -> str:
    text = str(key(prompt))
    cache.keep(text, "tenant", 10, LATENTS)
    assert cache.flush(PATIENCE_S)
    return text


@pytest.mark.parametrize("with_folder", [True, False])
def test_what_is_kept_is_reported_and_comes_back_bit_for_bit(
    tmp_path: Path, with_folder: bool
) -> None:
    with opened(tmp_path if with_folder else None) as (cache, listener):
        text = kept(cache)
        report = listener.until(lambda r: r.held)
        assert not report.complete
        assert [(e.key, list(e.steps), e.shared) for e in report.held] == [(text, [2, 5], False)]
        for k, latents in LATENTS.items():
            fetch = cache.fetch(text, k)
            found = fetch.latents.result(PATIENCE_S)
            assert found is not None
            assert torch.equal(found, latents)
            assert fetch.found is not None
            assert fetch.found.tier == "memory"


def test_half_precision_is_kept_where_models_compute_in_it(tmp_path: Path) -> None:
    with opened(tmp_path, half=True) as (cache, _):
        found = cache.fetch(kept(cache), 5).latents.result(PATIENCE_S)
        assert found is not None
        assert found.dtype == torch.float16
        assert np.array_equal(found.numpy(), LATENTS[5].numpy().astype(np.float16))


def test_a_node_that_listens_anew_says_everything_it_has(tmp_path: Path) -> None:
    with opened(tmp_path) as (cache, _):
        text = kept(cache)
    with opened(tmp_path) as (cache, listener):
        (report,) = listener.reports
        assert report.complete
        assert [(e.key, list(e.steps)) for e in report.held] == [(text, [2, 5])]
        fetch = cache.fetch(text, 2)
        assert fetch.latents.result(PATIENCE_S) is not None
        assert fetch.found is not None
        assert fetch.found.tier == "local"


def test_a_long_account_comes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(argus.node.cache, "REPORTED_AT_ONCE", 2)
    with opened(tmp_path) as (cache, _):
        texts = {kept(cache, f"prompt {i}") for i in range(5)}
        again = Listener()
        cache.listen(again)
    assert [len(r.held) for r in again.reports] == [2, 2, 1]
    assert [r.more for r in again.reports] == [True, True, False]
    assert all(r.complete for r in again.reports)
    assert {e.key for r in again.reports for e in r.held} == texts


def test_what_no_tier_has_is_a_miss_and_said_to_be_unreadable(tmp_path: Path) -> None:
    with opened(tmp_path) as (cache, listener):
        text = str(key("never kept"))
        assert cache.fetch(text, 5).latents.result(PATIENCE_S) is None
        listener.until(lambda r: list(r.unreadable) == [text])
        other_k = kept(cache)
        assert cache.fetch(other_k, 3).latents.result(PATIENCE_S) is None


@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_file_that_was_harmed_is_a_miss_and_said_to_be_gone(tmp_path: Path, harm: str) -> None:
    with opened(tmp_path) as (cache, _):
        text = kept(cache)
    path = entry_path(tmp_path / "n1", EntryKey.parse(text))
    with opened(tmp_path) as (cache, listener):
        content = bytearray(path.read_bytes())
        content[-3] ^= 0x40
        if harm == "delete":
            path.unlink()
        else:
            path.write_bytes(bytes(content) if harm == "flip" else bytes(content[:-8]))
        assert cache.fetch(text, 5).latents.result(PATIENCE_S) is None
        listener.until(lambda r: list(r.gone) == [text])


def test_a_key_that_is_none_fails_the_fetch_and_nothing_else(tmp_path: Path) -> None:
    with opened(tmp_path) as (cache, _):
        assert cache.fetch("no key", 5).latents.exception(PATIENCE_S) is not None
        cache.keep("no key", "", 10, LATENTS)
        assert cache.fetch(kept(cache), 5).latents.result(PATIENCE_S) is not None


def test_nodes_of_a_machine_read_each_others_folders(tmp_path: Path) -> None:
    with opened(tmp_path, "n1") as (first, _), opened(tmp_path, "n2") as (second, _):
        assert first.group == second.group != ""
        fetch = second.fetch(kept(first), 5)
        found = fetch.latents.result(PATIENCE_S)
        assert found is not None
        assert torch.equal(found, LATENTS[5])
        assert fetch.found is not None
        assert fetch.found.tier == "sibling"


def test_nodes_without_a_folder_are_alone() -> None:
    with opened(None, "n1") as (first, _), opened(None, "n2") as (second, _):
        assert first.group == second.group == ""
        assert second.fetch(kept(first), 5).latents.result(PATIENCE_S) is None


def test_what_makes_room_is_said_to_be_gone(tmp_path: Path) -> None:
    entry_bytes = sum(x.numel() * 4 for x in LATENTS.values())
    with opened(tmp_path, disk_bytes=entry_bytes, policy="fifo") as (cache, listener):
        first, second = kept(cache, "first"), kept(cache, "second")
        report = listener.until(lambda r: r.gone)
        assert list(report.gone) == [first]
        assert not entry_path(tmp_path / "n1", EntryKey.parse(first)).exists()
        assert cache.fetch(second, 5).latents.result(PATIENCE_S) is not None


def test_nodes_of_two_machines_share_what_the_server_has(tmp_path: Path) -> None:
    postgres = LocalPostgres()
    try:
        with (
            opened(tmp_path / "here", "n1", server=postgres.dsn) as (first, listener),
            opened(tmp_path / "there", "n2", server=postgres.dsn) as (second, _),
        ):
            assert first.group != second.group
            text = kept(first)
            report = listener.until(lambda r: len(r.held) == 2)
            assert [e.shared for e in report.held] == [False, True]
            fetch = second.fetch(text, 5)
            found = fetch.latents.result(PATIENCE_S)
            assert found is not None
            assert torch.equal(found, LATENTS[5])
            assert fetch.found is not None
            assert fetch.found.tier == "server"
            postgres.stop()
            assert second.fetch(text, 2).latents.result(PATIENCE_S) is None
            assert second.fetch(text, 5).latents.result(PATIENCE_S) is not None
    finally:
        postgres.close()


def test_a_folder_that_cannot_be_used_is_the_operators_mistake(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"cache\.folder"):
        NodeCache(CacheConfig(folder=str(tmp_path / "file")), "n1", half=False)
    with opened(tmp_path, "n1"), pytest.raises(ConfigError, match=r"cache\.folder"):
        NodeCache(CacheConfig(folder=str(tmp_path)), "n1", half=False)


def test_entries_whose_time_is_over_go_when_others_come(tmp_path: Path) -> None:
    clock = ManualClock()
    config = CacheConfig(folder=str(tmp_path), ttl_s=100.0)
    cache, listener = NodeCache(config, "n1", half=False, clock=clock), Listener()
    cache.listen(listener)
    try:
        old = kept(cache, "old")
        listener.until(lambda report: old in [entry.key for entry in report.held])
        clock.advance(200.0)
        kept(cache, "new")
        listener.until(lambda report: old in report.gone)
    finally:
        cache.close()


def test_every_tier_says_what_it_holds_and_did(tmp_path: Path) -> None:
    with opened(tmp_path) as (cache, listener):
        text = kept(cache)
        listener.until(lambda report: text in [entry.key for entry in report.held])
        assert cache.fetch(text, 5).latents.result(PATIENCE_S) is not None
        assert cache.fetch(str(key("unknown")), 5).latents.result(PATIENCE_S) is None
        tiers = {tier.tier: tier for tier in cache.tiers()}
    nbytes = sum(latents.nbytes for latents in LATENTS.values())
    for name in ("memory", "local"):
        assert (tiers[name].entries, tiers[name].bytes_used) == (1, nbytes)
        assert tiers[name].writes == 1
        assert tiers[name].bytes_budget > nbytes
    assert (tiers["memory"].hits, tiers["memory"].misses) == (1, 1)
    assert tiers["sibling"].misses == 1
