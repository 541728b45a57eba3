"""What keeps others out of a coordinator: its certificate, its keys, its tenants' terms."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from argus.auth.key_file import parse_keys
from argus.auth.keys import KeyRing
from argus.auth.watched import WatchedFile
from argus.clock import Clock
from argus.config import Config
from argus.control.tenants import Tenants, parse_tenants
from argus.errors import ConfigError
from argus.rpc.address import is_loopback, parse_address
from argus.rpc.tls import ServerCertificates


@dataclass(frozen=True, slots=True)
class Security:
    """The parts; those that are None are not asked for.

    Attributes:
        certificates: for TLS.
        keys: that callers must show one of.
        tenants: shares and limits.
        log_prompts: whether prompts may be logged.
    """

    certificates: ServerCertificates | None = None
    keys: WatchedFile[KeyRing] | None = None
    tenants: WatchedFile[Tenants] | None = None
    log_prompts: bool = False

    def terms_now(self, now_s: float) -> Tenants:
        """Return the tenants' terms."""
        return Tenants() if self.tenants is None else self.tenants.current(now_s)


def open_security(config: Config, clock: Clock) -> Security:
    """Return what the settings ask for.

    Raises:
        ConfigError: a file cannot be used, or the coordinator would be open to other machines.
    """
    tls, auth, now_s = config.tls, config.auth, clock.now()
    check_exposure(config)
    certificates = None
    if tls.certificate:
        client_ca = Path(tls.client_ca) if tls.client_ca else None
        certificates = ServerCertificates(Path(tls.certificate), Path(tls.key), client_ca)
    keys = WatchedFile(Path(auth.keys), parse_keys, "auth.keys", now_s) if auth.keys else None
    tenants = None
    if auth.tenants:
        tenants = WatchedFile(Path(auth.tenants), parse_tenants, "auth.tenants", now_s)
    return Security(certificates, keys, tenants, config.log.prompts)


def check_exposure(config: Config) -> None:
    """Raise where other machines could reach the coordinator unasked or unencrypted.

    Raises:
        ConfigError: names coordinator.bind and what is missing.
    """
    bind = config.coordinator.bind
    host, _ = parse_address(bind, "coordinator.bind")
    if config.coordinator.insecure or is_loopback(host):
        return
    missing = []
    if not config.tls.certificate:
        missing.append("TLS (tls.certificate and tls.key)")
    if not config.auth.keys and not config.tls.client_ca:
        missing.append("keys (auth.keys) or certificates (tls.client_ca) of those who dial it")
    if missing:
        raise ConfigError(
            f"coordinator.bind: other machines can reach {bind}, so it needs "
            f"{' and '.join(missing)}; where all of them are trusted: coordinator.insecure = true"
        )
