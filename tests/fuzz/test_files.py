"""Files that people, or a broken disk, put before us: read whole, or refused with their name."""

from __future__ import annotations

import json
import re
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import argus.models
from argus.auth.key_file import format_keys, parse_keys
from argus.auth.keys import KeyRing, Role, new_key
from argus.cache.codec import HEAD_BYTES, CorruptStateError, decode, decode_header, encode
from argus.cache.index import EmbedderId
from argus.cache.index_files import IndexFolder
from argus.cache.keys import EntryKey, Partition
from argus.cache.state import EntryRecord, State
from argus.config import load_config
from argus.control.levels import parse_profile
from argus.control.profile import CostProfile
from argus.control.tenants import parse_tenants
from argus.diffusion.folder import own_defaults, pipeline_class
from argus.errors import ArgusError, ConfigError, ModelError
from tests.fuzz.spoiled import DEEP, JSON, UNHURRIED, bytes_near, json_near, refusal, text_near

CONFIG = """
[coordinator]
bind = "0.0.0.0:7420"
lease_s = 3.0
[node]
models = ["/a", "/b"]
slots = 32
graphs = true
[tls]
certificate = "a"
key = "b"
[log]
level = "info"
"""
TENANTS = """
[default]
rate_per_s = 5
[tenants.acme]
weight = 2
burst = 7
concurrency = 3
"""
LEVELS = json.loads((argus.models.bundled_dir() / "levels.json").read_text())
COSTS = {
    "schema": 1,
    "circumstances": {
        "date": "d", "command": "c", "device": "cpu", "device_name": "n", "memory_bytes": 1,
        "threads": 1, "dtype": "float32", "system": "s", "bytes_measured": "no",
        "versions": {"torch": "2"},
    },
    "variants": [
        {
            "name": "base", "pipeline": "P", "load_s": 1.0, "weights_bytes": None,
            "text_encode_s": 0.1, "exact": True,
            "sizes": [
                {
                    "width": 64, "height": 64,
                    "steps": {"lanes": [1, 2], "seconds": [0.1, 0.2]},
                    "step_peak_bytes": [None, 5], "decode_s": 0.1, "decode_peak_bytes": None,
                    "compress_s": {"png": 0.1},
                    "state": {"state_bytes": 9, "to_host_s": 0.1, "to_device_s": 0.1},
                }
            ],
        }
    ],
}  # fmt: skip
KEYS = format_keys(
    KeyRing([new_key([Role.CLIENT], 5.0, "acme").record, new_key([Role.NODE], 6.0).record])
)


