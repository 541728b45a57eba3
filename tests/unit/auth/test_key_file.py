"""The file of keys: what is written is read; what is wrong is named without its value."""

from __future__ import annotations

import json
import multiprocessing
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argus.auth.key_file import changing_keys, format_keys, parse_keys, read_keys
from argus.auth.keys import KeyRecord, KeyRing, Role, new_key
from argus.auth.watched import LOOK_AGAIN_S, WatchedFile
from argus.errors import ConfigError

TIMES = st.floats(0, 1e11)
RECORDS = st.builds(
    KeyRecord,
    key_id=st.text("0123456789abcdef", min_size=12, max_size=12),
    sha256=st.text("0123456789abcdef", min_size=64, max_size=64),
    roles=st.just(frozenset({Role.CLIENT, Role.NODE})),
    tenant=st.sampled_from(["*", "acme", "a.b_c-9"]),
    node=st.sampled_from(["", "n1"]),
    created_unix_s=TIMES,
    expires_unix_s=st.none() | TIMES,
    revoked_unix_s=st.none() | TIMES,
    note=st.text(max_size=50),
)


@given(st.lists(RECORDS, max_size=5, unique_by=lambda r: r.key_id))
def test_what_is_written_is_read(records: list[KeyRecord]) -> None:
    assert parse_keys(format_keys(KeyRing(records)), "keys").records == tuple(records)


GOOD = json.loads(format_keys(KeyRing([new_key([Role.CLIENT], 5.0, tenant="acme").record])))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "XYZ"),
        ("id", 3),
        ("sha256", "secret"),
        ("roles", []),
        ("roles", ["king"]),
        ("roles", "client"),
        ("roles", [["client"]]),
        ("tenant", ""),
        ("tenant", "a b"),
        ("tenant", None),
        ("node", "n1"),
        ("node", "a/b"),
        ("created_unix_s", None),
        ("created_unix_s", "now"),
        ("expires_unix_s", -1),
        ("expires_unix_s", float("nan")),
        ("revoked_unix_s", True),
        ("note", "x" * 201),
    ],
)
def test_a_wrong_field_is_named_with_its_line(field: str, value: Any) -> None:
    text = "\n" + json.dumps(GOOD | {field: value})
    with pytest.raises(ConfigError, match=rf"^keys: line 2: {field}: ") as caught:
        parse_keys(text, "keys")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("line", ["{", "[]", "3", "{}", json.dumps(GOOD | {"more": 1}), "[" * 9999])
def test_a_line_that_is_no_key_is_refused(line: str) -> None:
    with pytest.raises(ConfigError, match="keys: line 1"):
        parse_keys(line, "keys")


def test_one_id_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="line 2: id"):
        parse_keys(2 * (json.dumps(GOOD) + "\n"), "keys")


def test_only_the_owner_may_read_the_file_and_an_error_leaves_it_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    assert read_keys(path).records == ()
    with changing_keys(path) as records:
        records.append(new_key([Role.OPERATOR], 5.0).record)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()
    with pytest.raises(KeyError), changing_keys(path) as records:
        records.remove({}["nothing"])
    assert path.read_text() == before
    with (
        pytest.raises(ConfigError, match="cannot be written"),
        changing_keys(tmp_path / "no" / "k"),
    ):
        pass


def add_keys(path: Path, count: int) -> None:
    for _ in range(count):
        with changing_keys(path) as records:
            records.append(new_key([Role.NODE], 5.0).record)


def test_two_processes_lose_none_of_each_others_keys(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=add_keys, args=(path, 20)) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(read_keys(path).records) == 40


def test_a_file_is_read_again_when_it_changes_and_a_broken_one_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "keys"
    made = new_key([Role.NODE], 5.0)
    with changing_keys(path) as records:
        records.append(made.record)
    watched = WatchedFile(path, parse_keys, "auth.keys", 0.0)
    with changing_keys(path) as records:
        records[0] = replace(records[0], revoked_unix_s=6.0)
    assert watched.current(0.5 * LOOK_AGAIN_S).records == (made.record,)
    assert watched.current(LOOK_AGAIN_S).records[0].revoked_unix_s == 6.0
    path.write_text("{")
    assert watched.current(2 * LOOK_AGAIN_S).records[0].revoked_unix_s == 6.0
    path.unlink()
    assert watched.current(3 * LOOK_AGAIN_S).records[0].revoked_unix_s == 6.0
    assert [r.levelname for r in caplog.records if r.levelname != "INFO"] == ["ERROR", "ERROR"]
    assert "auth.keys" in caplog.text
    with changing_keys(path) as records:
        records.append(made.record)
    assert watched.current(4 * LOOK_AGAIN_S).records == (made.record,)


def test_a_file_must_make_sense_from_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"auth\.keys: cannot read"):
        WatchedFile(tmp_path / "none", parse_keys, "auth.keys", 0.0)
