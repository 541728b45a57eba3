"""API keys: how they look, how they are stored, and whom they stand for. No I/O.

A key is `argus_ID_SECRET`: 12 hexadecimal digits that name it in lists and logs, and 64 that
nobody can guess. Stored is the SHA-256 of the whole key. Salts and slow hashes (scrypt, Argon2)
protect what people think up, where whoever holds the file can try likely passwords; of 2^256
equally likely secrets none is worth trying first, and a hash that takes 50 ms on purpose would let
anybody stop the coordinator with twenty wrong keys a second.
"""

from __future__ import annotations

import enum
import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from argus.errors import PermissionDeniedError, UnauthenticatedError

KEY = re.compile(r"argus_([0-9a-f]{12})_[0-9a-f]{64}")
ANY_TENANT = "*"
"""Tenant of a key whose holder says for whom it asks, as the HTTP gateway does."""
_NOBODY = hashlib.sha256(b"").hexdigest()
NO_KEY = "this server wants an API key"
WRONG_KEY = "the API key is not known here"


class Role(enum.Enum):
    """What a key is for; one key may have several."""

    CLIENT = "client"
    """Asks for images."""
    NODE = "node"
    """Joins as a node."""
    OPERATOR = "operator"
    """Sees and changes the cluster."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a call comes from.

    Attributes:
        key_id: names the key; empty where none was needed.
        roles: what it may do.
        tenant: for whom it asks; `ANY_TENANT`: for whomever it names.
        node: the only node it may join as; empty: any.
    """

    key_id: str
    roles: frozenset[Role]
    tenant: str = ""
    node: str = ""

    def may(self, roles: Iterable[Role]) -> bool:
        """Return whether one of `roles` is among its own."""
        return not self.roles.isdisjoint(roles)

    def tenant_of(self, named: str) -> str:
        """Return the tenant that a request which names `named` is for.

        Raises:
            PermissionDeniedError: the key stands for another one.
        """
        if self.tenant == ANY_TENANT or named == self.tenant:
            return named
        if named:
            raise PermissionDeniedError(
                f"tenant: this key is that of another tenant than {named!r}; leave the field empty"
            )
        return self.tenant

    def check_node(self, name: str) -> None:
        """Raise PermissionDeniedError where it may not join as the node of that name."""
        if self.node and name != self.node:
            raise PermissionDeniedError(f"node: this key is that of node {self.node!r}")


ANYBODY = Identity("", frozenset(Role), ANY_TENANT)
"""Everyone, where no keys are asked for."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """What is stored of a key. Times are seconds since 1970.

    Attributes:
        key_id: names it.
        sha256: of the whole key, hexadecimal.
        roles: at least one.
        tenant: with the role client.
        node: with the role node: the only name it joins by; empty: any.
        created_unix_s: when it was made.
        expires_unix_s: from when on it is refused; None: never.
        revoked_unix_s: when it was revoked; None: it was not.
        note: for people.
    """

    key_id: str
    sha256: str
    roles: frozenset[Role]
    tenant: str
    node: str
    created_unix_s: float
    expires_unix_s: float | None = None
    revoked_unix_s: float | None = None
    note: str = ""

    @property
    def identity(self) -> Identity:
        """Whom it stands for."""
        return Identity(self.key_id, self.roles, self.tenant, self.node)

    def fault(self, now_unix_s: float) -> str:
        """Return why it is refused, or nothing."""
        if self.revoked_unix_s is not None:
            return f"API key {self.key_id} was revoked"
        if self.expires_unix_s is not None and now_unix_s >= self.expires_unix_s:
            return f"API key {self.key_id} has expired"
        return ""


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key just made: `text` is shown once and stored nowhere."""

    text: str
    record: KeyRecord


def new_key(
    roles: Iterable[Role],
    now_unix_s: float,
    tenant: str = "",
    node: str = "",
    expires_unix_s: float | None = None,
    note: str = "",
) -> NewKey:
    """Return a key that nobody else has; see KeyRecord for the arguments."""
    key_id = secrets.token_hex(6)
    text = f"argus_{key_id}_{secrets.token_hex(32)}"
    record = KeyRecord(
        key_id, digest(text), frozenset(roles), tenant, node, now_unix_s, expires_unix_s, None, note
    )
    return NewKey(text, record)


def digest(key: str) -> str:
    """Return what is stored of a key."""
    return hashlib.sha256(key.encode()).hexdigest()


class KeyRing:
    """The keys that are known. Several may be valid for one tenant, so that they can be rotated."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self._records: Mapping[str, KeyRecord] = {record.key_id: record for record in records}

    @property
    def records(self) -> tuple[KeyRecord, ...]:
        """All of them, in their order."""
        return tuple(self._records.values())

    def check(self, key: str, now_unix_s: float) -> Identity:
        """Return whom a key stands for; takes the same time whatever is wrong with its secret.

        Raises:
            UnauthenticatedError: it is missing, malformed, unknown, expired or revoked. Only who
                holds the whole key is told of the last two.
        """
        if not key:
            raise UnauthenticatedError(NO_KEY)
        match = KEY.fullmatch(key)
        if match is None:
            raise UnauthenticatedError(WRONG_KEY)
        record = self._records.get(match[1])
        stored = _NOBODY if record is None else record.sha256
        if not hmac.compare_digest(digest(key), stored) or record is None:
            raise UnauthenticatedError(WRONG_KEY)
        fault = record.fault(now_unix_s)
        if fault:
            raise UnauthenticatedError(fault)
        return record.identity

    def still_holds(self, identity: Identity, now_unix_s: float) -> bool:
        """Return whether a call that was let in as `identity` would be let in now."""
        record = self._records.get(identity.key_id)
        return record is not None and record.identity == identity and not record.fault(now_unix_s)