def written(data: bytes, name: str = "file") -> Path:
    """Return a file of these bytes, alone in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="argus-fuzz-"))
    (folder / name).write_bytes(data)
    return folder / name


def dumped(value: Any) -> str:
    return json.dumps(value)


# -- settings ------------------------------------------------------------------------------------


def read_config(data: bytes) -> None:
    file = written(data)
    try:
        refusal(ConfigError, load_config, file, {})
    finally:
        file.unlink()
        file.parent.rmdir()


@UNHURRIED
@given(bytes_near(CONFIG.encode()))
@example(b"a = " + DEEP.encode())
def test_a_config_file_is_read_or_refused(data: bytes) -> None:
    read_config(data)


@UNHURRIED
@given(st.dictionaries(st.text(max_size=10), JSON, max_size=3))
def test_variables_of_the_environment_are_read_or_refused(values: dict[str, Any]) -> None:
    environment = {f"ARGUS_{name.upper()}": str(value) for name, value in values.items()}
    known = ("NODE_SLOTS", "COORDINATOR_LEASE_S", "NODE_GRAPHS", "NODE_MODELS")
    for name, value in zip(known, values.values(), strict=False):
        environment[f"ARGUS_{name}"] = str(value)
    error = refusal(ConfigError, load_config, None, environment)
    assert error is None or re.search(r"environment|ARGUS_|[a-z]\.[a-z]", str(error))


@UNHURRIED
@given(text_near(TENANTS))
@example("a = " + DEEP)
def test_a_file_of_tenants_is_read_or_refused(text: str) -> None:
    error = refusal(ConfigError, parse_tenants, text, "t.toml")
    if error is None:
        assert parse_tenants(text, "t.toml").terms("acme").weight > 0
    else:
        assert str(error).startswith("t.toml: ")


@UNHURRIED
@given(text_near(KEYS))
@example(DEEP)
def test_a_file_of_keys_is_read_or_refused_without_a_word_of_it(text: str) -> None:
    error = refusal(ConfigError, parse_keys, text, "keys")
    if error is None:
        ring = parse_keys(text, "keys")
        assert parse_keys(format_keys(ring), "keys").records == ring.records
        return
    assert str(error).startswith("keys: line ")
    assert not any(record.sha256 in str(error) for record in parse_keys(KEYS, "keys").records)


@UNHURRIED
@given(json_near(LEVELS).map(dumped) | text_near(dumped(LEVELS)))
@example(DEEP)
def test_a_level_file_is_read_or_refused(text: str) -> None:
    error = refusal(ConfigError, parse_profile, text, "levels")
    assert error is None or str(error).startswith("levels")


@UNHURRIED
@given(json_near(COSTS).map(dumped) | text_near(dumped(COSTS)))
@example(DEEP)
def test_a_cost_profile_is_read_or_refused(text: str) -> None:
    error = refusal(ConfigError, CostProfile.from_json, text, "costs")
    if error is None:
        profile = CostProfile.from_json(text, "costs")
        assert CostProfile.from_json(profile.to_json(), "costs") == profile
    else:
        assert str(error).startswith("costs")


# -- model folders -------------------------------------------------------------------------------

INDEX = {"_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.42.0"}
OWN = {"default_steps": 20, "default_guidance": 5.0}


@pytest.mark.parametrize(
    ("name", "good", "read"),
    [("model_index.json", INDEX, pipeline_class), ("argus.json", OWN, own_defaults)],
)
@UNHURRIED
@given(data=st.data())
def test_what_a_model_folder_says_of_itself_is_read_or_refused(
    name: str, good: Any, read: Any, data: st.DataObject
) -> None:
    raw = data.draw(
        json_near(good).map(lambda value: dumped(value).encode())
        | bytes_near(dumped(good).encode())
        | st.just(DEEP.encode())
    )
    file = written(raw, name)
    try:
        error = refusal(ModelError, read, file.parent)
        assert error is None or str(file.parent) in str(error)
    finally:
        file.unlink()
        file.parent.rmdir()


# -- cached states -------------------------------------------------------------------------------

PARTITION = Partition.of(
    variant="v", weights="w", sampler="ddim", steps=10, width=64, height=64, guidance=2.0
)
STATES = {k: State.of_array(np.full((4, 8, 8), float(k), np.float32)) for k in (2, 5)}
RECORD = EntryRecord(EntryKey.of(PARTITION, "a prompt"), 10, "acme", 1000.0, STATES)
ENTRY = b"".join(bytes(piece) for piece in encode(RECORD))
_LENGTH = struct.unpack_from("<8sII", ENTRY)[1]
HEADER = json.loads(ENTRY[16 : 16 + _LENGTH])


@UNHURRIED
@given(bytes_near(ENTRY))
def test_a_file_of_states_is_what_was_written_or_is_corrupt(data: bytes) -> None:
    try:
        record = decode(memoryview(data))
    except CorruptStateError:
        return
    # Of the bytes between states, which hold nothing, no checksum is kept.
    assert len(data) == len(ENTRY)
    assert record == RECORD


@UNHURRIED
@given(json_near(HEADER), st.integers(0, 4096))
def test_a_header_whose_checksum_is_right_is_checked_all_the_same(value: Any, size: int) -> None:
    header = dumped(value).encode()
    data = struct.pack("<8sII", b"ARGUSST1", len(header), zlib.crc32(header)) + header
    data += bytes(-len(data) % 64) + ENTRY[-2048:]
    for file_bytes in (len(data), size):
        try:
            decode_header(memoryview(data)[:HEAD_BYTES], file_bytes)
        except CorruptStateError:
            continue
    try:
        decode(memoryview(data))
    except CorruptStateError:
        return


@UNHURRIED
@given(st.text(max_size=80) | text_near(str(RECORD.info.key)))
def test_the_key_of_an_entry_is_one_or_is_refused(text: str) -> None:
    try:
        key = EntryKey.parse(text)
    except ArgusError:
        return
    assert EntryKey.parse(str(key)) == key


# -- the saved index -----------------------------------------------------------------------------

EMBEDDER = EmbedderId("test@1", 16)
MANIFEST = {
    "format": 1,
    "embedder": {"name": "test@1", "dimension": 16},
    "dtype": "f16",
    "partitions": {
        PARTITION.digest: {
            "partition": PARTITION.to_json(),
            "generation": 3,
            "graph_crc32": 0,
            "entries_crc32": 0,
        }
    },
}


@UNHURRIED
@given(
    json_near(MANIFEST).map(lambda value: dumped(value).encode())
    | bytes_near(dumped(MANIFEST).encode())
)
@example(DEEP.encode())
def test_a_saved_index_is_loaded_begun_anew_or_refused(data: bytes) -> None:
    file = written(data, "index.json")
    try:
        folder = IndexFolder(file.parent, EMBEDDER, "f16")
    except ArgusError:
        return
    try:
        folder.load()
    finally:
        folder.close()
