"""Channels, and the limits and keepalive that both ends must agree on."""

from __future__ import annotations

import grpc

from argus.rpc.tls import Tls

MAX_MESSAGE_BYTES = 64 * 2**20
KEEPALIVE_S = 20.0
KEEPALIVE_TIMEOUT_S = 10.0
WATCHFUL_S = 5.0
"""Between pings to a coordinator that another one stands by for: one that hangs is soon left."""
WATCHFUL_TIMEOUT_S = 5.0
SHORTEST_PING_S = 2.0
"""Between pings of one connection, without which it is closed."""
FIRST_RECONNECT_S = 0.1
LONGEST_RECONNECT_S = 2.0

Options = list[tuple[str, int | str]]


def channel_options(
    keepalive_s: float = KEEPALIVE_S, timeout_s: float = KEEPALIVE_TIMEOUT_S
) -> Options:
    """Return the options of a channel that pings every `keepalive_s` seconds, idle or not.

    Without an answer within `timeout_s` the connection counts as broken.

    gRPC's own retries are off: the SDK retries, with the same request id and within the deadline.
    Proxies of the environment are not used: Argus peers are dialled directly.
    """
    return [
        *shared_options(keepalive_s, timeout_s),
        ("grpc.enable_retries", 0),
        ("grpc.enable_http_proxy", 0),
        ("grpc.initial_reconnect_backoff_ms", _ms(FIRST_RECONNECT_S)),
        ("grpc.min_reconnect_backoff_ms", _ms(LONGEST_RECONNECT_S)),
        ("grpc.max_reconnect_backoff_ms", _ms(LONGEST_RECONNECT_S)),
    ]


def server_options(keepalive_s: float = KEEPALIVE_S) -> Options:
    """Return the options of a server whose clients ping every `keepalive_s` seconds.

    By default gRPC closes a connection that pings without data more than once in five minutes.
    A port in use is an error here, not shared between processes.
    """
    return [
        *shared_options(keepalive_s),
        (
            "grpc.http2.min_ping_interval_without_data_ms",
            _ms(min(keepalive_s / 2, SHORTEST_PING_S)),
        ),
        ("grpc.so_reuseport", 0),
    ]


def shared_options(keepalive_s: float, timeout_s: float = KEEPALIVE_TIMEOUT_S) -> Options:
    """Return the options that channels and servers have in common."""
    return [
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", _ms(keepalive_s)),
        ("grpc.keepalive_timeout_ms", _ms(timeout_s)),
        # Without this a ping may go a minute without an answer, whatever the line before says.
        ("grpc.http2.ping_timeout_ms", _ms(timeout_s)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
    ]


def open_channel(
    address: str, tls: Tls | None = None, *, watchful: bool = False
) -> grpc.aio.Channel:
    """Return an asyncio channel to `HOST:PORT`; it connects at the first call.

    Args:
        address: of the server.
        tls: how to meet its TLS; None: it speaks none.
        watchful: whether a server that hangs is to be noticed within seconds.

    Raises:
        ConfigError: a file of `tls` cannot be used.
    """
    options = _options(tls, watchful)
    if tls is None:
        return grpc.aio.insecure_channel(address, options=options)
    return grpc.aio.secure_channel(address, tls.credentials(), options=options)


def open_blocking_channel(
    address: str, tls: Tls | None = None, *, watchful: bool = False
) -> grpc.Channel:
    """Return a channel to `HOST:PORT` for threads; see `open_channel`.

    Raises:
        ConfigError: a file of `tls` cannot be used.
    """
    options = _options(tls, watchful)
    if tls is None:
        return grpc.insecure_channel(address, options=options)
    return grpc.secure_channel(address, tls.credentials(), options=options)


def _options(tls: Tls | None, watchful: bool) -> Options:
    options = channel_options()
    if watchful:
        options = channel_options(WATCHFUL_S, WATCHFUL_TIMEOUT_S)
    if tls is not None and tls.server_name:
        options.append(("grpc.ssl_target_name_override", tls.server_name))
    return options


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
