"""The file of keys: one JSON object a line, written by `argus keys`, read by the coordinator."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from argus.auth.keys import ANY_TENANT, KeyRecord, KeyRing, Role
from argus.errors import ConfigError

KEY_ID = re.compile(r"[0-9a-f]{12}")
SHA256 = re.compile(r"[0-9a-f]{64}")
TENANT = re.compile(r"[A-Za-z0-9._-]{1,64}")
NODE = re.compile(r"[A-Za-z0-9._-]{1,63}")
MAX_NOTE_CHARS = 200
OWNER_ONLY = 0o600
_NAMES = (
    *("id", "sha256", "roles", "tenant", "node"),
    *("created_unix_s", "expires_unix_s", "revoked_unix_s", "note"),
)


def parse_keys(text: str, source: str) -> KeyRing:
    """Return the keys in a file's content.

    Args:
        text: the content.
        source: what to call the file in messages.

    Raises:
        ConfigError: names the line and the field that is wrong, never the field's value.
    """
    records: dict[str, KeyRecord] = {}
    # Not splitlines: a note may hold characters that it takes for the end of a line.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        where = f"{source}: line {number}"
        record = _record(line, where)
        if record.key_id in records:
            raise ConfigError(f"{where}: id: {record.key_id} is there twice")
        records[record.key_id] = record
    return KeyRing(records.values())


def _record(line: str, where: str) -> KeyRecord:
    try:
        data = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not JSON") from error
    if not isinstance(data, dict) or set(data) != set(_NAMES):
        raise ConfigError(f"{where}: an object with the fields {', '.join(_NAMES)} is needed")
    record = KeyRecord(
        key_id=_text(data, "id", where, KEY_ID.fullmatch),
        sha256=_text(data, "sha256", where, SHA256.fullmatch),
        roles=_roles(data["roles"], where),
        tenant=_text(data, "tenant", where, lambda t: t in ("", ANY_TENANT) or TENANT.fullmatch(t)),
        node=_text(data, "node", where, lambda n: not n or NODE.fullmatch(n)),
        created_unix_s=_time(data, "created_unix_s", where),
        expires_unix_s=_time_or_none(data, "expires_unix_s", where),
        revoked_unix_s=_time_or_none(data, "revoked_unix_s", where),
        note=_text(data, "note", where, lambda n: len(n) <= MAX_NOTE_CHARS),
    )
    fault = purpose_fault(record.roles, record.tenant, record.node)
    if fault:
        raise ConfigError(f"{where}: {fault}")
    return record


def purpose_fault(roles: frozenset[Role], tenant: str, node: str) -> str:
    """Return what is wrong with the purpose of a key, the field first, or nothing."""
    if not roles:
        return "roles: at least one is needed"
    if (Role.CLIENT in roles) != bool(tenant):
        return "tenant: is needed with the role client, and with no other"
    if node and Role.NODE not in roles:
        return "node: goes with the role node only"
    return ""


def _text(data: dict[str, Any], name: str, where: str, fits: Callable[[str], object]) -> str:
    value = data[name]
    if not isinstance(value, str) or not fits(value):
        raise ConfigError(f"{where}: {name}: not allowed")
    return value


def _roles(value: Any, where: str) -> frozenset[Role]:
    known = {role.value: role for role in Role}
    if not isinstance(value, list) or not all(isinstance(v, str) and v in known for v in value):
        raise ConfigError(f"{where}: roles: a list of {', '.join(known)} is needed")
    return frozenset(known[name] for name in value)


def _time(data: dict[str, Any], name: str, where: str) -> float:
    value = data[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        raise ConfigError(f"{where}: {name}: seconds since 1970 are needed")
    return float(value)


def _time_or_none(data: dict[str, Any], name: str, where: str) -> float | None:
    return None if data[name] is None else _time(data, name, where)


def format_keys(ring: KeyRing) -> str:
    """Return the content of a file that holds these keys."""
    return "".join(_line(record) for record in ring.records)


def _line(record: KeyRecord) -> str:
    fields = {
        "id": record.key_id,
        "sha256": record.sha256,
        "roles": [role.value for role in Role if role in record.roles],
        "tenant": record.tenant,
        "node": record.node,
        "created_unix_s": record.created_unix_s,
        "expires_unix_s": record.expires_unix_s,
        "revoked_unix_s": record.revoked_unix_s,
        "note": record.note,
    }
    return json.dumps(fields) + "\n"


def read_keys(path: Path) -> KeyRing:
    """Return the keys of a file; none where there is no file.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        return parse_keys(path.read_text(encoding="utf-8"), str(path))
    except FileNotFoundError:
        return KeyRing()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error


@contextlib.contextmanager
def changing_keys(path: Path) -> Iterator[list[KeyRecord]]:
    """Lend the keys of a file to be changed; afterwards they take the old ones' place at once.

    Two who change the file at a time wait for each other. Only its owner may read it.

    Raises:
        ConfigError: it cannot be read or written.
    """
    try:
        with _locked(path):
            records = list(read_keys(path).records)
            yield records
            _replace(path, format_keys(KeyRing(records)))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    # A lock on the file itself would be a lock on what is about to be replaced.
    lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, OWNER_ONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, text: str) -> None:
    fresh = path.with_name(path.name + ".new")
    file = os.open(fresh, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, OWNER_ONLY)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    fresh.replace(path)
