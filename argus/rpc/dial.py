"""How a process that dials the coordinator shows who it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from argus.config import AuthConfig, TlsConfig
from argus.errors import ConfigError, InvalidArgumentError
from argus.rpc.address import is_loopback, parse_address
from argus.rpc.tls import Tls

AUTHORIZATION = "authorization"
BEARER = "bearer"
SYSTEM = "system"
MAX_KEY_CHARS = 4096

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Dialling:
    """What goes along when a coordinator is dialled.

    Attributes:
        tls: None: there is none.
        api_key: empty: none is shown.
        insecure: whether the key may cross a network without TLS.
    """

    tls: Tls | None = None
    api_key: str = field(default="", repr=False)
    insecure: bool = False

    @property
    def metadata(self) -> Metadata:
        """What every call carries."""
        return ((AUTHORIZATION, f"Bearer {self.api_key}"),) if self.api_key else ()

    def check(self, server: str) -> None:
        """Raise where the key cannot be sent, or would cross a network for all to read.

        Raises:
            InvalidArgumentError: names api_key.
        """
        if not self.api_key:
            return
        if not (self.api_key.isascii() and self.api_key.isprintable()) or " " in self.api_key:
            raise InvalidArgumentError("api_key", "must be of visible ASCII characters")
        if len(self.api_key) > MAX_KEY_CHARS:
            raise InvalidArgumentError("api_key", f"must have at most {MAX_KEY_CHARS} characters")
        if self.tls is None and not self.insecure and not _is_near(server):
            raise InvalidArgumentError(
                "api_key",
                f"would cross the network to {server} for all to read; use TLS, or say that it may "
                "with insecure",
            )


def dialling(tls: TlsConfig, auth: AuthConfig) -> Dialling:
    """Return what the settings say of dialling.

    Raises:
        ConfigError: names the setting whose file cannot be read.
    """
    return Dialling(_tls(tls), _key(auth), tls.insecure)


def _tls(config: TlsConfig) -> Tls | None:
    if not config.ca:
        for name in ("client_certificate", "client_key", "server_name"):
            if getattr(config, name):
                raise ConfigError(f"tls.{name}: needs tls.ca, which may be {SYSTEM!r}")
        return None
    return Tls(
        None if config.ca == SYSTEM else config.ca,
        config.client_certificate or None,
        config.client_key or None,
        config.server_name,
    )


def _key(config: AuthConfig) -> str:
    if not config.api_key_file:
        return config.api_key
    if config.api_key:
        raise ConfigError("auth.api_key and auth.api_key_file: one of them, not both")
    file = config.api_key_file
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(
            f"auth.api_key_file: cannot read {file}: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"auth.api_key_file: {file} is not in UTF-8") from error


def _is_near(server: str) -> bool:
    try:
        return is_loopback(parse_address(server, "server")[0])
    except ConfigError:
        return False
