"""A coordinator that asks for keys and certificates, with files of both in a folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import trustme

from argus.auth.key_file import changing_keys
from argus.auth.keys import Role, new_key
from argus.clock import MonotonicClock
from argus.config import AuthConfig, Config, CoordinatorConfig, LogConfig, TlsConfig
from argus.coordinator.security import open_security
from argus.coordinator.service import Coordinator

NOW_S = time.time()


@dataclass
class Keys:
    """A file of keys, and the keys themselves by name."""

    path: Path
    text: dict[str, str] = field(default_factory=dict)

    def make(
        self,
        name: str,
        *roles: Role,
        tenant: str = "",
        node: str = "",
        ended: str = "",
    ) -> str:
        """Make a key; `ended` is expired, revoked or nothing."""
        made = new_key(roles, NOW_S, tenant, node, NOW_S - 1 if ended == "expired" else None)
        with changing_keys(self.path) as records:
            revoked_s = NOW_S if ended == "revoked" else None
            records.append(replace(made.record, revoked_unix_s=revoked_s))
        self.text[name] = made.text
        return made.text

    def revoke(self, name: str) -> None:
        key_id = self.text[name].split("_")[1]
        with changing_keys(self.path) as records:
            at = [record.key_id for record in records].index(key_id)
            records[at] = replace(records[at], revoked_unix_s=NOW_S)


def bearer(key: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {key}"),)


@dataclass(frozen=True)
class Authority:
    """A certificate authority whose files lie in a folder."""

    folder: Path
    ca: trustme.CA = field(default_factory=trustme.CA)

    def __post_init__(self) -> None:
        self.ca.cert_pem.write_to_path(self.file("ca"))

    def file(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def issue(self, name: str, *hosts: str, organization: str = "argus") -> None:
        """Write NAME.pem and NAME-key.pem, replacing files of those names at once."""
        made = self.ca.issue_cert(*hosts, organization_name=organization)
        chain = b"".join(part.bytes() for part in made.cert_chain_pems)
        for part, data in ((name, chain), (f"{name}-key", made.private_key_pem.bytes())):
            fresh = self.folder / f"{part}.new"
            fresh.write_bytes(data)
            fresh.replace(self.file(part))


@contextlib.asynccontextmanager
async def secured(
    auth: AuthConfig | None = None,
    tls: TlsConfig | None = None,
    prompts: bool = False,
    **settings: object,
) -> AsyncIterator[str]:
    """Run a coordinator of these settings; returns its address."""
    defaults = {"bind": "127.0.0.1:0", "drain_grace_s": 0.2, "lease_s": 2.0}
    config = Config(
        coordinator=CoordinatorConfig(**(defaults | settings)),  # type: ignore[arg-type]
        auth=auth or AuthConfig(),
        tls=tls or TlsConfig(),
        log=LogConfig(prompts=prompts),
    )
    clock = MonotonicClock()
    coordinator = Coordinator(config.coordinator, clock, security=open_security(config, clock))
    address = await coordinator.start()
    try:
        yield address
    finally:
        await coordinator.stop()
