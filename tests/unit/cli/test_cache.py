"""`argus cache` on real folders, and against a scripted coordinator."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest

from argus.cache.files import FileStore, entry_path
from argus.cache.keys import EntryKey, Partition
from argus.cache.ledger import Ledger, Policy
from argus.cache.state import EntryRecord, State
from argus.clock import MonotonicClock
from argus.v1 import admin_pb2
from tests.unit.cli.running import Here
from tests.unit.client.scripted import STATUS, Scripted

PARTITION = Partition.of(
    variant="v", weights="w", sampler="ddim", steps=10, width=64, height=64, guidance=2.0
)
DAY_S = 86400.0


def add(root: Path, prompt: str, tenant: str = "", age_s: float = 0.0) -> Path:
    """Let a node keep an entry and end; return the entry's file."""
    states = {k: State.of_array(np.full((4, 8, 8), float(k), np.float32)) for k in (2, 5)}
    key = EntryKey.of(PARTITION, prompt)
    ledger = Ledger(2**20, Policy("lru"), float("inf"), MonotonicClock())
    store = FileStore(root, "node-0", ledger)
    assert store.put(EntryRecord(key, 10, tenant, time.time() - age_s, states))
    store.close()
    return entry_path(root / "node-0", key)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "states"
    add(folder, "one", tenant="a")
    add(folder, "two", tenant="a", age_s=3 * DAY_S)
    add(folder, "three", tenant="b", age_s=3 * DAY_S)
    (folder / ".index").mkdir()
    return folder


async def test_stats_tell_nodes_tenants_and_partitions(root: Path, here: Here) -> None:
    (node,) = json.loads((await here("cache", "stats", "--folder", str(root), "--json")).stdout)
    assert (node["node"], node["entries"], node["nbytes"]) == ("node-0", 3, 3 * 2 * 4 * 8 * 8 * 4)
    assert node["by_owner"] == {"a": 2, "b": 1}
    assert node["by_partition"] == {PARTITION.digest: 3}
    assert node["by_k"] == {"2": 3, "5": 3}
    text = (await here("cache", "stats", "--folder", str(root))).stdout.decode()
    assert "node-0: 3 entries, 6 KiB" in text
    assert "a: 2, b: 1" in text


async def test_the_folder_of_the_settings_is_the_default(
    root: Path, here: Here, tmp_path: Path
) -> None:
    file = tmp_path / "argus.toml"
    file.write_text(f'[cache]\nfolder = "{root}"\n')
    done = await here("cache", "stats", "--config", str(file), "--json")
    assert json.loads(done.stdout)[0]["entries"] == 3


async def test_verify_names_what_is_damaged_and_removes_it_when_told(
    root: Path, here: Here
) -> None:
    assert (await here("cache", "verify", "--folder", str(root))).code == 0
    path = entry_path(root / "node-0", EntryKey.of(PARTITION, "one"))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    done = await here("cache", "verify", "--folder", str(root), "--json")
    answer = json.loads(done.stdout)
    assert (done.code, answer["good"]) == (1, 2)
    assert [row["file"] for row in answer["damaged"]] == [str(path)]
    assert path.exists()
    done = await here("cache", "verify", "--folder", str(root), "--remove")
    assert done.code == 0
    assert done.stdout.decode().splitlines()[-1] == "2 good, 1 damaged, removed"
    assert not path.exists()


@pytest.mark.parametrize(
    ("flags", "left"),
    [
        (("--tenant", "a"), {"three"}),
        (("--older-than", "2d"), {"one"}),
        (("--older-than", "2d", "--tenant", "b"), {"one", "two"}),
        (("--partition", PARTITION.digest), set()),
        (("--partition", "0" * 32), {"one", "two", "three"}),
        (("--all",), set()),
    ],
)
async def test_purge_deletes_what_is_selected_and_nothing_else(
    root: Path, here: Here, flags: tuple[str, ...], left: set[str]
) -> None:
    done = await here("cache", "purge", "--folder", str(root), *flags, "--json")
    assert json.loads(done.stdout) == {"purged": 3 - len(left)}
    there = {
        prompt
        for prompt in ("one", "two", "three")
        if entry_path(root / "node-0", EntryKey.of(PARTITION, prompt)).exists()
    }
    assert there == left


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("purge",), "--all"),
        (("purge", "--all", "--tenant", "a"), "--all"),
        (("purge", "--older-than", "yesterday"), "--older-than"),
    ],
)
async def test_purge_refuses_what_is_not_clear(
    root: Path, here: Here, arguments: tuple[str, ...], says: str
) -> None:
    done = await here("cache", *arguments, "--folder", str(root))
    assert done.code == 2
    assert done.stderr.startswith(f"argus: {says}: ")


@pytest.mark.parametrize("command", ["stats", "verify"])
async def test_a_folder_that_is_not_there_is_named(here: Here, command: str) -> None:
    done = await here("cache", command, "--folder", "nowhere")
    assert (done.code, done.stderr) == (2, "argus: --folder: no folder nowhere\n")
    done = await here("cache", command)
    assert done.stderr == "argus: --folder: is needed, since cache.folder is not set\n"


def caching() -> admin_pb2.GetStatusResponse:
    status = admin_pb2.GetStatusResponse()
    status.CopyFrom(STATUS)
    level = {"variant": "base", "steps_fraction": 1.0}
    status.levels.add(name="base-skip", quality=0.9, skip_fraction=0.5, **level)
    status.cache.CopyFrom(admin_pb2.CacheStatus(embedder="e", entries=7))
    return status


async def test_warm_has_each_prompt_drawn_once_and_whole(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    scripted.admin.status = caching()
    (tmp_path / "prompts.txt").write_text("a red circle\n\n  a blue square \na red circle\n")
    done = await here(
        *("cache", "warm", "--prompts", "prompts.txt", "--server", scripted.address),
        *("--tenant", "t", "--steps", "20", "--size", "32x16", "--json"),
    )
    assert json.loads(done.stdout) == {"drawn": 2, "entries_before": 7, "entries": 7}
    asked = {(r.prompt, r.level, r.tenant, r.steps, r.width) for r in scripted.images.received}
    assert asked == {(p, "base", "t", 20, 32) for p in ("a red circle", "a blue square")}
    assert not any(r.HasField("deadline_s") for r in scripted.images.received)


async def test_warm_sends_no_more_at_a_time_than_told(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    scripted.admin.status = caching()
    (tmp_path / "p.txt").write_text("".join(f"prompt {i}\n" for i in range(12)))
    done = await here(
        *("cache", "warm", "--prompts", "p.txt", "--server", scripted.address),
        *("--concurrency", "3"),
    )
    assert done.code == 0
    assert len(scripted.images.received) == 12
    assert scripted.images.most_running <= 3


async def test_warm_says_where_nothing_would_be_kept(
    scripted: Scripted, here: Here, tmp_path: Path
) -> None:
    (tmp_path / "p.txt").write_text("a red circle\n")
    flags = ("cache", "warm", "--server", scripted.address, "--prompts")
    done = await here(*flags, "p.txt")
    assert done.code == 1
    assert "the cache is off" in done.stderr
    scripted.admin.status = caching()
    done = await here(*flags, "p.txt", "--variant", "big")
    assert (done.code, done.stderr.split(":")[1]) == (2, " --variant")
    for name in ("none.txt", "empty.txt"):
        (tmp_path / "empty.txt").write_text("\n")
        done = await here(*flags, name)
        assert done.code == 2
        assert done.stderr.startswith("argus: --prompts: ")
    assert scripted.images.received == []
