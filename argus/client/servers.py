"""The coordinators that a client may ask, of which one leads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from argus.errors import ArgusError, ConfigError, InvalidArgumentError, UnavailableError
from argus.rpc.address import parse_addresses
from argus.rpc.dial import Dialling
from argus.v1 import admin_pb2_grpc, image_pb2_grpc

C = TypeVar("C")


@dataclass(frozen=True, slots=True, eq=False)
class Server(Generic[C]):
    """One coordinator: its address, the channel to it, and its services."""

    address: str
    channel: C
    images: Any
    admin: Any


class Servers(Generic[C]):
    """Coordinators in the order they were named; one is asked until it is not available.

    May be used from several threads: at worst a call goes to one that leads no more.

    Args:
        text: `HOST:PORT`, or several separated by commas.
        dialling: what goes along with calls to them.
        open_channel: returns a channel to an address that connects at the first call.

    Raises:
        InvalidArgumentError: one is there twice, or the key would cross a network without TLS.
    """

    def __init__(self, text: str, dialling: Dialling, open_channel: Callable[[str], C]) -> None:
        addresses = _addresses(text)
        for address in addresses:
            dialling.check(address)
        self._servers: list[Server[C]] = []
        for address in addresses:
            channel: Any = open_channel(address)
            images = image_pb2_grpc.ImageServiceStub(channel)  # type: ignore[no-untyped-call]
            admin = admin_pb2_grpc.AdminServiceStub(channel)  # type: ignore[no-untyped-call]
            self._servers.append(Server(address, channel, images, admin))
        self._place = 0

    def __len__(self) -> int:
        return len(self._servers)

    @property
    def current(self) -> Server[C]:
        """The one to ask now."""
        return self._servers[self._place]

    @property
    def channels(self) -> list[C]:
        """Those to all of them."""
        return [server.channel for server in self._servers]

    def failed(self, server: Server[C], error: ArgusError) -> None:
        """Note how a call ended: the next in turn is asked after one that is not available."""
        if isinstance(error, UnavailableError) and server is self.current:
            self._place = (self._place + 1) % len(self._servers)


def _addresses(text: str) -> tuple[str, ...]:
    """Return the addresses; a single one is left for gRPC to understand, whatever its form."""
    if "," not in text:
        return (text,)
    try:
        return parse_addresses(text, "server")
    except ConfigError as error:
        raise InvalidArgumentError("server", str(error).removeprefix("server: ")) from error
