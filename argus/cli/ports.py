"""A port that is taken is told before anything starts, with who holds it."""

from __future__ import annotations

import errno
import os

from argus.errors import ConfigError
from argus.rpc.address import parse_address
from argus.types import OFF


def check_free(setting: str, address: str) -> None:
    """Raise where somebody else listens on an address; whatever else is wrong is found later.

    Args:
        setting: that holds it.
        address: HOST:PORT; empty or off: there is nothing to check.

    Raises:
        ConfigError: names the setting and, where the system tells, who it is.
    """
    if address in ("", OFF):
        return
    from argus.doctor.ports import bind_error, holder_of

    host, port = parse_address(address, setting)
    error = bind_error(host, port) if port else None
    if error is None or error.errno != errno.EADDRINUSE:
        return
    holder = holder_of(port)
    by = "" if holder is None else f" by {holder.name} (process {holder.pid})"
    raise ConfigError(
        f"{setting}: cannot listen on {address}: {os.strerror(errno.EADDRINUSE).lower()}{by}; end "
        "that, or name another port"
    )
