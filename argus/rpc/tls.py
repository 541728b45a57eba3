"""TLS from PEM files: what a server shows, whom a client trusts."""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import grpc

from argus.errors import ConfigError

log = logging.getLogger(__name__)

CERTIFICATE, KEY, CLIENT_CA = "tls.certificate", "tls.key", "tls.client_ca"
Stamp = tuple[int, int, int]
CA, CLIENT_CERTIFICATE, CLIENT_KEY = "tls.ca", "tls.client_certificate", "tls.client_key"


@dataclass(frozen=True, slots=True)
class Tls:
    """How a client meets a server's TLS; files are PEM.

    Attributes:
        ca: certificates that are trusted; None: the public ones that gRPC carries.
        certificate: shown to a server that asks for one, its chain included; None: none.
        key: of that certificate.
        server_name: name that the server's certificate must bear, where it is dialled by another.
    """

    ca: Path | str | None = None
    certificate: Path | str | None = None
    key: Path | str | None = None
    server_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files and return what a channel needs.

        Raises:
            ConfigError: names the setting whose file cannot be used.
        """
        if (self.certificate is None) != (self.key is None):
            raise ConfigError(f"{CLIENT_CERTIFICATE} and {CLIENT_KEY}: one needs the other")
        root = None if self.ca is None else _read_ca(Path(self.ca), CA)
        if self.certificate is None or self.key is None:
            return grpc.ssl_channel_credentials(root)
        names = (CLIENT_CERTIFICATE, CLIENT_KEY)
        pair = _read_pair(Path(self.certificate), Path(self.key), names)
        return grpc.ssl_channel_credentials(root, pair.key, pair.certificate)


@dataclass(frozen=True, slots=True)
class _Pair:
    key: bytes
    certificate: bytes


@dataclass(frozen=True, slots=True)
class KeyPair:
    """The files of a server's certificate, its chain included, and of its key; PEM."""

    certificate: Path
    key: Path

    def stamps(self) -> tuple[Stamp | None, Stamp | None]:
        """Return what changes with the files."""
        return _stamp(self.certificate), _stamp(self.key)

    def check(self) -> None:
        """Raise ConfigError where they cannot be used, or do not fit together."""
        _read_pair(self.certificate, self.key, (CERTIFICATE, KEY))


class ServerCertificates:
    """A server's certificate, read again when its files change: connections made later get the new.

    Files that do not fit together, as while only one of two is replaced, are logged and left
    alone until they change again.

    Args:
        certificate: PEM, its chain included.
        key: of that certificate.
        client_ca: whose certificates clients must show; None: none is asked for.

    Raises:
        ConfigError: names the setting whose file cannot be used.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        self._certificate = certificate
        self._key = key
        self._client_ca = client_ca
        self._lock = threading.Lock()
        self._stamps = self._stamps_now()
        self._initial = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a server's port needs."""
        # The published stubs forget that the fetcher may return None, for no change.
        fetch = cast(Callable[[], grpc.ServerCertificateConfiguration], self._if_changed)
        return grpc.dynamic_ssl_server_credentials(
            self._initial, fetch, self._client_ca is not None
        )

    def _if_changed(self) -> grpc.ServerCertificateConfiguration | None:
        """Return a new certificate, or None; gRPC calls this in its threads for each handshake."""
        with self._lock:
            stamps = self._stamps_now()
            if stamps == self._stamps:
                return None
            try:
                fresh = self._read()
            except ConfigError as error:
                log.error("%s; the certificate before is still shown", error)
                fresh = None
            else:
                log.info("%s: %s was read again", CERTIFICATE, self._certificate)
            self._stamps = stamps
            return fresh

    def _read(self) -> grpc.ServerCertificateConfiguration:
        pair = _read_pair(self._certificate, self._key, (CERTIFICATE, KEY))
        root = None if self._client_ca is None else _read_ca(self._client_ca, CLIENT_CA)
        return grpc.ssl_server_certificate_configuration([(pair.key, pair.certificate)], root)

    def _stamps_now(self) -> tuple[Stamp | None, ...]:
        files = (self._certificate, self._key, self._client_ca)
        return tuple(None if file is None else _stamp(file) for file in files)


def _stamp(file: Path) -> Stamp | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _read(file: Path, setting: str) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise ConfigError(f"{setting}: cannot read {file}: {error.strerror or error}") from error


def _read_ca(file: Path, setting: str) -> bytes:
    data = _read(file, setting)
    # gRPC takes anything, and fails at every handshake afterwards.
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii"))
    except (ssl.SSLError, ValueError) as error:
        raise ConfigError(f"{setting}: {file} holds no certificates in PEM") from error
    return data


def _read_pair(certificate: Path, key: Path, settings: tuple[str, str]) -> _Pair:
    pair = _Pair(_read(key, settings[1]), _read(certificate, settings[0]))
    try:
        # An empty password, since OpenSSL would ask for one on the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        raise ConfigError(
            f"{settings[0]} and {settings[1]}: {certificate} and {key} are not a certificate and "
            "its key in PEM, without a password"
        ) from error
    return pair
